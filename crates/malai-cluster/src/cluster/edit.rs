//! Edits of a cluster.toml that keep its comments, order and layout.

use toml_edit::{Array, DocumentMut, Item, Table, TableLike, Value, value};

use super::render::string;
use crate::identity::MachineId;
use crate::name::MachineName;

/// Adds a machine's section at the end of the file. An empty `allow_from` lets nobody in yet.
///
/// # Errors
///
/// [`EditError::Exists`] if there is a machine of that name, [`EditError::Syntax`] if the file is
/// not TOML. Whether the result is a valid cluster is [`check`](super::check)'s to say.
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
        // Text after the last line is where a person would write it too.
        let mut out = source.to_owned();
        if !out.is_empty() && !out.ends_with('\n') {
            out.push('\n');
        }
        if !out.is_empty() {
            out.push('\n');
        }
        let list = match allow_from {
            [one] => string(one),
            several => format!(
                "[{}]",
                several
                    .iter()
                    .map(|entry| string(entry))
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
        };
        out.push_str(&format!(
            "[machine.{name}]\nid52 = \"{id}\"\nallow_from = {list}\n"
        ));
        return Ok(out);
    }
    // `machine = { … }` can only be added to where it stands.
    let mut section = toml_edit::InlineTable::new();
    section.insert("id52", id.to_string().into());
    section.insert(
        "allow_from",
        Value::Array(allow_from.iter().collect::<Array>()),
    );
    machines.insert(name.as_str(), value(section));
    Ok(document.to_string())
}

/// Removes a machine's section, and its name and id52 from every list.
///
/// A list that becomes empty stays, since without it something wider could apply.
///
/// # Errors
///
/// [`EditError::Unknown`] if there is no machine of that name, [`EditError::Syntax`] if the file
/// is not TOML.
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
    let gone = |entry: &str| entry == name.as_str() || (!id.is_empty() && entry == id);
    for (_, machine) in machines.iter_mut() {
        let Some(machine) = machine.as_table_like_mut() else {
            continue;
        };
        drop_from(machine, &["allow_from", "allow_shell"], &gone);
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
    let groups = document.get_mut("group").and_then(Item::as_table_like_mut);
    for (_, group) in groups.into_iter().flat_map(|groups| groups.iter_mut()) {
        if let Some(group) = group.as_table_like_mut() {
            drop_from(group, &["members"], &gone);
        }
    }
    Ok(document.to_string())
}

/// Why a cluster.toml could not be edited.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// There is a machine of that name.
    #[error("there is a machine `{name}` already: remove it first, or take another name")]
    Exists {
        /// The name.
        name: MachineName,
    },
    /// There is no machine of that name.
    #[error("there is no machine `{name}`")]
    Unknown {
        /// The name.
        name: MachineName,
    },
    /// `machine` is something else than sections.
    #[error("`machine` is not a section: run `malai rescan --check` and mend the file first")]
    NotSections,
    /// The file is not TOML.
    #[error("the file is not valid TOML ({0}): run `malai rescan --check` and mend it first")]
    Syntax(String),
}

fn parse(source: &str) -> Result<DocumentMut, EditError> {
    source
        .parse()
        .map_err(|error: toml_edit::TomlError| EditError::Syntax(error.message().to_owned()))
}

/// Takes entries out of the lists under these keys; lists without them stay as they are written.
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
