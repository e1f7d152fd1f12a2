//! The structure of cluster.toml: its keys and their types, each value with its place.
//!
//! Nothing here compares two sections; `check` does that.

use std::borrow::Cow;
use std::ops::Range;

use toml::de::{DeInteger, DeString, DeTable, DeValue};

use super::limits::{MAX_COMMAND_LINE, MAX_ENV_PATTERNS, MAX_USERS};
use crate::command::Words;
use crate::diagnostic::{Report, quoted};
use crate::environment::EnvPattern;
use crate::identity::MachineId;
use crate::name::{CommandName, GroupName, MachineName, NameError, UserName};
use crate::network::Network;
use crate::sanitize::escape;
use crate::shell_words::split_command;

mod folder;
mod network;
mod service;
mod values;

pub(super) use folder::{FolderSection, is_folder_path};
pub(super) use service::ServiceSection;

/// A value and its place in the source, in bytes.
pub(super) struct Spanned<T> {
    pub(super) value: T,
    pub(super) span: Range<usize>,
}

/// The content of a cluster.toml, as far as it could be read. The report has the rest.
#[derive(Default)]
pub(super) struct Document<'t> {
    pub(super) format: Option<Spanned<u64>>,
    pub(super) manager: Option<MachineId>,
    pub(super) cluster_name: Cow<'t, str>,
    /// In the order of the file.
    pub(super) machines: Vec<MachineSection<'t>>,
    /// In the order of the file.
    pub(super) groups: Vec<GroupSection<'t>>,
    /// In the order of the file.
    pub(super) services: Vec<ServiceSection<'t>>,
    /// In the order of the file.
    pub(super) folders: Vec<FolderSection<'t>>,
    pub(super) network: Option<Network>,
}

impl Document<'_> {
    /// Whether a section was read that signed content has after all machines.
    pub(super) fn is_past_machines(&self) -> bool {
        self.network.is_some() || !self.services.is_empty()
    }
}

pub(super) struct MachineSection<'t> {
    pub(super) name: Spanned<MachineName>,
    pub(super) id: Option<Spanned<MachineId>>,
    pub(super) allow_from: Option<List<'t>>,
    pub(super) allow_shell: Option<List<'t>>,
    pub(super) allow_files: Option<List<'t>>,
    pub(super) allow_forward: Option<List<'t>>,
    pub(super) usernames: Vec<UserName>,
    pub(super) accept_env: Option<Vec<EnvPattern>>,
    pub(super) commands: Vec<CommandSection<'t>>,
}

pub(super) struct CommandSection<'t> {
    pub(super) name: CommandName,
    pub(super) name_span: Range<usize>,
    pub(super) line: Option<Cow<'t, str>>,
    pub(super) words: Words,
    pub(super) allow_from: Option<List<'t>>,
    pub(super) usernames: Vec<UserName>,
    pub(super) args: bool,
    pub(super) forced: bool,
}

pub(super) struct GroupSection<'t> {
    pub(super) name: Spanned<GroupName>,
    pub(super) members: Option<List<'t>>,
}

/// A list of members, as a comma-separated string or an array of strings.
pub(super) struct List<'t> {
    pub(super) key: Range<usize>,
    pub(super) entries: Vec<Spanned<&'t str>>,
}

type Key<'t> = toml::Spanned<DeString<'t>>;
type Value<'t> = toml::Spanned<DeValue<'t>>;

const TOP: &[&str] = &[
    "cluster_manager",
    "network",
    "machine",
    "group",
    "service",
    "folder",
];
const MANAGER: &[&str] = &["id52", "cluster_name"];
const MACHINE: &[&str] = &[
    "id52",
    "allow_from",
    "allow_shell",
    "allow_files",
    "allow_forward",
    "username",
    "accept_env",
    "command",
];
const COMMAND: &[&str] = &["command", "allow_from", "username", "args", "forced"];
const GROUP: &[&str] = &["members"];

/// Reads the whole document.
pub(super) fn read<'t>(
    table: &'t DeTable<'t>,
    source: &'t str,
    report: &mut Report<'_>,
) -> Document<'t> {
    let mut reader = Reader { source, report };
    let mut document = Document::default();
    let mut manager: Option<(&Key<'_>, Range<usize>)> = None;
    let mut has_id = false;
    for (key, value) in in_order(table) {
        match key.get_ref().as_ref() {
            "format" => document.format = reader.format(key, value),
            "cluster_manager" | "cluster-manager" => {
                if let Some((first, _)) = &manager {
                    reader.both_managers(first, key);
                }
                manager.get_or_insert_with(|| (key, reader.header(key, value)));
                has_id |= reader.manager(key, value, &mut document);
            }
            "machine" => document.machines = reader.machines(key, value),
            "group" => document.groups = reader.groups(key, value),
            "service" => document.services = reader.services(key, value),
            "folder" => document.folders = reader.folders(key, value),
            "network" => document.network = Some(reader.network(key, value)),
            "successor" | "max_age" => {
                let key_text = quoted(key.get_ref());
                let message = format!("{key_text} is reserved and not yet supported");
                reader.error(key.span(), message, Some("remove it".to_owned()));
            }
            _ => reader.unknown(key, TOP, "at the top of a cluster.toml"),
        }
    }
    match manager {
        None => reader.report.missing(
            0..0,
            "`[cluster_manager]` is missing".to_owned(),
            Some(
                "it contains `id52`, the manager's key, as `malai cluster init` wrote it"
                    .to_owned(),
            ),
        ),
        Some((_, header)) if !has_id => reader.report.missing(
            header,
            "`[cluster_manager]` has no `id52`".to_owned(),
            Some("it is the manager's key, as `malai status` shows it".to_owned()),
        ),
        Some(_) => {}
    }
    document
}

/// A table's entries in the order of the file.
fn in_order<'t>(table: &'t DeTable<'t>) -> Vec<(&'t Key<'t>, &'t Value<'t>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

struct Reader<'t, 'r, 's> {
    source: &'t str,
    report: &'r mut Report<'s>,
}

impl<'t> Reader<'t, '_, '_> {
    /// Returns whether there is an `id52`, even an invalid one.
    fn manager(
        &mut self,
        key: &Key<'t>,
        value: &'t Value<'t>,
        document: &mut Document<'t>,
    ) -> bool {
        let Some(table) = self.table(key, value, "[cluster_manager]") else {
            return true;
        };
        let mut has_id = false;
        for (key, value) in in_order(table) {
            match key.get_ref().as_ref() {
                "id52" => {
                    has_id = true;
                    document.manager = self.id(key, value).map(|at| at.value);
                }
                "cluster_name" => {
                    let name = self.cluster_name(key, value);
                    document.cluster_name = name.unwrap_or_default().into();
                }
                _ => self.unknown(key, MANAGER, "in `[cluster_manager]`"),
            }
        }
        has_id
    }

    fn both_managers(&mut self, first: &Key<'t>, second: &Key<'t>) {
        let line = self.report.line(first.span().start);
        self.error(
            second.span(),
            format!(
                "{} and {} are the same section: use only one",
                quoted(first.get_ref()),
                quoted(second.get_ref())
            ),
            Some(format!("keep the one on line {line} or this one")),
        );
    }

    fn machines(&mut self, key: &Key<'t>, value: &'t Value<'t>) -> Vec<MachineSection<'t>> {
        let Some(table) = self.table(key, value, "[machine.web01]") else {
            return Vec::new();
        };
        let sections = in_order(table).into_iter();
        sections
            .filter_map(|(key, value)| self.machine(key, value))
            .collect()
    }

    fn machine(&mut self, key: &Key<'t>, value: &'t Value<'t>) -> Option<MachineSection<'t>> {
        let name = self.name(key, MachineName::parse);
        let table = self.table(key, value, "[machine.web01]")?;
        let (mut id, mut has_id) = (None, false);
        let (mut allow_from, mut allow_shell) = (None, None);
        let (mut allow_files, mut allow_forward) = (None, None);
        let (mut usernames, mut accept_env, mut commands) = (Vec::new(), None, Vec::new());
        for (key, value) in in_order(table) {
            match key.get_ref().as_ref() {
                "id52" => {
                    has_id = true;
                    id = self.id(key, value);
                }
                "allow_from" => allow_from = self.list(key, value),
                "allow_shell" => allow_shell = self.list(key, value),
                "allow_files" => allow_files = self.list(key, value),
                "allow_forward" => allow_forward = self.list(key, value),
                "username" => usernames = self.users(key, value),
                "accept_env" => accept_env = self.env_patterns(key, value),
                "command" => commands = self.commands(key, value),
                _ => self.unknown(key, MACHINE, "in a machine's section"),
            }
        }
        if !has_id {
            self.report.missing(
                self.header(key, value),
                format!("machine {} has no `id52`", quoted(key.get_ref())),
                Some("`malai machine init` on that machine prints it".to_owned()),
            );
        }
        Some(MachineSection {
            name: name?,
            id,
            allow_from,
            allow_shell,
            allow_files,
            allow_forward,
            usernames,
            accept_env,
            commands,
        })
    }

    fn commands(&mut self, key: &Key<'t>, value: &'t Value<'t>) -> Vec<CommandSection<'t>> {
        let Some(table) = self.table(key, value, "[machine.web01.command.restart-nginx]") else {
            return Vec::new();
        };
        let sections = in_order(table).into_iter();
        sections
            .filter_map(|(key, value)| self.command(key, value))
            .collect()
    }

    fn command(&mut self, key: &Key<'t>, value: &'t Value<'t>) -> Option<CommandSection<'t>> {
        let name = self.name(key, CommandName::parse);
        let table = self.table(key, value, "[machine.web01.command.restart-nginx]")?;
        let (mut line, mut words) = (None, None);
        let (mut allow_from, mut usernames) = (None, Vec::new());
        let (mut args, mut forced) = (false, false);
        for (key, value) in in_order(table) {
            match key.get_ref().as_ref() {
                "command" => {
                    line = self.text(key, value);
                    words = line.and_then(|line| self.words(value, line));
                }
                "allow_from" => allow_from = self.list(key, value),
                "username" => usernames = self.users(key, value),
                "args" => args = self.boolean(key, value).unwrap_or_default(),
                "forced" => forced = self.boolean(key, value).unwrap_or_default(),
                _ => self.unknown(key, COMMAND, "in a command's section"),
            }
        }
        let (name, name_span) = name.map(|name| (name.value, name.span))?;
        Some(CommandSection {
            name_span,
            line: line.map(Cow::Borrowed),
            words: words.unwrap_or_else(|| Words::one(name.as_str())),
            name,
            allow_from,
            usernames,
            args,
            forced,
        })
    }

    fn groups(&mut self, key: &Key<'t>, value: &'t Value<'t>) -> Vec<GroupSection<'t>> {
        let Some(table) = self.table(key, value, "[group.admins]") else {
            return Vec::new();
        };
        let sections = in_order(table).into_iter();
        sections
            .filter_map(|(key, value)| self.group(key, value))
            .collect()
    }

    fn group(&mut self, key: &Key<'t>, value: &'t Value<'t>) -> Option<GroupSection<'t>> {
        let name = self.name(key, GroupName::parse);
        let table = self.table(key, value, "[group.admins]")?;
        let (mut members, mut has_members) = (None, false);
        for (key, value) in in_order(table) {
            match key.get_ref().as_ref() {
                "members" => {
                    has_members = true;
                    members = self.list(key, value);
                }
                _ => self.unknown(key, GROUP, "in a group's section"),
            }
        }
        if !has_members {
            self.report.missing(
                self.header(key, value),
                format!("group {} has no `members`", quoted(key.get_ref())),
                Some("write `members = \"\"` for an empty group".to_owned()),
            );
        }
        Some(GroupSection {
            name: name?,
            members,
        })
    }

    fn format(&mut self, key: &Key<'t>, value: &'t Value<'t>) -> Option<Spanned<u64>> {
        let number = value.get_ref().as_integer().and_then(unsigned);
        if number.is_none() {
            self.wrong_type(key, value, "a number, like `format = 1`");
        }
        let span = value.span();
        number.map(|value| Spanned { value, span })
    }

    fn cluster_name(&mut self, key: &Key<'t>, value: &'t Value<'t>) -> Option<&'t str> {
        let text = self.text(key, value)?;
        if !is_cluster_name(text) {
            let message = "`cluster_name` must be one short line of visible text".to_owned();
            self.error(value.span(), message, None);
        }
        Some(text)
    }

    fn words(&mut self, value: &Value<'t>, line: &str) -> Option<Words> {
        match command_words(line) {
            Ok(words) => Some(words),
            Err((problem, help)) => {
                self.error(value.span(), problem, Some(help.to_owned()));
                None
            }
        }
    }

    fn name<N>(
        &mut self,
        key: &Key<'t>,
        parse: impl Fn(&str) -> Result<N, NameError>,
    ) -> Option<Spanned<N>> {
        match parse(key.get_ref()) {
            Ok(value) => Some(Spanned {
                value,
                span: key.span(),
            }),
            Err(problem) => {
                self.error(key.span(), problem.to_string(), None);
                None
            }
        }
    }

    fn id(&mut self, key: &Key<'t>, value: &'t Value<'t>) -> Option<Spanned<MachineId>> {
        let text = self.text(key, value)?;
        match MachineId::parse(text) {
            Ok(id) => Some(Spanned {
                value: id,
                span: value.span(),
            }),
            Err(problem) => {
                self.error(value.span(), problem.to_string(), None);
                None
            }
        }
    }

    fn users(&mut self, key: &Key<'t>, value: &'t Value<'t>) -> Vec<UserName> {
        let Some(mut list) = self.list(key, value) else {
            return Vec::new();
        };
        // Only commas make it a list: a name with spaces around it is not a name.
        if let Some(text) = value.get_ref().as_str()
            && (!text.contains(',') || text.contains(char::is_control))
        {
            let span = value.span();
            list.entries = vec![Spanned { value: text, span }];
        }
        if list.entries.is_empty() || list.entries[0].value.is_empty() {
            let help = "write the user that commands run as, or remove the key";
            self.error(
                value.span(),
                "`username` is empty".to_owned(),
                Some(help.to_owned()),
            );
        }
        if list.entries.len() > MAX_USERS {
            let message = format!("`username` names more than {MAX_USERS} users");
            self.error(value.span(), message, None);
            return Vec::new();
        }
        let mut users: Vec<UserName> = Vec::new();
        for entry in list.entries.iter().filter(|entry| !entry.value.is_empty()) {
            match UserName::parse(entry.value) {
                Ok(user) if users.contains(&user) => {
                    self.error(
                        entry.span.clone(),
                        format!("user `{user}` is listed twice"),
                        None,
                    );
                }
                Ok(user) => users.push(user),
                Err(problem) => self.error(entry.span.clone(), problem.to_string(), None),
            }
        }
        users
    }

    fn env_patterns(&mut self, key: &Key<'t>, value: &'t Value<'t>) -> Option<Vec<EnvPattern>> {
        // Spaces separate entries too, as in sshd's configuration.
        let list = self.list(key, value)?;
        let mut patterns = Vec::new();
        for entry in &list.entries {
            for text in entry.value.split_ascii_whitespace() {
                match EnvPattern::parse(text) {
                    Ok(_) if patterns.len() == MAX_ENV_PATTERNS => {
                        let most = MAX_ENV_PATTERNS;
                        let message = format!("`accept_env` has more than {most} entries");
                        self.error(entry.span.clone(), message, None);
                        return None;
                    }
                    Ok(pattern) => patterns.push(pattern),
                    Err(problem) => {
                        let message = format!("{}: {problem}", quoted(text));
                        self.error(entry.span.clone(), message, None);
                    }
                }
            }
        }
        Some(patterns)
    }
}

/// The words that a command entry's `command` runs; or what is wrong with it, and how to fix it.
pub(super) fn command_words(line: &str) -> Result<Words, (String, &'static str)> {
    if line.len() > MAX_COMMAND_LINE {
        let message = format!("the command is longer than {} KiB", MAX_COMMAND_LINE >> 10);
        return Err((message, "put it into a script on the machine"));
    }
    split_command(line)
        .map(|words| Words::new(&words))
        .map_err(|problem| match line.trim().is_empty() {
            true => (
                "the command is empty".to_owned(),
                "write the command to run; without the key, the entry's name is run",
            ),
            false => (
                format!("the command cannot be run as written: {problem}"),
                "quote it, or run it in a shell: `sh -c '…'`",
            ),
        })
}

/// Whether a text can be shown as a cluster's name: short, and without hidden characters.
pub(super) fn is_cluster_name(text: &str) -> bool {
    const MOST: usize = 255;
    text.chars().count() <= MOST && escape(text) == text
}

fn unsigned(integer: &DeInteger<'_>) -> Option<u64> {
    u64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reference page names every key, and its example is sound.
    #[test]
    fn the_page_about_cluster_toml_is_true() {
        let page = include_str!("../../../../docs/cluster-toml.md");
        let sections = [service::KEYS, folder::KEYS].concat();
        for key in [TOP, MANAGER, MACHINE, COMMAND, GROUP, &sections].concat() {
            assert!(
                page.contains(&format!("`{key}`")) || page.contains(&format!("`[{key}")),
                "docs/cluster-toml.md does not name {key}"
            );
        }
        let (_, example) = page.split_once("```toml\n").unwrap();
        let (example, _) = example.split_once("```").unwrap();
        let key = |seed: u8| crate::SecretSeed::from_bytes([seed; 32]).id();
        let example = example
            .replace("<the manager's id52>", &key(1).to_string())
            .replacen("<id52>", &key(2).to_string(), 1)
            .replace("<id52>", &key(3).to_string());
        let machines: String = ["laptop", "desk", "phone"]
            .iter()
            .zip(4..)
            .map(|(name, seed)| format!("[machine.{name}]\nid52 = \"{}\"\n", key(seed)))
            .collect();
        let text = format!("{example}\n[group.deploy]\nmembers = \"desk\"\n{machines}");
        let checked = crate::check("cluster.toml", &text);
        assert!(checked.cluster.is_some(), "{checked:?}");
    }
}
