//! Edits of one machine: its section, its name, and its groups.

use toml_edit::{Array, Item, Table, TableLike, Value};

use super::{
    EditError, LISTS, MACHINE_LISTS, ON_A_MACHINE, drop_from, parse, sections, with_line_ends_of,
};
use crate::identity::MachineId;
use crate::name::{GroupName, MachineName, UserName};

/// Changes to a machine. Fields that are `None` or empty stay as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MachineChange {
    /// Its key, after a reinstall. The machine keeps its name and its place in all lists.
    pub id52: Option<MachineId>,
    /// Who may run commands.
    pub allow_from: Option<ListChange>,
    /// Who may open a shell.
    pub allow_shell: Option<ListChange>,
    /// Who may copy files.
    pub allow_files: Option<ListChange>,
    /// Who may reach what it reaches.
    pub allow_forward: Option<ListChange>,
    /// The users that commands run as.
    pub username: Option<UserChange>,
    /// Groups to add it to; a group that does not exist is created.
    pub add_to: Vec<GroupName>,
    /// Groups to remove it from.
    pub remove_from: Vec<GroupName>,
}

/// A change of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListChange {
    /// Sets exactly these entries.
    To(Vec<String>),
    /// Removes the key, so the default applies.
    Unset,
}

/// A change of users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserChange {
    /// Sets these; the first is the default.
    To(Vec<UserName>),
    /// Removes the key, so the default applies.
    Unset,
}

/// Changes a machine's section and its groups.
///
/// A list stays a string or an array, and entries that stay keep their comments.
///
/// # Errors
///
/// [`EditError::Unknown`] if there is no machine with that name, [`EditError::UnknownGroup`] if it is to be removed
/// from a group that does not exist, [`EditError::Syntax`] if the file is not TOML. Whether the result is a valid
/// cluster is up to [`check`](super::super::check).
pub fn change_machine(
    source: &str,
    name: &MachineName,
    change: &MachineChange,
) -> Result<String, EditError> {
    let mut document = parse(source)?;
    let unknown = || EditError::Unknown { name: name.clone() };
    let machine = document
        .get_mut("machine")
        .and_then(Item::as_table_like_mut)
        .and_then(|machines| machines.get_mut(name.as_str()))
        .and_then(Item::as_table_like_mut)
        .ok_or_else(unknown)?;
    let old_id = machine.get("id52").and_then(Item::as_str);
    let old_id = old_id.map(str::to_owned);
    if let Some(id) = &change.id52 {
        set_text(machine, "id52", &id.to_string());
    }
    for (key, list) in [
        ("allow_from", &change.allow_from),
        ("allow_shell", &change.allow_shell),
        ("allow_files", &change.allow_files),
        ("allow_forward", &change.allow_forward),
    ] {
        match list {
            Some(ListChange::To(entries)) => set_list(machine, key, entries),
            Some(ListChange::Unset) => drop(machine.remove(key)),
            None => {}
        }
    }
    match &change.username {
        Some(UserChange::To(users)) => set_users(machine, users),
        Some(UserChange::Unset) => drop(machine.remove("username")),
        None => {}
    }
    if let (Some(new), Some(old)) = (&change.id52, &old_id) {
        let new = new.to_string();
        each_list(document.as_table_mut(), &mut |list| {
            replace_in(list, old, &new)
        });
    }
    for group in &change.remove_from {
        let section = document
            .get_mut("group")
            .and_then(Item::as_table_like_mut)
            .and_then(|groups| groups.get_mut(group.as_str()))
            .and_then(Item::as_table_like_mut);
        let section = section.ok_or_else(|| EditError::UnknownGroup {
            name: group.clone(),
        })?;
        let gone = |entry: &str| entry == name.as_str() || Some(entry) == old_id.as_deref();
        drop_from(section, &["members"], &gone);
    }
    for group in &change.add_to {
        add_to_group(document.as_table_mut(), group, name)?;
    }
    Ok(with_line_ends_of(source, document.to_string()))
}

/// Renames a machine: in its section's header, in every list, and in the sections of its services and folders.
///
/// # Errors
///
/// [`EditError::Unknown`] if there is no machine with the old name, [`EditError::Exists`] if there is one with the
/// new name, [`EditError::Syntax`] if the file is not TOML.
pub fn rename_machine(
    source: &str,
    old: &MachineName,
    new: &MachineName,
) -> Result<String, EditError> {
    let mut document = parse(source)?;
    let unknown = || EditError::Unknown { name: old.clone() };
    let machines = document
        .get_mut("machine")
        .and_then(Item::as_table_like_mut)
        .ok_or_else(unknown)?;
    if !machines.contains_key(old.as_str()) {
        return Err(unknown());
    }
    if machines.contains_key(new.as_str()) {
        return Err(EditError::Exists { name: new.clone() });
    }
    // A header keeps its place in the file, because its position decides where it is written.
    if let Some(section) = machines.remove(old.as_str()) {
        machines.insert(new.as_str(), section);
    }
    each_list(document.as_table_mut(), &mut |list| {
        replace_in(list, old.as_str(), new.as_str());
    });
    for kind in ON_A_MACHINE {
        for section in sections(document.as_table_mut(), kind) {
            if section.get("machine").and_then(Item::as_str) == Some(old.as_str()) {
                set_text(section, "machine", new.as_str());
            }
        }
    }
    Ok(with_line_ends_of(source, document.to_string()))
}

/// Adds a machine to a group, creating the group if it does not exist.
fn add_to_group(
    document: &mut Table,
    group: &GroupName,
    name: &MachineName,
) -> Result<(), EditError> {
    let groups = document.entry("group").or_insert_with(|| {
        let mut table = Table::new();
        table.set_implicit(true);
        Item::Table(table)
    });
    let groups = groups.as_table_like_mut().ok_or(EditError::NotGroups)?;
    let section = groups
        .entry(group.as_str())
        .or_insert_with(|| Item::Table(Table::new()));
    let section = section.as_table_like_mut().ok_or(EditError::NotGroups)?;
    let mut members = entries(section.get("members"));
    if !members.iter().any(|member| member == name.as_str()) {
        members.push(name.to_string());
    }
    set_list(section, "members", &members);
    Ok(())
}

/// The entries of a list, as a string or as an array.
fn entries(list: Option<&Item>) -> Vec<String> {
    match list.and_then(Item::as_value) {
        Some(Value::Array(array)) => {
            let texts = array.iter().filter_map(Value::as_str);
            texts.map(str::to_owned).collect()
        }
        Some(Value::String(text)) => split(text.value()),
        _ => Vec::new(),
    }
}

fn split(text: &str) -> Vec<String> {
    let entries = text.split(',').map(str::trim);
    let entries = entries.filter(|entry| !entry.is_empty());
    entries.map(str::to_owned).collect()
}

/// Sets a text under a key, keeping the comment of the old value.
fn set_text(table: &mut dyn TableLike, key: &str, text: &str) {
    match table.get_mut(key).and_then(Item::as_value_mut) {
        Some(value) => {
            let decor = value.decor().clone();
            *value = text.into();
            *value.decor_mut() = decor;
        }
        None => drop(table.insert(key, toml_edit::value(text))),
    }
}

/// Sets users: one as a string, several as an array, whose order matters.
fn set_users(table: &mut dyn TableLike, users: &[UserName]) {
    if let [one] = users {
        return set_text(table, "username", one.as_str());
    }
    let array: Array = users.iter().map(UserName::as_str).collect();
    match table.get_mut("username").and_then(Item::as_value_mut) {
        Some(value) => {
            let decor = value.decor().clone();
            *value = array.into();
            *value.decor_mut() = decor;
        }
        None => drop(table.insert("username", toml_edit::value(array))),
    }
}

/// Sets a list under a key in the form of the old one; without one, a single entry becomes a string.
fn set_list(table: &mut dyn TableLike, key: &str, wanted: &[String]) {
    match table.get_mut(key).and_then(Item::as_value_mut) {
        Some(Value::Array(array)) => {
            array.retain(|entry| {
                entry
                    .as_str()
                    .is_none_or(|text| wanted.iter().any(|other| other == text))
            });
            let kept: Vec<String> = array
                .iter()
                .filter_map(|entry| entry.as_str().map(str::to_owned))
                .collect();
            for entry in wanted.iter().filter(|entry| !kept.contains(entry)) {
                push(array, entry);
            }
        }
        Some(value @ Value::String(_)) => {
            if value.as_str().map(split).as_deref() != Some(wanted) {
                let decor = value.decor().clone();
                *value = wanted.join(",").into();
                *value.decor_mut() = decor;
            }
        }
        _ => {
            let list: Value = match wanted {
                [one] => one.as_str().into(),
                several => Value::Array(several.iter().collect::<Array>()),
            };
            table.insert(key, toml_edit::value(list));
        }
    }
}

/// Adds an entry to an array, on its own line if the last entry has its own line.
fn push(array: &mut Array, entry: &str) {
    let mut value: Value = entry.into();
    let last = array.iter().last();
    let prefix = last.and_then(|last| last.decor().prefix()?.as_str().map(str::to_owned));
    let Some(prefix) = prefix.filter(|prefix| prefix.contains('\n')) else {
        return array.push(value);
    };
    // A comment above the last entry belongs to that entry.
    let indent = prefix.rsplit('\n').next().unwrap_or_default();
    value.decor_mut().set_prefix(format!("\n{indent}"));
    let had_comma = array.trailing_comma();
    if let Some(last) = array.iter_mut().last() {
        // Text after the last value has to follow the new comma, because a comment would otherwise swallow that
        // comma.
        let suffix = last.decor().suffix().and_then(|suffix| suffix.as_str());
        let suffix = suffix.unwrap_or_default().trim_end().to_owned();
        last.decor_mut().set_suffix("");
        if !had_comma && suffix.contains('#') {
            value.decor_mut().set_prefix(format!("{suffix}\n{indent}"));
        }
    }
    let trailing = array.trailing().as_str().unwrap_or_default().to_owned();
    if had_comma && trailing.contains('#') {
        // A comment after the last comma belongs to the entry before it.
        let (comment, rest) = match trailing.split_once('\n') {
            Some((comment, rest)) => (comment.to_owned(), format!("\n{rest}")),
            None => (trailing, "\n".to_owned()),
        };
        value.decor_mut().set_prefix(format!("{comment}\n{indent}"));
        array.set_trailing(rest);
    }
    array.push_formatted(value);
    if !had_comma
        && !array
            .trailing()
            .as_str()
            .is_some_and(|text| text.contains('\n'))
    {
        array.set_trailing("\n");
    }
}

/// Calls `change` for every list of members in the file.
fn each_list(document: &mut Table, change: &mut dyn FnMut(&mut Value)) {
    let mut lists = |table: &mut dyn TableLike, keys: &[&str]| {
        for key in keys {
            if let Some(list) = table.get_mut(key).and_then(Item::as_value_mut) {
                change(list);
            }
        }
    };
    let machines = document
        .get_mut("machine")
        .and_then(Item::as_table_like_mut);
    for (_, machine) in machines
        .into_iter()
        .flat_map(|machines| machines.iter_mut())
    {
        let Some(machine) = machine.as_table_like_mut() else {
            continue;
        };
        lists(machine, MACHINE_LISTS);
        let commands = machine.get_mut("command").and_then(Item::as_table_like_mut);
        for (_, command) in commands
            .into_iter()
            .flat_map(|commands| commands.iter_mut())
        {
            if let Some(command) = command.as_table_like_mut() {
                lists(command, &["allow_from"]);
            }
        }
    }
    for (kind, key) in LISTS {
        for section in sections(document, kind) {
            lists(section, &[key]);
        }
    }
}

/// Replaces the name of a list entry; the rest of the list stays as written.
fn replace_in(list: &mut Value, old: &str, new: &str) {
    match list {
        Value::Array(array) => {
            for entry in array.iter_mut().filter(|entry| entry.as_str() == Some(old)) {
                let decor = entry.decor().clone();
                *entry = new.into();
                *entry.decor_mut() = decor;
            }
        }
        Value::String(text) => {
            let pieces = text.value().split(',');
            if pieces.clone().any(|piece| piece.trim() == old) {
                let replaced: Vec<String> = pieces
                    .map(|piece| match piece.trim() == old {
                        true => piece.replace(old, new),
                        false => piece.to_owned(),
                    })
                    .collect();
                let decor = text.decor().clone();
                *list = replaced.join(",").into();
                *list.decor_mut() = decor;
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
