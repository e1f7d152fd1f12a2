//! Connections that are passed on: a service's socket on this machine, and raw bytes both ways.

pub(crate) mod bridge;
pub mod socket;
pub(crate) mod socks;
pub(crate) mod upstream;

pub use crate::os::listen;
