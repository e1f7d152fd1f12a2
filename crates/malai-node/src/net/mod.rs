//! Sockets and bytes, and how to get from a public key to an address. Knows nothing of clusters.

pub(crate) mod connect;
pub(crate) mod crypto;
pub(crate) mod discovery;
pub mod endpoint;
pub mod framing;
pub(crate) mod relays;
