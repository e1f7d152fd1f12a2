//! Sockets and bytes, and how a public key becomes an address. Knows nothing of clusters.

pub(crate) mod connect;
pub(crate) mod crypto;
pub(crate) mod discovery;
pub mod endpoint;
pub mod framing;
