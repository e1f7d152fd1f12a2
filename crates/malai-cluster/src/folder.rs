//! A folder: files of one machine that members reach by a name of their own, and nothing else of it.

use crate::allow::AllowList;
use crate::name::{FolderName, MachineName, UserName};

/// One `[folder.X]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    pub(crate) name: FolderName,
    pub(crate) machine: MachineName,
    pub(crate) path: Box<str>,
    pub(crate) write: bool,
    pub(crate) allow_from: Option<AllowList>,
    pub(crate) usernames: Box<[UserName]>,
}

impl Folder {
    /// The name that callers use.
    pub fn name(&self) -> &FolderName {
        &self.name
    }

    /// The machine that it is on.
    pub fn machine(&self) -> &MachineName {
        &self.machine
    }

    /// Its absolute path on that machine.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether files in it may be changed.
    pub fn is_writable(&self) -> bool {
        self.write
    }

    /// Who may copy its files; `None` means no one.
    pub fn allow_from(&self) -> Option<&AllowList> {
        self.allow_from.as_ref()
    }

    /// The users that a caller may choose from; empty if the machine's apply.
    pub fn usernames(&self) -> &[UserName] {
        &self.usernames
    }
}
