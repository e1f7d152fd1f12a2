//! The texts that malai writes: the content to be signed, a new cluster.toml, a machine's section.

use std::fmt::Write as _;

use super::Cluster;
use crate::group::Entry;
use crate::identity::MachineId;
use crate::machine::Machine;
use crate::name::{MachineName, UserName};
use crate::network::Network;

/// Renders the content to be signed. Sections and keys are sorted by their bytes.
pub(super) fn render(cluster: &Cluster) -> String {
    let mut out = format!("format = {}\n\n[cluster_manager]\n", format_of(cluster));
    if !cluster.name().is_empty() {
        line(&mut out, "cluster_name", &string(cluster.name()));
    }
    line(&mut out, "id52", &string(&cluster.manager().to_string()));
    for folder in cluster.folders() {
        let _ = write!(out, "\n[folder.{}]\n", folder.name());
        if let Some(list) = folder.allow_from() {
            line(&mut out, "allow_from", &array(list.entries()));
        }
        line(&mut out, "machine", &string(folder.machine().as_str()));
        line(&mut out, "path", &string(folder.path()));
        users(&mut out, folder.usernames());
        if folder.is_writable() {
            line(&mut out, "write", "true");
        }
    }
    for group in cluster.groups() {
        let _ = write!(out, "\n[group.{}]\n", group.name());
        line(&mut out, "members", &array(group.entries()));
    }
    for machine in cluster.machines() {
        let _ = write!(out, "\n[machine.{}]\n", machine.name());
        if let Some(patterns) = machine.accept_env() {
            let patterns = patterns.iter().map(|pattern| string(&pattern.to_string()));
            line(&mut out, "accept_env", &strings(patterns));
        }
        if let Some(list) = machine.allow_files() {
            line(&mut out, "allow_files", &array(list.entries()));
        }
        if let Some(list) = machine.allow_forward() {
            line(&mut out, "allow_forward", &array(list.entries()));
        }
        if let Some(list) = machine.allow_from() {
            line(&mut out, "allow_from", &array(list.entries()));
        }
        if let Some(list) = machine.allow_shell() {
            line(&mut out, "allow_shell", &array(list.entries()));
        }
        line(&mut out, "id52", &string(&machine.id().to_string()));
        users(&mut out, machine.usernames());
        for command in machine.commands() {
            let key = key(command.name().as_str());
            let _ = write!(out, "\n[machine.{}.command.{key}]\n", machine.name());
            if let Some(list) = command.allow_from() {
                line(&mut out, "allow_from", &array(list.entries()));
            }
            if command.takes_arguments() {
                line(&mut out, "args", "true");
            }
            if let Some(written) = &command.line {
                line(&mut out, "command", &string(written));
            }
            if command.is_forced() {
                line(&mut out, "forced", "true");
            }
            users(&mut out, command.usernames());
        }
    }
    let network = cluster.network();
    if *network != Network::default() {
        out.push_str("\n[network]\n");
        if !network.public() {
            line(&mut out, "public", "false");
        }
        if !network.relays().is_empty() {
            let relays = network.relays().iter();
            let relays = relays.map(|relay| string(&relay.to_string()));
            line(&mut out, "relays", &strings(relays));
        }
    }
    for service in cluster.services() {
        let _ = write!(out, "\n[service.{}]\n", service.name());
        if let Some(list) = service.allow_from() {
            line(&mut out, "allow_from", &array(list.entries()));
        }
        let upstream = service.upstream();
        let mut keys = [
            ("machine", service.machine().to_string()),
            (upstream.protocol(), upstream.to_string()),
        ];
        keys.sort();
        for (key, value) in keys {
            line(&mut out, key, &string(&value));
        }
    }
    out
}

/// The cluster.toml of a new cluster.
pub fn initial_document(manager: &MachineId, cluster_name: &str) -> String {
    let name = string(cluster_name);
    format!(
        r#"# The machines of this cluster and who may do what on them.
# After an edit: `malai rescan`; `malai rescan --check` only looks for mistakes.

[cluster_manager]
id52 = "{manager}"
cluster_name = {name}

# For each machine, the section that `malai machine init` printed there:
#
# [machine.web01]
# id52 = "<the machine's id52>"
# allow_from = "*"          # who may run commands: machines, groups, "*" for all of them
#
# [group.admins]
# members = "laptop,desk"   # to be written in an allow_from
"#
    )
}

/// The section that adds a machine to a cluster.toml.
pub fn machine_section(name: &MachineName, id: &MachineId) -> String {
    format!("[machine.{name}]\nid52 = \"{id}\"\nallow_from = \"*\"\n")
}

fn line(out: &mut String, key: &str, value: &str) {
    let _ = writeln!(out, "{key} = {value}");
}

/// The lowest format that can express the cluster: 1, or 2 with a service, a folder, a `[network]`, a list of users, a forced
/// command, an `allow_files`, an `allow_forward` or an `accept_env`.
fn format_of(cluster: &Cluster) -> u32 {
    let is_new = |machine: &Machine| {
        machine.accept_env().is_some()
            || machine.allow_files().is_some()
            || machine.allow_forward().is_some()
            || machine.usernames().len() > 1
            || machine
                .commands()
                .iter()
                .any(|command| command.is_forced() || command.usernames().len() > 1)
    };
    let has_new = cluster.services().next().is_some()
        || cluster.folders().next().is_some()
        || *cluster.network() != Network::default();
    match has_new || cluster.machines().any(is_new) {
        true => 2,
        false => 1,
    }
}

/// One user as a string, as in format 1; several as an array.
fn users(out: &mut String, users: &[UserName]) {
    match users {
        [] => {}
        [user] => line(out, "username", &string(user.as_str())),
        users => {
            let users = users.iter().map(|user| string(user.as_str()));
            line(out, "username", &strings(users));
        }
    }
}

fn array(entries: &[Entry]) -> String {
    strings(entries.iter().map(|entry| string(&entry.to_string())))
}

/// An array of quoted strings.
fn strings(quoted: impl Iterator<Item = String>) -> String {
    format!("[{}]", quoted.collect::<Vec<_>>().join(", "))
}

/// A TOML basic string. Implemented here, so that no update of a library changes what is signed.
pub(super) fn string(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            control if control.is_ascii_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(control));
            }
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

/// A TOML key: bare if possible.
pub(crate) fn key(text: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if !text.is_empty() && text.bytes().all(bare) {
        text.to_owned()
    } else {
        string(text)
    }
}
