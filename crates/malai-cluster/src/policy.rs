//! Who may do what where: a pure function from cluster and request to a decision and its reason.

use std::fmt;

use crate::identity::MachineId;
use crate::name::{GroupName, UserName};

mod access;
mod decide;

pub use access::{Access, access};
pub use decide::decide;

/// What somebody wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// Run this argument list.
    Exec(&'a [Vec<u8>]),
    /// Open a shell.
    Shell,
    /// Run a line that was written for a shell, as ssh sends them. A line of plain words is decided as their
    /// argument list; any other is run by the user's login shell.
    Line(&'a [u8]),
    /// Serve a subsystem of ssh's.
    Subsystem(&'a str),
}

/// Who wants to do what where.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The key that the connection's handshake proved.
    pub from: MachineId,
    /// The machine that is asked.
    pub to: MachineId,
    /// What it is asked for.
    pub action: Action<'a>,
    /// The user to run as, where the caller named one.
    pub user: Option<&'a str>,
}

/// What was decided, and by which rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It may be done, as the grant says.
    Allow(Grant),
    /// It may not.
    Refuse(Refusal),
}

/// What may be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// What to run.
    pub run: Run,
    /// As whom; none is the daemon's own user.
    pub user: Option<UserName>,
    /// By which rule.
    pub rule: Rule,
}

impl Grant {
    /// The argument list that runs; empty for what the login shell runs.
    pub fn argv(&self) -> &[Vec<u8>] {
        match &self.run {
            Run::Command(argv) | Run::Forced { argv, .. } => argv,
            Run::Shell | Run::Line(_) | Run::Sftp => &[],
        }
    }
}

/// What a grant lets run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Run {
    /// This argument list.
    Command(Vec<Vec<u8>>),
    /// The user's login shell.
    Shell,
    /// This line, by the user's login shell.
    Line(Vec<u8>),
    /// malai's own sftp server.
    Sftp,
    /// This argument list, whatever was asked for: a `forced` command entry.
    Forced {
        /// What runs.
        argv: Vec<Vec<u8>>,
        /// What was asked for, as a line; empty for a shell. It becomes `SSH_ORIGINAL_COMMAND`.
        original: Vec<u8>,
    },
}

/// The rule by which something is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The list's key in the configuration, as `machine.web01.allow_from`.
    pub path: String,
    /// The entry of the list that matched, as `*` or `admins`.
    pub entry: String,
    /// If the entry is a group: it, and the groups inside it on the way to the member.
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

/// Why something is refused. Its text is for the person who is refused: it names the rule, and
/// not who else is in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The sender's key is neither the manager's nor a machine's.
    #[error("this key is not a member of the cluster")]
    NotAMember,
    /// The target's key is not a machine's.
    #[error("the target is not a machine of the cluster")]
    NotAMachine,
    /// The rule that would have to allow it is not written.
    #[error("{rule} is not set, so nobody may do this")]
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
    /// Not in the list that decides about this command entry.
    #[error("{rule} does not allow you to run this command")]
    NotInCommand {
        /// `machine.web01.command.restart-nginx.allow_from`, or the machine's where the command
        /// has none.
        rule: String,
    },
    /// Arguments for a command entry that takes none.
    #[error("{rule} does not allow arguments for this command")]
    Arguments {
        /// `machine.web01.command.restart-nginx.args`.
        rule: String,
    },
    /// Not in the list that decides about shells.
    #[error("{rule} does not allow you to open a shell")]
    NotInShell {
        /// `machine.web01.allow_shell`, or its allow_from where it has none.
        rule: String,
    },
    /// Allowed by the cluster, and not accepted by the owner of the computer.
    #[error("{rule} on that computer does not accept you")]
    NotAccepted {
        /// `malai.toml accept.staging.from`.
        rule: String,
    },
    /// Allowed by the cluster as a user whom the owner of the computer does not accept.
    #[error("{rule} on that computer does not accept commands that run as {user}")]
    UserNotAccepted {
        /// `malai.toml accept.staging.users`.
        rule: String,
        /// "user `web`".
        user: String,
    },
    /// Not in the list that decides about files.
    #[error("{rule} does not allow you to copy files")]
    NotInFiles {
        /// `machine.web01.allow_files`, or the list that counts where it has none.
        rule: String,
    },
    /// There is no subsystem of this name.
    #[error("there is no subsystem `{name}` here; malai has `sftp`")]
    NoSubsystem {
        /// As asked for, made safe to show.
        name: String,
    },
    /// The caller asked for a user whom the rule's `username` does not name.
    #[error("{rule} does not allow you to run as user `{user}`; {allowed}")]
    NotAsUser {
        /// `machine.web01.username`.
        rule: String,
        /// As asked for, made safe to show.
        user: String,
        /// Whom it names, in words.
        allowed: String,
    },
    /// No command, or an empty one.
    #[error("the command is empty")]
    EmptyCommand,
    /// An argument with a NUL, which no process can be given.
    #[error("an argument has a NUL character in it")]
    Nul,
}

impl Refusal {
    /// The key in the configuration that refused, if it was one.
    pub fn rule(&self) -> Option<&str> {
        match self {
            Refusal::NoRule { rule }
            | Refusal::NotInMachine { rule }
            | Refusal::NotInCommand { rule }
            | Refusal::Arguments { rule }
            | Refusal::NotInShell { rule }
            | Refusal::NotAccepted { rule }
            | Refusal::NotInFiles { rule }
            | Refusal::NotAsUser { rule, .. }
            | Refusal::UserNotAccepted { rule, .. } => Some(rule),
            Refusal::NotAMember
            | Refusal::NotAMachine
            | Refusal::NoSubsystem { .. }
            | Refusal::EmptyCommand
            | Refusal::Nul => None,
        }
    }
}

#[cfg(test)]
mod lines;
#[cfg(test)]
mod rules;
#[cfg(test)]
mod tests;
