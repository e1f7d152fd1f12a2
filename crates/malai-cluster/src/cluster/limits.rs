//! How large a configuration may be. A member trusts its manager to decide what is allowed, but not with all its
//! memory: signed content beyond these limits is refused before it costs more.

use super::document::Document;
use crate::diagnostic::Report;

/// The maximum size of a configuration in bytes, as a file and as signed content: 16 MiB.
pub const MAX_CONTENT: usize = 16 << 20;

/// The maximum number of machines.
pub const MAX_MACHINES: usize = 65_536;

/// The maximum number of groups.
pub const MAX_GROUPS: usize = 65_536;

/// The maximum number of folders.
pub const MAX_FOLDERS: usize = 65_536;

/// The maximum number of command entries, over all machines.
pub const MAX_COMMANDS: usize = 131_072;

/// The maximum number of services.
pub const MAX_SERVICES: usize = 65_536;

/// The maximum number of relays: each machine measures all of them.
pub const MAX_RELAYS: usize = 16;

/// The maximum number of list entries, over all machines, commands, groups and services.
pub const MAX_ENTRIES: usize = 524_288;

/// The maximum number of distinct id52s in lists that belong to no member.
pub const MAX_FOREIGN_IDS: usize = 65_536;

/// How deep groups may be nested, including the outermost.
pub const MAX_GROUP_DEPTH: usize = 100;

/// The maximum number of users in a `username`.
pub const MAX_USERS: usize = 64;

/// The maximum number of entries of an `accept_env`: each is compared with each variable of a request.
pub const MAX_ENV_PATTERNS: usize = 256;

/// The maximum length of a folder's `path`, in bytes: that of Linux, less the end.
pub const MAX_PATH: usize = 4095;

/// The maximum length of a command entry's `command`, in bytes.
pub const MAX_COMMAND_LINE: usize = 16 << 10;

/// Counts of what a configuration contains, kept while it is read.
#[derive(Default)]
pub(super) struct Counts {
    machines: usize,
    groups: usize,
    folders: usize,
    commands: usize,
    services: usize,
    entries: usize,
}

impl Counts {
    pub(super) fn machine(&mut self) -> Result<(), String> {
        count(&mut self.machines, 1, MAX_MACHINES, "machines")
    }

    pub(super) fn group(&mut self) -> Result<(), String> {
        count(&mut self.groups, 1, MAX_GROUPS, "groups")
    }

    pub(super) fn folder(&mut self) -> Result<(), String> {
        count(&mut self.folders, 1, MAX_FOLDERS, "folders")
    }

    pub(super) fn command(&mut self) -> Result<(), String> {
        count(&mut self.commands, 1, MAX_COMMANDS, "command entries")
    }

    pub(super) fn service(&mut self) -> Result<(), String> {
        count(&mut self.services, 1, MAX_SERVICES, "services")
    }

    pub(super) fn entries(&mut self, more: usize) -> Result<(), String> {
        count(&mut self.entries, more, MAX_ENTRIES, "entries in its lists")
    }
}

fn count(counter: &mut usize, more: usize, most: usize, what: &str) -> Result<(), String> {
    *counter += more;
    if *counter > most {
        return Err(format!("it has more than {most} {what}"));
    }
    Ok(())
}

/// How to fix a configuration that is too large.
pub(super) const REMEDY: &str = "put machines into groups, or split the cluster";

/// Whether a document keeps to the limits; reports what exceeds them.
pub(super) fn keeps_to_them(document: &Document<'_>, report: &mut Report<'_>) -> bool {
    match counted(document) {
        Ok(()) => true,
        Err(problem) => {
            let message = format!("the configuration is too large: {problem}");
            report.error(0..0, message, Some(REMEDY.to_owned()));
            false
        }
    }
}

fn counted(document: &Document<'_>) -> Result<(), String> {
    let mut counts = Counts::default();
    for group in &document.groups {
        counts.group()?;
        counts.entries(group.members.as_ref().map_or(0, |list| list.entries.len()))?;
    }
    for folder in &document.folders {
        counts.folder()?;
        let entries = folder.allow_from.as_ref();
        counts.entries(entries.map_or(0, |list| list.entries.len()))?;
    }
    for machine in &document.machines {
        counts.machine()?;
        for list in [
            &machine.allow_from,
            &machine.allow_shell,
            &machine.allow_files,
            &machine.allow_forward,
        ] {
            counts.entries(list.as_ref().map_or(0, |list| list.entries.len()))?;
        }
        for command in &machine.commands {
            counts.command()?;
            let entries = command.allow_from.as_ref();
            counts.entries(entries.map_or(0, |list| list.entries.len()))?;
        }
    }
    for service in &document.services {
        counts.service()?;
        let entries = service.allow_from.as_ref();
        counts.entries(entries.map_or(0, |list| list.entries.len()))?;
    }
    Ok(())
}
