//! Files for members: the sftp subsystem, and `malai cp`.

pub mod copy;
pub(crate) mod reports;
pub(crate) mod root;
pub mod sftp;
