//! From the parsed file to a checked [`Cluster`]: the checks that need the whole file.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use toml::de::DeTable;

use super::content::{self, Unreadable};
use super::document::{self, Document, MachineSection};
use super::limits::{self, MAX_CONTENT, MAX_FOREIGN_IDS, MAX_GROUP_DEPTH};
use super::{Checked, Cluster, ContentError, FORMAT};

use crate::command::Command;
use crate::diagnostic::{Diagnostic, Report, Severity, quoted};
use crate::group::{Entry, FlattenError, Group, GroupIndex, Member, flatten};
use crate::identity::{ClusterId, MachineId};
use crate::machine::Machine;
use crate::name::GroupName;

mod folders;
mod forced;
mod lists;
mod services;
mod warn;

/// Checks a file that a person wrote.
pub(super) fn file(file: &str, source: &str) -> Checked {
    if source.len() > MAX_CONTENT {
        return Checked::failed(too_large(file, source));
    }
    let mut report = Report::new(file, source);
    let (table, errors) = DeTable::parse_recoverable(source);
    let document = document::read(table.get_ref(), source, &mut report);
    let cluster = if errors.is_empty() {
        check_format(&document, &mut report);
        Checker::new(&document, &mut report).cluster()
    } else {
        let errors = without_consequences(source, errors);
        only_what_is_certain(&mut report, source, &errors);
        // Where a section is defined twice, its keys are too, which says nothing new.
        let mut known_until = 0;
        for error in errors {
            let span = error.span().unwrap_or_default();
            if error.message() == "duplicate key" {
                if span.start < known_until {
                    continue;
                }
                let message = format!("{} is defined twice", quoted(&source[span.clone()]));
                let line = source[..span.start].rfind('\n').map_or(0, |end| end + 1);
                let help = if source[line..].trim_start().starts_with('[') {
                    let next = source[span.end..].find("\n[");
                    known_until = next.map_or(source.len(), |next| span.end + next);
                    "remove one of the two, or give it another name"
                } else {
                    "remove one of the two"
                };
                report.error(span, message, Some(help.to_owned()));
            } else {
                report.error(span, error.message().to_owned(), None);
            }
        }
        None
    };
    let cluster = cluster.filter(|_| !report.has_errors());

    // An array may be longer than the string that it was written as, so both are checked against the limit.
    if source.len() > MAX_CONTENT / 4
        && cluster
            .as_ref()
            .is_some_and(|cluster| cluster.render().len() > MAX_CONTENT)
    {
        return Checked::failed(too_large(file, source));
    }
    Checked {
        cluster,
        diagnostics: report.finish(),
    }
}

/// Checks content that a manager signed. It is not edited here, so only what makes it unusable is reported.
pub(super) fn content(file: &str, content: &str) -> Result<Cluster, ContentError> {
    if content.len() > MAX_CONTENT {
        return Err(ContentError::Invalid(vec![too_large(file, content)]));
    }
    let document = content::read(content).map_err(|unreadable| match unreadable {
        Unreadable::Newer(format) => ContentError::TooNew { format },
        Unreadable::Problem(place, message) => ContentError::Invalid(vec![Diagnostic::at(
            Severity::Error,
            file,
            content,
            place,
            message,
            None,
        )]),
    })?;
    let mut report = Report::of_errors(file, content);
    let cluster = Checker::new(&document, &mut report).cluster();
    match cluster.filter(|_| !report.has_errors()) {
        Some(cluster) => Ok(cluster),
        None => Err(ContentError::Invalid(report.finish())),
    }
}

impl Checked {
    fn failed(diagnostic: Diagnostic) -> Self {
        Checked {
            cluster: None,
            diagnostics: vec![diagnostic],
        }
    }
}

fn too_large(file: &str, source: &str) -> Diagnostic {
    let first = &source[..source.find('\n').unwrap_or(source.len())];
    let message = format!(
        "the file is too large: the limit is {} MiB",
        MAX_CONTENT >> 20
    );
    let help = Some(limits::REMEDY.to_owned());
    Diagnostic::at(Severity::Error, file, first, 0..0, message, help)
}

fn check_format(document: &Document<'_>, report: &mut Report<'_>) {
    match &document.format {
        Some(format) if format.value > u64::from(FORMAT) => report.error(
            format.span.clone(),
            format!("format {} is newer than this malai", format.value),
            Some("install a newer malai".to_owned()),
        ),
        Some(format) if format.value == 0 => report.error(
            format.span.clone(),
            "there is no format 0".to_owned(),
            Some(format!("write `format = {FORMAT}`, or leave it out")),
        ),
        _ => {}
    }
}

/// Given syntax errors, drops problems that may only be consequences of them: what was read between the line of
/// one and the next section, and what seems to be missing.
fn only_what_is_certain(report: &mut Report<'_>, source: &str, errors: &[toml::de::Error]) {
    // An array that is not closed swallows what follows, starting from its own section.
    if let Some(error) = errors.last().filter(|error| is_unclosed(source, error)) {
        let start = error.span().unwrap_or_default().start;
        let before = source.get(..start).unwrap_or_default();
        let section = before.trim_end().rfind("\n[").unwrap_or_default();
        let first = report.lines().index_of(section);
        report.retain(|is_missing, line| !is_missing && line <= first);
    }
    let lines = report.lines();
    let mut doubtful = HashSet::new();
    for error in errors {
        let start = error.span().unwrap_or_default().start;
        let first = lines.index_of(start);
        doubtful.insert(first);
        let after = lines.after(start).enumerate();
        for (line, text) in after.map(|(index, text)| (first + 1 + index, text)) {
            if text.trim_start().starts_with('[') || !doubtful.insert(line) {
                break;
            }
        }
    }
    report.retain(|is_missing, line| !is_missing && !doubtful.contains(&line));
}

/// Syntax errors without those that only follow from an array that is not closed: it swallows the rest of the
/// file, and each line of that would be an error.
pub fn without_consequences(
    source: &str,
    mut errors: Vec<toml::de::Error>,
) -> Vec<toml::de::Error> {
    errors.sort_by_key(|error| error.span().unwrap_or(source.len()..source.len()).start);
    if let Some(first) = errors.iter().position(|error| is_unclosed(source, error)) {
        errors.truncate(first + 1);
    }
    errors
}

/// Whether an error comes from an array without its `]`: the next line is then parsed as an element.
fn is_unclosed(source: &str, error: &toml::de::Error) -> bool {
    let start = error.span().unwrap_or(source.len()..source.len()).start;
    let line = source
        .get(..start)
        .and_then(|before| before.rsplit('\n').next());
    let begins_line = line.is_some_and(|line| line.trim().is_empty());
    error.message().contains("unclosed array")
        || begins_line
            && error
                .message()
                .contains("missing comma between array elements")
}

/// What a name in a list may stand for.
#[derive(Clone, Copy, PartialEq)]
enum Named {
    Machine(Member),
    Group(GroupIndex),
    /// Nothing that a list may contain: a service or a folder.
    Other(&'static str),
}

/// Checks all sections together.
struct Checker<'d, 't, 'r, 's> {
    document: &'d Document<'t>,
    report: &'r mut Report<'s>,
    /// By name; a machine's position here is its [`Member`] number.
    machines: Vec<&'d MachineSection<'t>>,
    groups: Vec<Group>,
    /// By name; a group's position here is its [`GroupIndex`].
    group_names: Vec<&'d GroupName>,
    names: HashMap<&'d str, Named>,
    ids: HashMap<MachineId, Member>,
    /// The same by text, so that an id52 that occurs in many lists is decoded only once.
    id_texts: HashMap<String, (MachineId, Option<Member>)>,
    /// How many keys in lists belong to no member.
    foreign_ids: usize,
    /// How many more names may be compared with mistyped ones.
    suggestions: usize,
}

impl<'d, 't, 'r, 's> Checker<'d, 't, 'r, 's> {
    fn new(document: &'d Document<'t>, report: &'r mut Report<'s>) -> Self {
        let mut machines: Vec<_> = document.machines.iter().collect();
        machines.sort_by(|a, b| a.name.value.cmp(&b.name.value));
        Checker {
            document,
            report,
            machines,
            groups: Vec::new(),
            group_names: Vec::new(),
            names: HashMap::new(),
            ids: HashMap::new(),
            id_texts: HashMap::new(),
            foreign_ids: 0,
            suggestions: 250_000,
        }
    }

    /// The cluster. It must be discarded if the report has errors.
    fn cluster(mut self) -> Option<Cluster> {
        if !limits::keeps_to_them(self.document, self.report) {
            return None;
        }
        self.repeated_ids();
        self.collect_names();
        self.resolve_groups();
        let machines = self.resolve_machines();
        let services = self.resolve_services();
        let folders = self.resolve_folders();
        if self.report.has_errors() {
            return None;
        }
        forced::check(self.document, &machines, &self.groups, self.report);
        if self.report.has_errors() {
            return None;
        }
        if self.report.wants_warnings() {
            let (groups, report) = (&self.groups, &mut *self.report);
            warn::warn(
                self.document,
                &machines,
                groups,
                &services,
                &folders,
                report,
            );
        }
        let id = ClusterId::new(self.document.manager?);
        let name = &self.document.cluster_name;
        let groups = self.groups;
        let network = self.document.network.clone().unwrap_or_default();
        Some(Cluster::new(
            id, name, machines, groups, services, folders, network,
        ))
    }

    fn repeated_ids(&mut self) {
        let mut first: HashMap<MachineId, &MachineSection<'_>> = HashMap::new();
        for section in &self.document.machines {
            let Some(id) = &section.id else { continue };
            if self.report.is_full() {
                return;
            }
            if let Some(other) = first.get(&id.value) {
                let (name, line) = (&other.name.value, self.report.line(other.name.span.start));
                self.report.error(
                    id.span.clone(),
                    format!("this id52 already belongs to machine `{name}`, on line {line}"),
                    Some(
                        "every machine has its own key: run `malai machine init` on it".to_owned(),
                    ),
                );
            } else {
                first.insert(id.value, section);
            }
        }
    }

    fn collect_names(&mut self) {
        for (index, section) in self.machines.iter().enumerate() {
            let member = index as Member;
            self.names
                .insert(section.name.value.as_str(), Named::Machine(member));
            if let Some(id) = &section.id {
                self.ids.entry(id.value).or_insert(member);
            }
        }
        if let Some(manager) = self.document.manager {
            self.ids
                .entry(manager)
                .or_insert(self.machines.len() as Member);
        }
        self.id_texts = self
            .ids
            .iter()
            .map(|(id, member)| (id.to_string(), (*id, Some(*member))))
            .collect();

        let mut names: Vec<_> = self
            .document
            .groups
            .iter()
            .map(|group| &group.name)
            .collect();
        names.sort_by(|a, b| a.value.cmp(&b.value));
        self.group_names = names.iter().map(|name| &name.value).collect();
        for (index, name) in names.into_iter().enumerate() {
            if self.report.is_full() {
                return;
            }
            let group = Named::Group(index as GroupIndex);
            self.claim(name.value.as_str(), &name.span, group);
        }
        for service in &self.document.services {
            let name = &service.name;
            self.claim(name.value.as_str(), &name.span, Named::Other("service"));
        }
        for folder in &self.document.folders {
            let name = &folder.name;
            self.claim(name.value.as_str(), &name.span, Named::Other("folder"));
        }
    }

    /// Gives a name its meaning. All kinds of names share one space, because each is written as `<name>.<cluster>`.
    fn claim(&mut self, name: &'d str, span: &Range<usize>, named: Named) {
        if self.report.is_full() {
            return;
        }
        // The first keeps the name, so that lists with it are no further errors.
        let first = *self.names.entry(name).or_insert(named);
        let (kind, other) = match first {
            first if first == named => return,
            Named::Machine(member) => {
                let section = self.machines[member as usize];
                ("machine", Some(&section.name.span))
            }
            Named::Group(_) => {
                let mut groups = self.document.groups.iter();
                let section = groups.find(|group| group.name.value.as_str() == name);
                ("group", section.map(|section| &section.name.span))
            }
            Named::Other(kind) => (kind, None),
        };
        let line = other.map(|span| self.report.line(span.start));
        let place = line.map_or_else(String::new, |line| format!(", on line {line}"));
        self.report.error(
            span.clone(),
            format!("`{name}` is also a {kind}{place}"),
            Some("a name must have one meaning: rename one of them".to_owned()),
        );
    }

    fn resolve_groups(&mut self) {
        let mut sections: Vec<_> = self.document.groups.iter().collect();
        sections.sort_by(|a, b| a.name.value.cmp(&b.name.value));
        for section in &sections {
            let mut entries = Vec::new();
            let (mut direct, mut inner) = (Vec::new(), Vec::new());
            let mut seen = HashSet::new();
            for entry in section.members.iter().flat_map(|list| &list.entries) {
                match self.entry(entry, &mut seen) {
                    Some((_, Entry::Everyone)) => self.report.error(
                        entry.span.clone(),
                        "a group cannot contain `*`".to_owned(),
                        Some("write `allow_from = \"*\"` to allow every member".to_owned()),
                    ),
                    Some((named, entry)) => {
                        match named {
                            Some(Named::Machine(member)) => direct.push(member),
                            Some(Named::Group(group)) => inner.push(group),
                            Some(Named::Other(_)) | None => {}
                        }
                        entries.push(entry);
                    }
                    None => {}
                }
            }
            let name = section.name.value.clone();
            self.groups.push(Group::new(name, entries, direct, inner));
        }
        let members = self.machines.len() + 1;
        let problems = flatten(&mut self.groups, members).err();
        for problem in problems.into_iter().flatten() {
            match problem {
                FlattenError::Cycle(way) => self.cycle(&way),
                FlattenError::TooDeep(group) => self.too_deep(group),
                FlattenError::TooMany => self.report.error(
                    0..0,
                    "the groups have too many members, including those of the groups inside them"
                        .to_owned(),
                    Some("nest fewer groups".to_owned()),
                ),
            }
        }
    }

    fn too_deep(&mut self, group: GroupIndex) {
        let name = self.groups[group as usize].name().as_str();
        let mut sections = self.document.groups.iter();
        let section = sections.find(|section| section.name.value.as_str() == name);
        let span = section.map_or(0..0, |section| section.name.span.clone());
        self.report.error(
            span,
            format!("groups are nested more than {MAX_GROUP_DEPTH} deep, starting from `{name}`"),
            Some("nest fewer groups".to_owned()),
        );
    }

    fn cycle(&mut self, way: &[GroupIndex]) {
        const SHOWN: usize = 60;
        let names: Vec<&str> = way
            .iter()
            .map(|group| self.groups[*group as usize].name().as_str())
            .collect();
        let path = if names.len() > SHOWN {
            format!("{} → … → {}", names[..SHOWN].join(" → "), names[0])
        } else {
            names.join(" → ")
        };
        // The entry that closes the cycle is in the last group before the first one repeats.
        let (last, first) = (names[names.len().saturating_sub(2)], names[0]);
        let section = self
            .document
            .groups
            .iter()
            .find(|section| section.name.value.as_str() == last);
        let entry = section.and_then(|section| {
            let entries = &section.members.as_ref()?.entries;
            entries.iter().find(|entry| entry.value == first)
        });
        let span = entry.map_or(0..0, |entry| entry.span.clone());
        let message = format!("group `{first}` contains itself: {path}");
        self.report.error(
            span,
            message,
            Some("remove one of them from the next".to_owned()),
        );
    }

    fn resolve_machines(&mut self) -> Vec<Machine> {
        let sections = self.machines.clone();
        sections
            .into_iter()
            .filter_map(|section| self.machine(section))
            .collect()
    }

    fn machine(&mut self, section: &MachineSection<'_>) -> Option<Machine> {
        let allow_from = section
            .allow_from
            .as_ref()
            .map(|list| self.allow_list(list));
        let allow_shell = section
            .allow_shell
            .as_ref()
            .map(|list| self.allow_list(list));
        let allow_files = section
            .allow_files
            .as_ref()
            .map(|list| self.allow_list(list));
        let allow_forward = section
            .allow_forward
            .as_ref()
            .map(|list| self.allow_list(list));
        let mut commands: Vec<Command> = section
            .commands
            .iter()
            .map(|command| Command {
                name: command.name.clone(),
                line: command.line.as_deref().map(Into::into),
                words: command.words.clone(),
                allow_from: command
                    .allow_from
                    .as_ref()
                    .map(|list| self.allow_list(list)),
                usernames: command.usernames.clone().into(),
                args: command.args,
                forced: command.forced,
            })
            .collect();
        commands.sort_by(|a, b| a.name.cmp(&b.name));
        Some(Machine {
            name: section.name.value.clone(),
            id: section.id.as_ref()?.value,
            allow_from,
            allow_shell,
            allow_files,
            allow_forward,
            usernames: section.usernames.clone().into(),
            accept_env: section.accept_env.clone().map(Into::into),
            commands: commands.into(),
        })
    }
}

#[cfg(test)]
mod tests;
