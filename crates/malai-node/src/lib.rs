//! malai's IO: the home and its files, the daemon, peers, sessions.

pub mod home;
pub mod init;
pub mod keystore;
pub mod lock;
pub mod membership;
pub mod settings;
pub mod status;
pub mod store;
pub mod verify;
