//! Reads signed content: only the spelling that [`render`](super::render) writes, and no other TOML.
//!
//! Anyone with a manager's key can sign anything, so entries are counted before they are stored, and reading takes
//! time and memory in proportion to the bytes sent. A general TOML parser cannot guarantee that: a dotted key of
//! thirty bytes makes sixteen tables.

mod folder;
mod network;
mod service;

use std::borrow::Cow;
use std::ops::Range;

use super::document::{
    CommandSection, Document, GroupSection, List, MachineSection, Spanned, command_words,
    is_cluster_name,
};
use super::limits::{Counts, MAX_ENV_PATTERNS, MAX_USERS};
use super::{FORMAT, render::key};
use crate::environment::EnvPattern;
use crate::identity::MachineId;
use crate::name::{CommandName, GroupName, MachineName, UserName};

/// Why content cannot be read.
pub(super) enum Unreadable {
    /// Its format is newer than [`FORMAT`].
    Newer(u32),
    /// Not as a manager writes it, starting at this place.
    Problem(Range<usize>, String),
}

type Read<T> = Result<T, Unreadable>;

/// Reads the whole content, up to the first mistake.
pub(super) fn read(content: &str) -> Read<Document<'_>> {
    let mut reader = Reader {
        content,
        at: 0,
        counts: Counts::default(),
    };
    reader.format()?;
    let mut document = Document::default();
    reader.expect("")?;
    reader.expect("[cluster_manager]")?;
    if let Some((text, place)) = reader.string("cluster_name")? {
        if !is_cluster_name(&text) || text.is_empty() {
            return Err(problem(place, "`cluster_name` is not valid"));
        }
        document.cluster_name = text;
    }
    let (manager, _) = reader.id()?;
    document.manager = Some(manager);
    while reader.line().is_some() {
        reader.expect("")?;
        let (header, place) = reader.header()?;
        if let Some(name) = header.strip_prefix("folder.") {
            reader.folder(name, place, &mut document)?;
        } else if let Some(name) = header.strip_prefix("group.") {
            reader.group(name, place, &mut document)?;
        } else if let Some(rest) = header.strip_prefix("machine.") {
            match rest.split_once(".command.") {
                None => reader.machine(rest, place, &mut document)?,
                Some((machine, name)) => reader.command(machine, name, place, &mut document)?,
            }
        } else if header == "network" {
            reader.network(place, &mut document)?;
        } else if let Some(name) = header.strip_prefix("service.") {
            reader.service(name, place, &mut document)?;
        } else {
            return Err(problem(place, "unknown section"));
        }
    }
    Ok(document)
}

struct Reader<'t> {
    content: &'t str,
    /// Where the next line starts.
    at: usize,
    counts: Counts,
}

impl<'t> Reader<'t> {
    /// The next line, without its line ending.
    fn line(&self) -> Option<&'t str> {
        let rest = &self.content[self.at..];
        (!rest.is_empty()).then(|| &rest[..rest.find('\n').unwrap_or(rest.len())])
    }

    /// The place of the next line.
    fn place(&self) -> Range<usize> {
        self.at..self.at + self.line().map_or(0, str::len)
    }

    /// Moves to the next line.
    fn advance(&mut self) -> Read<()> {
        let place = self.place();
        if self.content.as_bytes().get(place.end) != Some(&b'\n') {
            return Err(problem(place, "it ends in the middle of a line"));
        }
        self.at = place.end + 1;
        Ok(())
    }

    fn expect(&mut self, line: &str) -> Read<()> {
        if self.line() != Some(line) {
            let wanted = match line {
                "" => "an empty line is missing".to_owned(),
                line => format!("`{line}` is missing"),
            };
            return Err(problem(self.place(), wanted));
        }
        self.advance()
    }

    fn format(&mut self) -> Read<()> {
        let line = self.line().and_then(|line| line.strip_prefix("format = "));
        let digits = line.filter(|text| {
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0')
        });
        let Some(digits) = digits else {
            return Err(problem(self.place(), "`format` is missing"));
        };
        // More digits than fit into the number also mean a newer format.
        match digits.parse().unwrap_or(u32::MAX) {
            1..=FORMAT => self.advance(),
            newer => Err(Unreadable::Newer(newer)),
        }
    }

    /// The text in the brackets of a section header.
    fn header(&mut self) -> Read<(&'t str, Range<usize>)> {
        let place = self.place();
        let line = self.line().unwrap_or_default();
        let name = line.strip_prefix('[').and_then(|l| l.strip_suffix(']'));
        let name = name.ok_or_else(|| problem(place.clone(), "a section is missing"))?;
        self.advance()?;
        Ok((name, place.start + 1..place.end - 1))
    }

    /// The value of a key and its place, if the next line sets this key.
    fn value(&mut self, key: &str) -> Read<Option<(&'t str, Range<usize>)>> {
        let value = self.line().and_then(|line| line.strip_prefix(key));
        let Some(value) = value.and_then(|rest| rest.strip_prefix(" = ")) else {
            return Ok(None);
        };
        let end = self.place().end;
        self.advance()?;
        Ok(Some((value, end - value.len()..end)))
    }

    fn string(&mut self, key: &str) -> Read<Option<(Cow<'t, str>, Range<usize>)>> {
        let Some((value, place)) = self.value(key)? else {
            return Ok(None);
        };
        match unquote(value) {
            Some(text) => Ok(Some((text, place))),
            None => Err(problem(place, format!("`{key}` is not a string"))),
        }
    }

    fn id(&mut self) -> Read<(MachineId, Range<usize>)> {
        let Some((text, place)) = self.string("id52")? else {
            return Err(problem(self.place(), "`id52` is missing"));
        };
        match MachineId::parse(&text) {
            Ok(id) => Ok((id, place)),
            Err(error) => Err(problem(place, error.to_string())),
        }
    }

    /// One user as a string, or several as an array.
    fn users(&mut self) -> Read<Vec<UserName>> {
        let entries = if self.next_is_array("username") {
            self.list("username")?
                .map_or_else(Vec::new, |list| list.entries)
        } else {
            let Some((text, place)) = self.string("username")? else {
                return Ok(Vec::new());
            };
            let user = UserName::parse(&text).map_err(|error| problem(place, error.to_string()))?;
            return Ok(vec![user]);
        };
        if let Some(entry) = entries.get(MAX_USERS) {
            let what = format!("more than {MAX_USERS} users");
            return Err(problem(entry.span.clone(), what));
        }
        let mut users: Vec<UserName> = Vec::with_capacity(entries.len());
        for entry in entries {
            let user = UserName::parse(entry.value);
            let user = user.map_err(|error| problem(entry.span.clone(), error.to_string()))?;
            if users.contains(&user) {
                return Err(problem(entry.span, "the user is listed twice"));
            }
            users.push(user);
        }
        Ok(users)
    }

    fn env_patterns(&mut self) -> Read<Option<Vec<EnvPattern>>> {
        let Some(list) = self.list("accept_env")? else {
            return Ok(None);
        };
        if let Some(entry) = list.entries.get(MAX_ENV_PATTERNS) {
            let what = format!("more than {MAX_ENV_PATTERNS} variables");
            return Err(problem(entry.span.clone(), what));
        }
        let pattern = |entry: Spanned<&str>| {
            EnvPattern::parse(entry.value).map_err(|error| problem(entry.span, error.to_string()))
        };
        list.entries
            .into_iter()
            .map(pattern)
            .collect::<Read<_>>()
            .map(Some)
    }

    fn next_is_array(&self, name: &str) -> bool {
        let rest = self.content[self.at..].strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with(" = ["))
    }

    /// A list, as an array of strings without escapes.
    fn list(&mut self, name: &str) -> Read<Option<List<'t>>> {
        self.list_of(name, b"-*_.$")
    }

    /// The same for entries of letters, digits and these characters.
    fn list_of(&mut self, name: &str, others: &[u8]) -> Read<Option<List<'t>>> {
        let start = self.at;
        let Some((value, place)) = self.value(name)? else {
            return Ok(None);
        };
        let wrong = || problem(place.clone(), format!("`{name}` is not a list of strings"));
        let inside = value.strip_prefix('[').and_then(|v| v.strip_suffix(']'));
        let inside = inside.ok_or_else(wrong)?;
        let count = match inside {
            "" => 0,
            inside => inside.matches(',').count() + 1,
        };
        self.counts
            .entries(count)
            .map_err(|error| problem(place.clone(), error))?;
        let mut entries = Vec::with_capacity(count);
        let mut at = place.start + 1;
        for element in inside.split(", ").take(count) {
            let value = element.strip_prefix('"').and_then(|e| e.strip_suffix('"'));
            let value = value.filter(|value| {
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || others.contains(&byte);
                !value.is_empty() && value.bytes().all(plain)
            });
            let value = value.ok_or_else(wrong)?;
            let span = at + 1..at + 1 + value.len();
            entries.push(Spanned { value, span });
            at += element.len() + ", ".len();
        }
        let key = start..start + name.len();
        Ok(Some(List { key, entries }))
    }

    fn group(&mut self, name: &str, place: Range<usize>, document: &mut Document<'t>) -> Read<()> {
        self.counts
            .group()
            .map_err(|error| problem(place.clone(), error))?;
        let name = GroupName::parse(name);
        let name = name.map_err(|error| problem(place.clone(), error.to_string()))?;
        let sorted = document
            .groups
            .last()
            .is_none_or(|last| last.name.value < name);
        if !sorted || !document.machines.is_empty() || document.is_past_machines() {
            return Err(problem(place, "the group is not in sorted order"));
        }
        let members = self.list("members")?;
        if members.is_none() {
            return Err(problem(self.place(), "`members` is missing"));
        }
        let name = Spanned {
            value: name,
            span: place,
        };
        document.groups.push(GroupSection { name, members });
        Ok(())
    }

    fn machine(
        &mut self,
        name: &str,
        place: Range<usize>,
        document: &mut Document<'t>,
    ) -> Read<()> {
        self.counts
            .machine()
            .map_err(|error| problem(place.clone(), error))?;
        let name = MachineName::parse(name);
        let name = name.map_err(|error| problem(place.clone(), error.to_string()))?;
        let sorted = document
            .machines
            .last()
            .is_none_or(|last| last.name.value < name);
        if !sorted || document.is_past_machines() {
            return Err(problem(place, "the machine is not in sorted order"));
        }
        let accept_env = self.env_patterns()?;
        let allow_files = self.list("allow_files")?;
        let allow_forward = self.list("allow_forward")?;
        let allow_from = self.list("allow_from")?;
        let allow_shell = self.list("allow_shell")?;
        let (value, span) = self.id()?;
        let usernames = self.users()?;
        document.machines.push(MachineSection {
            name: Spanned {
                value: name,
                span: place,
            },
            id: Some(Spanned { value, span }),
            allow_from,
            allow_shell,
            allow_files,
            allow_forward,
            usernames,
            accept_env,
            commands: Vec::new(),
        });
        Ok(())
    }

    fn command(
        &mut self,
        machine: &str,
        written: &str,
        place: Range<usize>,
        document: &mut Document<'t>,
    ) -> Read<()> {
        self.counts
            .command()
            .map_err(|error| problem(place.clone(), error))?;
        let wrong = |error: &str| problem(place.clone(), error);
        let past = document.is_past_machines();
        let machine = document
            .machines
            .last_mut()
            .filter(|last| last.name.value.as_str() == machine && !past)
            .ok_or_else(|| wrong("the command is not in sorted order"))?;
        let name = unquote(written).unwrap_or(Cow::Borrowed(written));
        let name = CommandName::parse(&name).map_err(|error| wrong(&error.to_string()))?;
        let sorted = machine.commands.last().is_none_or(|last| last.name < name);
        if !sorted || key(name.as_str()) != written {
            return Err(wrong("the command is not in sorted order"));
        }
        let allow_from = self.list("allow_from")?;
        let args = match self.value("args")? {
            None => false,
            Some(("true", _)) => true,
            Some((_, place)) => return Err(problem(place, "`args` is not `true`")),
        };
        let (line, words) = match self.string("command")? {
            None => (None, None),
            Some((line, place)) => {
                let words = command_words(&line).map_err(|(error, _)| problem(place, error))?;
                (Some(line), Some(words))
            }
        };
        let forced = match self.value("forced")? {
            None => false,
            Some(("true", _)) => true,
            Some((_, place)) => return Err(problem(place, "`forced` is not `true`")),
        };
        let usernames = self.users()?;
        machine.commands.push(CommandSection {
            words: words.unwrap_or_else(|| crate::command::Words::one(name.as_str())),
            name,
            name_span: place,
            line,
            allow_from,
            usernames,
            args,
            forced,
        });
        Ok(())
    }
}

fn problem(place: Range<usize>, what: impl Into<String>) -> Unreadable {
    Unreadable::Problem(place, what.into())
}

/// The text of a string as [`render`](super::render) writes it, which escapes each character in exactly one way.
fn unquote(written: &str) -> Option<Cow<'_, str>> {
    let inside = written.strip_prefix('"')?.strip_suffix('"')?;
    if !inside.contains(|c: char| c == '"' || c == '\\' || c.is_ascii_control()) {
        return Some(Cow::Borrowed(inside));
    }
    let mut text = String::with_capacity(inside.len());
    let mut rest = inside;
    while let Some(next) = rest.find(|c: char| c == '"' || c == '\\' || c.is_ascii_control()) {
        text.push_str(&rest[..next]);
        let escape = rest[next..].strip_prefix('\\')?;
        let (character, after) = match escape.as_bytes().first()? {
            b'"' => ('"', &escape[1..]),
            b'\\' => ('\\', &escape[1..]),
            b'u' => {
                let digits = escape.get(1..5)?;
                let value = u32::from_str_radix(digits, 16).ok()?;
                let control = char::from_u32(value).filter(char::is_ascii_control)?;
                (digits == format!("{value:04X}")).then_some((control, &escape[5..]))?
            }
            _ => return None,
        };
        text.push(character);
        rest = after;
    }
    text.push_str(rest);
    Some(Cow::Owned(text))
}

/// Finds the key or section that a rule's path names in signed content: the bytes of its name.
pub(super) fn locate(content: &str, path: &str) -> Option<Range<usize>> {
    let (section, name) = path.rsplit_once('.').unwrap_or((path, ""));
    let mut at = 0;
    let mut inside = false;
    for line in content.split_inclusive('\n') {
        let text = line.trim_end_matches('\n');
        if let Some(header) = text.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            if header == path {
                let name = match header.strip_suffix('"') {
                    Some(open) => open.rfind('"'),
                    None => header.rfind('.').map(|dot| dot + 1),
                };
                let start = at + 1;
                return Some(start + name.unwrap_or(0)..start + header.len());
            }
            inside = header == section;
        } else if inside
            && text
                .strip_prefix(name)
                .is_some_and(|r| r.starts_with(" = "))
        {
            return Some(at..at + name.len());
        }
        at += line.len();
    }
    None
}
