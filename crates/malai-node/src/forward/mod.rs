//! Connections that are passed on: a service's socket on this machine, and raw bytes both ways.

pub(crate) mod bridge;
pub(crate) mod http;
pub mod socket;
pub(crate) mod socks;
pub(crate) mod upstream;
pub(crate) mod wire;

pub use crate::os::listen;
