//! What a running daemon knows of itself and its peers, as `malai status` asks it.
//!
//! Crosses the socket as JSON, so that a command line and a daemon of different versions still understand
//! each other: an unknown field is skipped, and a missing one has a default.

use malai_cluster::MachineId;
use serde::{Deserialize, Serialize};

/// A daemon's account of itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DaemonFacts {
    /// Its malai's version, as `malai --version` has it.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// Tasks of its runtime at the moment: for whoever looks for a leak.
    pub tasks: usize,
    /// Its clusters, by alias.
    pub clusters: Vec<ClusterFacts>,
    /// What keeps the audit record from being written, in whole sentences.
    pub audit: Option<String>,
    /// What its owner should know of the daemon as a whole.
    pub notices: Vec<Notice>,
}

/// One cluster as the daemon serves it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClusterFacts {
    /// The local name.
    pub alias: String,
    /// The revision in force; `None` while there is none.
    pub revision: Option<u64>,
    /// The other machines, by name, as far as this computer has to do with them.
    pub machines: Vec<MachineFacts>,
    /// Who asks for this cluster's configuration and is not in it. On a manager only.
    pub waiting: Vec<WaitingFacts>,
    /// How long ago the manager proved that it is there, in seconds. On a machine only.
    pub manager_reachable_seconds_ago: Option<u64>,
    /// Whether this machine is a member, as far as the others let it see.
    pub membership: MembershipState,
    /// What its owner should know and do about that, in whole sentences; none of a member.
    pub membership_notice: Option<String>,
    /// What the owner should know of this cluster.
    pub notices: Vec<Notice>,
}

/// Something that the owner of a home should know.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Notice {
    /// What it is about.
    pub kind: NoticeKind,
    /// A whole sentence.
    pub text: String,
}

impl Notice {
    /// A notice of this kind.
    pub fn new(kind: NoticeKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
        }
    }
}

/// What a notice is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoticeKind {
    /// The files of the cluster cannot be used.
    Configuration,
    /// The manager has signed two configurations with one revision.
    Fork,
    /// A member has a newer revision than this manager.
    NewerRevision,
    /// Another daemon has the key of this identity.
    DuplicateIdentity,
    /// The audit record has a gap or cannot be written.
    Audit,
    /// Anything else, or a kind that this version does not know.
    #[default]
    #[serde(other)]
    Other,
}

/// One peer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MachineFacts {
    /// Its name in the cluster; a manager that is not listed as a machine has none.
    #[serde(default)]
    pub name: Option<String>,
    /// Its key.
    pub id: MachineId,
    /// The revision it was last known to have.
    #[serde(default)]
    pub revision: Option<u64>,
    /// How long ago it was last heard from, in seconds; `None` if it never was.
    #[serde(default)]
    pub heard_seconds_ago: Option<u64>,
    /// The way packets take to it now.
    #[serde(default)]
    pub path: Option<NetworkPath>,
    /// Round trip on that way, in milliseconds.
    #[serde(default)]
    pub rtt_ms: Option<f64>,
    /// How it is.
    #[serde(default)]
    pub state: MachineState,
    /// How long ago it was not reached, in seconds; `None` if it was heard from since.
    #[serde(default)]
    pub failed_seconds_ago: Option<u64>,
    /// Why it was not reached.
    #[serde(default)]
    pub failure: Option<String>,
}

/// The way packets take to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkPath {
    /// From computer to computer.
    Direct,
    /// Through a relay, encrypted from end to end.
    Relayed,
    /// A way that this version has no word for.
    #[serde(other)]
    Other,
}

/// How a peer is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MachineState {
    /// There is a connection and it answers.
    Answering,
    /// It has been silent for longer than it ever is: for 10 seconds on a connection in use, or, on the manager,
    /// for three times as long as a machine waits before it asks again.
    NotAnswering,
    /// The last attempt to reach it failed.
    Unreachable,
    /// There is no connection and no reason for one; or a state that this version has no word for.
    #[default]
    #[serde(other)]
    Idle,
}

/// Whether this machine is a member of a cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MembershipState {
    /// It is, as far as is known here.
    Member,
    /// It has no configuration yet.
    Waiting,
    /// It was, and is not any more.
    Removed,
    /// What it joined with is not a manager's id52.
    NotAManager,
    /// Not told, or a state that this version has no word for.
    #[default]
    #[serde(other)]
    Unknown,
}

/// A computer that asks for a configuration that it is not in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WaitingFacts {
    /// The key that it proved to have.
    pub id: MachineId,
    /// Where it asks from.
    pub address: String,
}
