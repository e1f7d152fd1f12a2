//! Read-only questions about a home, which need no daemon.

pub(crate) mod check;
pub(crate) mod check_users;
pub(crate) mod explain;
pub(crate) mod names;
pub(crate) mod status;
pub(crate) mod unpublished;
