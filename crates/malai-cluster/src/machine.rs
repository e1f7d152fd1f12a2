//! A machine of a cluster, and who may do what on it.

use crate::allow::AllowList;
use crate::command::Command;
use crate::environment::EnvPattern;
use crate::identity::MachineId;
use crate::name::{MachineName, UserName};

/// One `[machine.X]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    pub(crate) name: MachineName,
    pub(crate) id: MachineId,
    pub(crate) allow_from: Option<AllowList>,
    pub(crate) allow_shell: Option<AllowList>,
    pub(crate) allow_files: Option<AllowList>,
    pub(crate) allow_forward: Option<AllowList>,
    pub(crate) usernames: Box<[UserName]>,
    pub(crate) accept_env: Option<Box<[EnvPattern]>>,
    /// Sorted by name.
    pub(crate) commands: Box<[Command]>,
}

impl Machine {
    /// Its name in the cluster.
    pub fn name(&self) -> &MachineName {
        &self.name
    }

    /// Its key.
    pub fn id(&self) -> MachineId {
        self.id
    }

    /// The user that commands and shells run as unless the caller names another; `None` is the daemon's own user.
    pub fn username(&self) -> Option<&UserName> {
        self.usernames.first()
    }

    /// The users that a caller may choose from; the first is the default.
    pub fn usernames(&self) -> &[UserName] {
        &self.usernames
    }

    /// The environment variables that a caller may set; `None` means the default list.
    pub fn accept_env(&self) -> Option<&[EnvPattern]> {
        self.accept_env.as_deref()
    }

    /// Who may run commands; `None` means no one.
    pub fn allow_from(&self) -> Option<&AllowList> {
        self.allow_from.as_ref()
    }

    /// Who may open a shell; `None` means as `allow_from`.
    pub fn allow_shell(&self) -> Option<&AllowList> {
        self.allow_shell.as_ref()
    }

    /// Who may copy files; `None` means as `allow_shell`.
    pub fn allow_files(&self) -> Option<&AllowList> {
        self.allow_files.as_ref()
    }

    /// Who may reach what the machine reaches (`malai ssh -L`, ports and sockets); `None` means as `allow_shell`.
    pub fn allow_forward(&self) -> Option<&AllowList> {
        self.allow_forward.as_ref()
    }

    /// Its command entries, by name.
    pub fn commands(&self) -> &[Command] {
        &self.commands
    }

    /// The command entry with exactly this name.
    pub fn command(&self, name: &[u8]) -> Option<&Command> {
        self.commands
            .binary_search_by(|command| command.name.as_str().as_bytes().cmp(name))
            .ok()
            .map(|index| &self.commands[index])
    }
}
