//! The state of a running daemon and its peers: its reply to `malai status`.
//!
//! Sent over the socket as JSON, so that a command line and a daemon of different versions understand each
//! other: unknown fields are skipped, missing ones have defaults.

use std::fmt;

use malai_cluster::MachineId;
use serde::{Deserialize, Serialize};

/// The state of a daemon.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DaemonFacts {
    /// The version of its malai, as in `malai --version`.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// The user that it runs as; empty if that has no name, or if its version does not say.
    pub user: String,
    /// The user as whom commands run that have no `username`; `None` is the daemon's own.
    pub default_user: Option<String>,
    /// The current number of tasks in its runtime, for finding leaks.
    pub tasks: usize,
    /// Its clusters, by alias.
    pub clusters: Vec<ClusterFacts>,
    /// Why the audit record cannot be written, in complete sentences.
    pub audit: Option<String>,
    /// What it listens on and passes on by `[forward]` in malai.toml.
    pub forwards: Vec<ForwardFacts>,
    /// Notices about the daemon as a whole.
    pub notices: Vec<Notice>,
}

/// One line of `[forward]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ForwardFacts {
    /// Where it listens.
    pub listen: String,
    /// Where connections go, as it is written.
    pub to: String,
    /// The connections that are open.
    pub open: u32,
    /// All connections since it was started.
    pub total: u64,
    /// Why it does not listen, or leads nowhere.
    pub problem: Option<String>,
    /// Why the last connection that failed did.
    pub failure: Option<String>,
    /// Seconds since then.
    pub failed_seconds_ago: Option<u64>,
}

/// One cluster as the daemon serves it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClusterFacts {
    /// The alias.
    pub alias: String,
    /// The revision in force; `None` if there is none.
    pub revision: Option<u64>,
    /// The other machines that this computer deals with, by name.
    pub machines: Vec<MachineFacts>,
    /// Keys that ask for this cluster's configuration and are not in it. Only on a manager.
    pub waiting: Vec<WaitingFacts>,
    /// Seconds since the manager last answered. Only on a machine.
    pub manager_reachable_seconds_ago: Option<u64>,
    /// Whether this machine is a member, as far as it can tell.
    pub membership: MembershipState,
    /// What the owner should know and do about that, in complete sentences; `None` for a member.
    pub membership_notice: Option<String>,
    /// The relay by which this computer is reached; `None` if it uses none.
    pub relay: Option<RelayFacts>,
    /// Why connections from here are not direct, as far as is known: a clause.
    pub obstacle: Option<String>,
    /// The invitation that this machine joins with, until it has joined.
    pub joining: Option<JoiningFacts>,
    /// Notices about this cluster.
    pub notices: Vec<Notice>,
}

/// The state of a relay.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RelayFacts {
    /// Its URL; of several, that of the nearest one.
    pub url: String,
    /// Whether it is the cluster's own, rather than a public one.
    pub own: bool,
    /// Whether this computer is connected to it.
    pub connected: bool,
    /// Why it is not.
    pub problem: Option<String>,
}

/// How far a machine has come that joins with an invitation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct JoiningFacts {
    /// Its state.
    pub state: JoiningState,
    /// What the manager says, or why it cannot be asked; a complete sentence.
    pub text: Option<String>,
}

/// The state of a machine that joins with an invitation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JoiningState {
    /// The manager has not answered yet.
    #[default]
    Asking,
    /// The manager could not be reached; it is asked again.
    Unreachable,
    /// The manager cannot add it now; it is asked again.
    Waiting,
    /// The manager has refused the invitation; it is not asked again.
    Refused,
    /// A state that this version does not know.
    #[serde(other)]
    Other,
}

/// Something that the owner of a home should know.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Notice {
    /// What it is about.
    pub kind: NoticeKind,
    /// A complete sentence.
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
    /// Another daemon uses the key of this identity.
    DuplicateIdentity,
    /// The audit record has a gap or cannot be written.
    Audit,
    /// A machine with an invitation waits.
    Invitation,
    /// Anything else, or a kind that this version does not know.
    #[default]
    #[serde(other)]
    Other,
}

/// One peer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MachineFacts {
    /// Its name in the cluster; `None` for a manager that is not listed as a machine.
    #[serde(default)]
    pub name: Option<String>,
    /// Its key.
    pub id: MachineId,
    /// The last known revision.
    #[serde(default)]
    pub revision: Option<u64>,
    /// Seconds since it was last heard from; `None` if it never was.
    #[serde(default)]
    pub heard_seconds_ago: Option<u64>,
    /// The current network path to it.
    #[serde(default)]
    pub path: Option<NetworkPath>,
    /// The round trip on that path, in milliseconds.
    #[serde(default)]
    pub rtt_ms: Option<f64>,
    /// Its state.
    #[serde(default)]
    pub state: MachineState,
    /// Seconds since it could not be reached; `None` if it was heard from since.
    #[serde(default)]
    pub failed_seconds_ago: Option<u64>,
    /// Why it could not be reached.
    #[serde(default)]
    pub failure: Option<String>,
}

/// A network path to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkPath {
    /// Directly from computer to computer.
    Direct,
    /// Through a relay, encrypted end to end.
    Relayed,
    /// A path that this version does not know.
    #[serde(other)]
    Other,
}

/// The state of a peer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MachineState {
    /// It is connected and answers.
    Answering,
    /// The last attempt to reach it failed, or it has been silent for unusually long: for 10 seconds on a connection in use
    /// or, on the manager, for three times the interval at which a machine checks in.
    #[serde(alias = "unreachable")]
    NotAnswering,
    /// It is not connected and need not be; or a state that this version does not know.
    #[default]
    #[serde(other)]
    Idle,
}

/// Whether this machine is a member of a cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MembershipState {
    /// It is a member, as far as is known.
    Member,
    /// It has no configuration yet.
    Waiting,
    /// It was a member, but no longer is.
    Removed,
    /// The id52 that it joined with does not belong to a manager.
    NotAManager,
    /// Not reported, or a state that this version does not know.
    #[default]
    #[serde(other)]
    Unknown,
}

/// A computer that asks for a configuration that it is not in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WaitingFacts {
    /// The key that it proved.
    pub id: MachineId,
    /// The address that it asks from.
    pub address: String,
    /// Seconds since it last asked.
    #[serde(default)]
    pub asked_seconds_ago: u64,
    /// The machine that had this key, if the daemon has published a revision without it.
    #[serde(default)]
    pub former: Option<FormerMachine>,
}

/// A machine that is no longer in the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormerMachine {
    /// Its name.
    pub name: String,
    /// The last revision that it was in.
    pub revision: u64,
}

impl fmt::Display for WaitingFacts {
    /// One line, safe to show.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = malai_cluster::escape(&self.address);
        write!(f, "{} asks to join, from {address}", self.id)?;
        match self.asked_seconds_ago {
            seconds if seconds < 60 => write!(f, ", last asked {seconds}s ago")?,
            seconds => write!(f, ", last asked {}m ago", seconds / 60)?,
        }
        if let Some(former) = &self.former {
            let name = malai_cluster::escape(&former.name);
            write!(f, "; it was {name} until revision {}", former.revision)?;
        }
        Ok(())
    }
}
