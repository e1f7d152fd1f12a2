//! Connections to the members of a cluster.

pub(crate) mod activity;
pub(crate) mod arrival;
pub(crate) mod connection;
pub(crate) mod dialer;
pub(crate) mod duplicates;
pub(crate) mod eviction;
pub(crate) mod liveness;
pub(crate) mod phase;
pub(crate) mod pool;
pub(crate) mod streams;
pub(crate) mod windows;
