//! How much a configuration may hold. A member believes its manager about what is allowed, and not with all
//! its memory: signed content beyond these is refused before it costs more.

use super::document::Document;
use crate::diagnostic::Report;

/// The most bytes that a configuration may have, as a file and as signed content: 16 MiB.
pub const MAX_CONTENT: usize = 16 << 20;

/// The most machines.
pub const MAX_MACHINES: usize = 65_536;

/// The most groups.
pub const MAX_GROUPS: usize = 65_536;

/// The most command entries, those of all machines together.
pub const MAX_COMMANDS: usize = 131_072;

/// The most entries of lists, those of all machines, commands and groups together.
pub const MAX_ENTRIES: usize = 524_288;

/// The most id52s in lists that are no member's, each counted once.
pub const MAX_FOREIGN_IDS: usize = 65_536;

/// How many groups may lie in one another, the outermost counted.
pub const MAX_GROUP_DEPTH: usize = 100;

/// The most users in a `username`.
pub const MAX_USERS: usize = 64;

/// The most entries of an `accept_env`: each is compared with each variable of a request.
pub const MAX_ENV_PATTERNS: usize = 256;

/// The most bytes of a command entry's `command`.
pub const MAX_COMMAND_LINE: usize = 16 << 10;

/// What a configuration holds, counted while it is read.
#[derive(Default)]
pub(super) struct Counts {
    machines: usize,
    groups: usize,
    commands: usize,
    entries: usize,
}

impl Counts {
    pub(super) fn machine(&mut self) -> Result<(), String> {
        count(&mut self.machines, 1, MAX_MACHINES, "machines")
    }

    pub(super) fn group(&mut self) -> Result<(), String> {
        count(&mut self.groups, 1, MAX_GROUPS, "groups")
    }

    pub(super) fn command(&mut self) -> Result<(), String> {
        count(&mut self.commands, 1, MAX_COMMANDS, "command entries")
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

/// What to do about a configuration that holds too much.
pub(super) const REMEDY: &str = "put machines into groups, or split the cluster";

/// Whether a document holds no more than it may; reports what is too much.
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
    for machine in &document.machines {
        counts.machine()?;
        for list in [
            &machine.allow_from,
            &machine.allow_shell,
            &machine.allow_files,
        ] {
            counts.entries(list.as_ref().map_or(0, |list| list.entries.len()))?;
        }
        for command in &machine.commands {
            counts.command()?;
            let entries = command.allow_from.as_ref();
            counts.entries(entries.map_or(0, |list| list.entries.len()))?;
        }
    }
    Ok(())
}
