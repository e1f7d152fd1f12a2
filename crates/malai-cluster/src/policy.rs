//! Access control: a pure function from a cluster and a request to a decision and its reason.

use std::fmt;

use crate::identity::MachineId;
use crate::name::{FolderName, GroupName, UserName};
use crate::service::{Upstream, UpstreamError};

mod access;
mod decide;

pub use access::{Access, access, may_use_folder, may_use_service};
pub use decide::decide;

/// An action that a member asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// Run this argument list.
    Exec(&'a [Vec<u8>]),
    /// Open a shell.
    Shell,
    /// Run a line written for a shell, as ssh sends it. A line of plain words is decided like their argument list; any
    /// other line is run by the user's login shell.
    Line(&'a [u8]),
    /// Serve one of ssh's subsystems.
    Subsystem(&'a str),
    /// Connect to the service of this name.
    Service(&'a str),
    /// Connect to this address, as the machine sees it: `localhost:5432`.
    Tcp(&'a str),
    /// Connect to the Unix socket with this absolute path.
    Unix(&'a str),
    /// Serve one of ssh's subsystems for the files of a folder.
    Folder {
        /// The folder's name.
        folder: &'a str,
        /// The subsystem's name.
        subsystem: &'a str,
    },
}

/// Who asks which machine for what.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The key that the connection's handshake proved.
    pub from: MachineId,
    /// The key of the machine that is asked.
    pub to: MachineId,
    /// What it asks for.
    pub action: Action<'a>,
    /// The user to run as, if the caller named one.
    pub user: Option<&'a str>,
}

/// A decision, and the rule behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Allowed, as the grant says.
    Allow(Grant),
    /// Refused.
    Refuse(Refusal),
}

/// What is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// What to run.
    pub run: Run,
    /// The user to run as; `None` is the daemon's own user.
    pub user: Option<UserName>,
    /// The rule that allows it.
    pub rule: Rule,
}

impl Grant {
    /// The argument list to run; empty if the login shell runs.
    pub fn argv(&self) -> &[Vec<u8>] {
        match &self.run {
            Run::Command(argv) | Run::Forced { argv, .. } => argv,
            Run::Shell | Run::Line(_) | Run::Sftp(_) | Run::Copy(_) | Run::Connect(_) => &[],
        }
    }
}

/// What a grant runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Run {
    /// This argument list.
    Command(Vec<Vec<u8>>),
    /// The user's login shell.
    Shell,
    /// This line, in the user's login shell.
    Line(Vec<u8>),
    /// malai's own sftp server: for the files of a folder, or for all that the user can reach.
    Sftp(Option<ServedFolder>),
    /// malai's own server for `malai cp`, likewise.
    Copy(Option<ServedFolder>),
    /// Nothing: the daemon itself connects to this address.
    Connect(Upstream),
    /// This argument list in place of what was asked for: a `forced` command entry.
    Forced {
        /// The argument list to run.
        argv: Vec<Vec<u8>>,
        /// The original request as a line; empty for a shell. It becomes `SSH_ORIGINAL_COMMAND`.
        original: Vec<u8>,
    },
}

impl Run {
    /// The folder that is served, if the grant is for one.
    pub fn folder(&self) -> Option<&ServedFolder> {
        match self {
            Run::Sftp(folder) | Run::Copy(folder) => folder.as_ref(),
            Run::Command(_) | Run::Shell | Run::Line(_) | Run::Connect(_) | Run::Forced { .. } => {
                None
            }
        }
    }
}

/// A folder as it is served: everything below it, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedFolder {
    /// Its name.
    pub name: FolderName,
    /// Its absolute path.
    pub path: Box<str>,
    /// Whether files in it may be changed.
    pub write: bool,
}

/// The rule that allows something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The list's key in the configuration, as `machine.web01.allow_from`.
    pub path: String,
    /// The entry of the list that matched, as `*` or `admins`.
    pub entry: String,
    /// If the entry is a group: the group, and the groups inside it that lead to the member.
    pub via: Vec<GroupName>,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.entry)?;
        for group in self.via.iter().skip(1) {
            write!(f, " → {group}")?;
        }
        Ok(())
    }
}

/// Why something is refused. The text is for the caller: it names the rule, but not who else it admits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The sender's key is neither the manager's nor a machine's.
    #[error("this key is not a member of the cluster")]
    NotAMember,
    /// The target's key does not belong to a machine.
    #[error("the target is not a machine of the cluster")]
    NotAMachine,
    /// The rule that would have to allow it is not set.
    #[error("{rule} is not set, so no one may do this")]
    NoRule {
        /// The missing list, as `machine.web01.allow_from`.
        rule: String,
    },
    /// Not in the machine's allow_from.
    #[error("{rule} does not allow you to run commands")]
    NotInMachine {
        /// `machine.web01.allow_from`.
        rule: String,
    },
    /// Not in the list for this command entry.
    #[error("{rule} does not allow you to run this command")]
    NotInCommand {
        /// `machine.web01.command.restart-nginx.allow_from`, or the machine's if the command entry has none.
        rule: String,
    },
    /// Arguments for a command entry that takes none.
    #[error("{rule} does not allow arguments for this command")]
    Arguments {
        /// `machine.web01.command.restart-nginx.args`.
        rule: String,
    },
    /// Not in the list for shells.
    #[error("{rule} does not allow you to open a shell")]
    NotInShell {
        /// `machine.web01.allow_shell`, or `allow_from` if that is not set.
        rule: String,
    },
    /// Allowed by the cluster, but not accepted by the owner of the computer.
    #[error("{rule} on that computer does not accept you")]
    NotAccepted {
        /// `malai.toml accept.staging.from`.
        rule: String,
    },
    /// Allowed by the cluster, but as a user that the owner of the computer does not accept.
    #[error("{rule} on that computer does not accept commands that run as {user}")]
    UserNotAccepted {
        /// `malai.toml accept.staging.users`.
        rule: String,
        /// "user `web`".
        user: String,
    },
    /// Not in the list for files.
    #[error("{rule} does not allow you to copy files")]
    NotInFiles {
        /// `machine.web01.allow_files`, or the list that applies if it is not set.
        rule: String,
    },
    /// Not in the list for the service.
    #[error("{rule} does not allow you to connect to this service")]
    NotInService {
        /// `service.grafana.allow_from`.
        rule: String,
    },
    /// Not in the list for forwarding.
    #[error("{rule} does not allow you to forward ports")]
    NotInForward {
        /// `machine.web01.allow_forward`, or the list that applies if it is not set.
        rule: String,
    },
    /// A forced command is all that the member may run there.
    #[error("{rule} is all that you may use there, so no ports are forwarded")]
    OnlyForced {
        /// `machine.web01.command.backup`.
        rule: String,
    },
    /// Nothing can be reached at this address.
    #[error("`{address}` {why}")]
    Address {
        /// As asked for, made safe to show.
        address: String,
        /// What is wrong with it.
        why: UpstreamError,
    },
    /// No service with this name runs on the machine.
    #[error("there is no service `{name}` on this machine")]
    NoService {
        /// As asked for, made safe to show.
        name: String,
    },
    /// There is no folder with this name on the machine.
    #[error("there is no folder `{name}` on this machine")]
    NoFolder {
        /// As asked for, made safe to show.
        name: String,
    },
    /// There is no subsystem with this name.
    #[error("there is no subsystem `{name}` here; malai has `sftp`")]
    NoSubsystem {
        /// As asked for, made safe to show.
        name: String,
    },
    /// The caller asked for a user that the rule's `username` does not list.
    #[error("{rule} does not allow you to run as user `{user}`; {allowed}")]
    NotAsUser {
        /// `machine.web01.username`.
        rule: String,
        /// As asked for, made safe to show.
        user: String,
        /// The users that it lists, as text.
        allowed: String,
    },
    /// The command is empty.
    #[error("the command is empty")]
    EmptyCommand,
    /// An argument contains a NUL, which cannot be passed to a process.
    #[error("an argument contains a NUL character")]
    Nul,
}

impl Refusal {
    /// The key in the configuration that refused it, if one did.
    pub fn rule(&self) -> Option<&str> {
        match self {
            Refusal::NoRule { rule }
            | Refusal::NotInMachine { rule }
            | Refusal::NotInCommand { rule }
            | Refusal::Arguments { rule }
            | Refusal::NotInShell { rule }
            | Refusal::NotAccepted { rule }
            | Refusal::NotInFiles { rule }
            | Refusal::NotInService { rule }
            | Refusal::NotInForward { rule }
            | Refusal::OnlyForced { rule }
            | Refusal::NotAsUser { rule, .. }
            | Refusal::UserNotAccepted { rule, .. } => Some(rule),
            Refusal::NotAMember
            | Refusal::NotAMachine
            | Refusal::NoFolder { .. }
            | Refusal::NoSubsystem { .. }
            | Refusal::NoService { .. }
            | Refusal::Address { .. }
            | Refusal::EmptyCommand
            | Refusal::Nul => None,
        }
    }
}

#[cfg(test)]
mod folders;
#[cfg(test)]
mod forwards;
#[cfg(test)]
mod lines;
#[cfg(test)]
mod rules;
#[cfg(test)]
mod services;
#[cfg(test)]
mod tests;
