//! What runs through a daemon at the moment, as `malai sessions` asks it.
//!
//! Crosses the socket as JSON, like [`crate::status`]: unknown fields are skipped, missing ones have defaults.

use malai_cluster::MachineId;
use serde::{Deserialize, Serialize};

use crate::action::RecordedAction;
use crate::time::Timestamp;

/// The sessions of a daemon.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionsFacts {
    /// What runs on this computer, the oldest first.
    pub here: Vec<HereFacts>,
    /// What this computer's command lines have running on others.
    pub elsewhere: Vec<ElsewhereFacts>,
}

/// A command or shell on this computer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HereFacts {
    /// What there is to say of any session.
    #[serde(flatten)]
    pub session: SessionFacts,
    /// Who asked for it: the key that the connection's handshake proved, or this machine's own.
    pub peer: MachineId,
    /// Its name in the cluster now, if it has one.
    #[serde(default)]
    pub machine: Option<String>,
    /// The user it runs as.
    #[serde(default)]
    pub user: String,
    /// The rule that allowed it.
    #[serde(default)]
    pub rule: String,
}

/// A command or shell of one of this computer's command lines, on another computer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ElsewhereFacts {
    /// What there is to say of any session.
    #[serde(flatten)]
    pub session: SessionFacts,
    /// The target.
    #[serde(default)]
    pub target: String,
}

/// Any session.
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
    /// When it began.
    pub since: Timestamp,
    /// How long ago that is, in seconds.
    #[serde(default)]
    pub seconds: u64,
    /// The way its bytes take now.
    #[serde(default)]
    pub path: Path,
    /// The peer's address, on a direct way.
    #[serde(default)]
    pub address: Option<String>,
    /// Bytes of standard input that it was given.
    #[serde(default)]
    pub bytes_in: u64,
    /// Bytes of standard output that came of it.
    #[serde(default)]
    pub bytes_out: u64,
    /// Bytes of standard error.
    #[serde(default)]
    pub bytes_err: u64,
}

/// The way between a command line and its command.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Path {
    /// None: both are on this computer.
    Here,
    /// From computer to computer.
    Direct,
    /// Through a relay, encrypted from end to end.
    Relayed,
    /// There is none at the moment, or one that this version has no word for.
    #[default]
    #[serde(other)]
    Unknown,
}
