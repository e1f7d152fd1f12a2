//! The state of one cluster, and who may do what in it.

pub(crate) mod authorize;
pub(crate) mod config;
pub(crate) mod encoded;
pub(crate) mod invited;
pub(crate) mod load;
pub(crate) mod pending;
pub(crate) mod standing;
pub(crate) mod state;
