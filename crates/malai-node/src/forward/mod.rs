//! Connections that are passed on: a service's socket on this machine, and raw bytes both ways.

pub(crate) mod bridge;
pub mod listen;
pub mod socket;
pub(crate) mod upstream;
