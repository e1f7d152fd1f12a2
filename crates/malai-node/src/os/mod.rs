//! Interfaces of the operating system. Knows nothing of malai.

pub(crate) mod clock;
pub(crate) mod fault;
pub mod fd;
pub(crate) mod fs;
pub mod listen;
pub(crate) mod malloc;
pub(crate) mod process_group;
pub(crate) mod pty;
pub(crate) mod rotated_log;
pub(crate) mod socket_user;
pub(crate) mod trust;
pub(crate) mod user;
