//! Edits of a cluster.toml that keep its comments, order and layout.

mod alias;
mod change;

use toml_edit::{Array, DocumentMut, Item, Table, TableLike, Value, value};

use super::render::string;
use crate::identity::MachineId;
use crate::name::{ClusterAlias, GroupName, MachineName};

pub use alias::{follow_alias, forget_alias};
pub use change::{ListChange, MachineChange, UserChange, change_machine, rename_machine};

/// Adds a machine's section at the end of the file. With an empty `allow_from` that key is not written: the default is
/// that no one may run commands.
///
/// # Errors
///
/// [`EditError::Exists`] if there is a machine with that name, [`EditError::Syntax`] if the file is not
/// TOML. Whether the result is a valid cluster is up to [`check`](super::check).
pub fn add_machine(
    source: &str,
    name: &MachineName,
    id: &MachineId,
    allow_from: &[String],
) -> Result<String, EditError> {
    let mut document = parse(source)?;
    let machines = document.entry("machine").or_insert_with(|| {
        let mut table = Table::new();
        table.set_implicit(true);
        Item::Table(table)
    });
    let is_sections = machines.is_table();
    let machines = machines.as_table_like_mut().ok_or(EditError::NotSections)?;
    if machines.contains_key(name.as_str()) {
        return Err(EditError::Exists { name: name.clone() });
    }
    if is_sections {
        // A person would also add it after the last line.
        let mut out = source.to_owned();
        if !out.is_empty() && !out.ends_with('\n') {
            out.push('\n');
        }
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(&format!("[machine.{name}]\nid52 = \"{id}\"\n"));
        match allow_from {
            [] => {}
            [one] => out.push_str(&format!("allow_from = {}\n", string(one))),
            several => {
                let entries: Vec<String> = several.iter().map(|entry| string(entry)).collect();
                out.push_str(&format!("allow_from = [{}]\n", entries.join(", ")));
            }
        }
        return Ok(with_line_ends_of(source, out));
    }
    // `machine = { … }` can only be extended in place.
    let mut section = toml_edit::InlineTable::new();
    section.insert("id52", id.to_string().into());
    if !allow_from.is_empty() {
        section.insert(
            "allow_from",
            Value::Array(allow_from.iter().collect::<Array>()),
        );
    }
    machines.insert(name.as_str(), value(section));
    Ok(with_line_ends_of(source, document.to_string()))
}

/// Removes a machine's section, those of its services and folders, and its name and id52 from every list.
///
/// A list that becomes empty stays, because without it a wider rule could apply. The comment directly above the
/// section is removed with it; a comment separated by a blank line stays.
///
/// # Errors
///
/// [`EditError::Unknown`] if there is no machine with that name, [`EditError::Syntax`] if the file is not
/// TOML.
pub fn remove_machine(source: &str, name: &MachineName) -> Result<String, EditError> {
    let mut document = parse(source)?;
    let machines = document
        .get_mut("machine")
        .and_then(Item::as_table_like_mut);
    let unknown = || EditError::Unknown { name: name.clone() };
    let machines = machines.ok_or_else(unknown)?;
    let removed = machines.remove(name.as_str()).ok_or_else(unknown)?;
    let id = removed
        .get("id52")
        .and_then(Item::as_str)
        .unwrap_or_default();
    let mut apart = comments_apart(&removed);
    let gone = |entry: &str| entry == name.as_str() || (!id.is_empty() && entry == id);
    for (_, machine) in machines.iter_mut() {
        let Some(machine) = machine.as_table_like_mut() else {
            continue;
        };
        drop_from(machine, MACHINE_LISTS, &gone);
        let commands = machine.get_mut("command").and_then(Item::as_table_like_mut);
        for (_, command) in commands
            .into_iter()
            .flat_map(|commands| commands.iter_mut())
        {
            if let Some(command) = command.as_table_like_mut() {
                drop_from(command, &["allow_from"], &gone);
            }
        }
    }
    for kind in ON_A_MACHINE {
        let sections = document.get_mut(kind).and_then(Item::as_table_like_mut);
        let Some(sections) = sections else { continue };
        let is_its =
            |section: &Item| section.get("machine").and_then(Item::as_str) == Some(name.as_str());
        let its = sections.iter().filter(|(_, section)| is_its(section));
        let its: Vec<String> = its.map(|(section, _)| section.to_owned()).collect();
        for section in its {
            let removed = sections.remove(&section);
            apart.extend(removed.iter().flat_map(comments_apart));
        }
    }
    for (kind, key) in LISTS {
        for section in sections(document.as_table_mut(), kind) {
            drop_from(section, &[key], &gone);
        }
    }
    apart.sort_by_key(|(position, _)| *position);
    for (position, comments) in apart {
        put_back(&mut document, position, &comments);
    }
    Ok(with_line_ends_of(source, document.to_string()))
}

/// The lists of members in a machine's section.
const MACHINE_LISTS: &[&str] = &["allow_from", "allow_shell", "allow_files", "allow_forward"];

/// The list of members in each other kind of section.
const LISTS: [(&str, &str); 3] = [
    ("group", "members"),
    ("service", "allow_from"),
    ("folder", "allow_from"),
];

/// Kinds of sections that name their machine.
const ON_A_MACHINE: [&str; 2] = ["service", "folder"];

/// The sections of one kind, as `[group.…]`.
fn sections<'d>(
    document: &'d mut Table,
    kind: &str,
) -> impl Iterator<Item = &'d mut dyn TableLike> {
    let all = document.get_mut(kind).and_then(Item::as_table_like_mut);
    let each = all.into_iter().flat_map(|sections| sections.iter_mut());
    each.filter_map(|(_, section)| section.as_table_like_mut())
}

/// Why a cluster.toml could not be edited.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// There already is a machine with that name.
    #[error("a machine `{name}` already exists: choose another name, or remove that machine first")]
    Exists {
        /// The name.
        name: MachineName,
    },
    /// There is no machine with that name.
    #[error("there is no machine `{name}`")]
    Unknown {
        /// The name.
        name: MachineName,
    },
    /// `malai.toml` already has a section for the cluster's new alias.
    #[error(
        "a section [accept.{alias}] already exists: choose another alias, or remove that section first"
    )]
    AcceptExists {
        /// The alias.
        alias: ClusterAlias,
    },
    /// There is no group with that name.
    #[error("there is no group `{name}`")]
    UnknownGroup {
        /// The name.
        name: GroupName,
    },
    /// `group` is not a section.
    #[error("`group` is not a section: run `malai rescan --check` and fix the file first")]
    NotGroups,
    /// `machine` is not a section.
    #[error("`machine` is not a section: run `malai rescan --check` and fix the file first")]
    NotSections,
    /// The file is not TOML.
    #[error("the file is not valid TOML ({0}): run `malai rescan --check` and fix it first")]
    Syntax(String),
}

fn parse(source: &str) -> Result<DocumentMut, EditError> {
    source
        .parse()
        .map_err(|error: toml_edit::TomlError| EditError::Syntax(error.message().to_owned()))
}

/// toml_edit writes `\n` and no byte order mark; this restores those of the source.
fn with_line_ends_of(source: &str, text: String) -> String {
    let mut text = text;
    if source.contains("\r\n") {
        text = text.replace("\r\n", "\n").replace('\n', "\r\n");
    }
    if source.starts_with('\u{feff}') && !text.starts_with('\u{feff}') {
        text.insert(0, '\u{feff}');
    }
    text
}

/// Comments above the header of a section and its subsections that a blank line separates from it: they belong
/// to the file. Each comes with the header's position.
fn comments_apart(section: &Item) -> Vec<(isize, String)> {
    let mut found = Vec::new();
    for table in tables(section) {
        let prefix = table.decor().prefix().and_then(|prefix| prefix.as_str());
        let (Some(position), Some(prefix)) = (table.position(), prefix) else {
            continue;
        };
        let lines: Vec<&str> = prefix.split_inclusive('\n').collect();
        let blank = lines.iter().rposition(|line| line.trim().is_empty());
        let apart = lines[..blank.map_or(0, |blank| blank + 1)].concat();
        if !apart.trim().is_empty() {
            found.push((position, apart));
        }
    }
    found.sort_by_key(|(position, _)| *position);
    found
}

/// Puts comments before the next header after this position, or at the end of the file.
fn put_back(document: &mut DocumentMut, position: isize, comments: &str) {
    let next = tables(document.as_item())
        .filter_map(Table::position)
        .filter(|other| *other > position)
        .min();
    let joined = |after: &str| match after.starts_with('\n') || next.is_none() && after.is_empty() {
        true => format!("{}\n{after}", comments.trim_end()),
        false => format!("{comments}{after}"),
    };
    let Some(next) = next else {
        let after = document.trailing().as_str().unwrap_or_default().to_owned();
        return document.set_trailing(joined(&after));
    };
    let mut waiting = vec![document.as_item_mut()];
    while let Some(item) = waiting.pop() {
        if let Item::Table(table) = item {
            if table.position() == Some(next) {
                let prefix = table.decor().prefix().and_then(|prefix| prefix.as_str());
                let prefix = joined(prefix.unwrap_or_default());
                return table.decor_mut().set_prefix(prefix);
            }
            waiting.extend(table.iter_mut().map(|(_, item)| item));
        }
    }
}

/// A table and all tables in it that have headers.
fn tables(item: &Item) -> impl Iterator<Item = &Table> {
    let mut waiting = vec![item];
    std::iter::from_fn(move || {
        while let Some(item) = waiting.pop() {
            if let Item::Table(table) = item {
                waiting.extend(table.iter().map(|(_, item)| item));
                return Some(table);
            }
        }
        None
    })
}

/// Removes entries from the lists under these keys. Lists without such entries stay as written.
fn drop_from(table: &mut dyn TableLike, keys: &[&str], gone: &impl Fn(&str) -> bool) {
    for key in keys {
        let Some(list) = table.get_mut(key).and_then(Item::as_value_mut) else {
            continue;
        };
        match list {
            Value::Array(array) => array.retain(|entry| !entry.as_str().is_some_and(gone)),
            Value::String(text) => {
                let entries = text.value().split(',').map(str::trim);
                if entries.clone().any(gone) {
                    let kept: Vec<_> = entries.filter(|entry| !gone(entry)).collect();
                    let (kept, decor) = (kept.join(","), text.decor().clone());
                    *list = kept.into();
                    *list.decor_mut() = decor;
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
