//! Who is behind a connection to a service: the daemon's reply to `malai whois`.
//!
//! Sent over the socket as JSON, like [`crate::status`]: unknown fields are skipped, missing ones have defaults.

use malai_cluster::MachineId;
use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// The connections that a service sees come from an address. There can be one per service: the system lets connections
/// to different ports share an address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WhoisFacts {
    /// Oldest first.
    pub connections: Vec<ClientFacts>,
}

/// A connection to a service of this machine, and its client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientFacts {
    /// The client: the key that its connection's handshake proved, or this machine's own.
    pub id52: MachineId,
    /// Its current name in the cluster, if it has one.
    #[serde(default)]
    pub machine: Option<String>,
    /// The cluster's alias here.
    #[serde(default)]
    pub cluster: String,
    /// The service.
    #[serde(default)]
    pub service: String,
    /// Where that listens: the other end of the connection.
    #[serde(default)]
    pub to: String,
    /// The number of the session, as in the audit record.
    #[serde(default)]
    pub session: u64,
    /// When it started.
    pub since: Timestamp,
}
