//! The live sessions of a daemon: its reply to `malai sessions`.
//!
//! Sent over the socket as JSON, like [`crate::status`]: unknown fields are skipped, missing ones have defaults.

use malai_cluster::MachineId;
use serde::{Deserialize, Serialize};

use crate::action::RecordedAction;
use crate::time::Timestamp;

/// The sessions of a daemon.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionsFacts {
    /// Sessions on this computer, oldest first.
    pub here: Vec<HereFacts>,
    /// Sessions of this computer's command lines on other machines.
    pub elsewhere: Vec<ElsewhereFacts>,
}

/// A command or shell on this computer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HereFacts {
    /// The common part.
    #[serde(flatten)]
    pub session: SessionFacts,
    /// Who asked for it: the key that the connection's handshake proved, or this machine's own.
    pub peer: MachineId,
    /// Its current name in the cluster, if it has one.
    #[serde(default)]
    pub machine: Option<String>,
    /// The user it runs as.
    #[serde(default)]
    pub user: String,
    /// The rule that allowed it.
    #[serde(default)]
    pub rule: String,
}

/// A command or shell of one of this computer's command lines, on another machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ElsewhereFacts {
    /// The common part.
    #[serde(flatten)]
    pub session: SessionFacts,
    /// The target.
    #[serde(default)]
    pub target: String,
}

/// What every session has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionFacts {
    /// Its number in this run of the daemon, as in the audit record.
    pub id: u64,
    /// The cluster's alias here.
    #[serde(default)]
    pub cluster: String,
    /// What was asked for.
    #[serde(flatten)]
    pub action: RecordedAction,
    /// When it started.
    pub since: Timestamp,
    /// Its age in seconds.
    #[serde(default)]
    pub seconds: u64,
    /// The current network path.
    #[serde(default)]
    pub path: Path,
    /// The peer's address, on a direct path.
    #[serde(default)]
    pub address: Option<String>,
    /// Bytes of standard input that it received.
    #[serde(default)]
    pub bytes_in: u64,
    /// Bytes of standard output that it sent.
    #[serde(default)]
    pub bytes_out: u64,
    /// Bytes of standard error that it sent.
    #[serde(default)]
    pub bytes_err: u64,
}

/// The network path between a command line and its command.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Path {
    /// None: both are on this computer.
    Here,
    /// Directly from computer to computer.
    Direct,
    /// Through a relay, encrypted end to end.
    Relayed,
    /// None at present, or one that this version does not know.
    #[default]
    #[serde(other)]
    Unknown,
}
