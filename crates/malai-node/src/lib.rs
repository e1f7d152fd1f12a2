//! malai's IO: the home and its files, the daemon, peers, sessions.

pub mod home;
pub mod keystore;
pub mod lock;
pub mod membership;
pub mod store;
