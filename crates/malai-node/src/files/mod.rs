//! Files for members: the sftp subsystem.

pub(crate) mod reports;
pub(crate) mod root;
pub mod sftp;
