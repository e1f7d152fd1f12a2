//! `malai cluster approve`: lists the keys that ask to join, and admits one of them.

use malai_cluster::{ClusterAlias, MachineId};
use malai_node::{Home, LockState, control, display_path, edit, keystore, lock};
use malai_wire::status::ClusterFacts;

use super::change::{groups, no_one_yet};
use super::{alias, machine, publish, show_edit, usage};
use crate::commands::reload::no_answer;
use crate::output::Printer;
use crate::output::exit::Exit;

/// Adds a machine whose key asks to join.
pub(super) fn run(
    home: &Home,
    [alias_, name, id]: [&str; 3],
    allow_from: &[String],
    group: &[String],
    printer: &Printer,
) -> anyhow::Result<Exit> {
    let parsed = (|| {
        let id = MachineId::parse(id).map_err(|error| {
            format!("the machine's id52 is wrong: {error} (on the machine, malai id shows it)")
        });
        Ok((alias(alias_)?, machine(name)?, id?, groups(group)?))
    })();
    let (alias, name, id, groups) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            let error: String = error;
            return usage("approve the machine", &error, printer);
        }
    };
    // A cluster that is not managed here is reported before a key that is not waiting.
    let dir = edit::managed(home, &alias)?;
    let manager = keystore::load(&dir.cluster_key())?.id();
    let served = served(home, &alias)?;
    if !served.waiting.iter().any(|waiting| waiting.id == id) {
        let known = served.machines.iter().find(|machine| machine.id == id);
        if let Some(name) = known.and_then(|machine| machine.name.as_deref()) {
            anyhow::bail!(
                "this key already belongs to a machine of {alias}: {name}; nothing was changed"
            );
        }
        anyhow::bail!(
            "no machine with the key {id} asks to join {alias}, so nothing was changed: does its daemon run, and was it joined with this cluster's id52 ({})? `malai cluster add {alias} {name} {id}` adds it anyway",
            manager
        );
    }
    let edited = edit::add(home, &alias, &name, &id, allow_from, &groups)?;
    printer.out(&format!(
        "Added machine {name} to {}\n",
        display_path(&edited.path)
    ));
    show_edit(&edited, printer);
    if allow_from.is_empty() {
        printer.out(&no_one_yet(&alias, &name));
    }
    publish(home, &alias, printer)
}

/// Lists the keys that ask to join.
pub(super) fn list(home: &Home, text: &str, printer: &Printer) -> anyhow::Result<Exit> {
    let alias = match alias(text) {
        Ok(alias) => alias,
        Err(error) => return usage("list who asks to join", &error, printer),
    };
    edit::managed(home, &alias)?;
    let served = served(home, &alias)?;
    if served.waiting.is_empty() {
        printer.out(&format!("No key asks to join {alias}\n"));
    }
    for waiting in &served.waiting {
        printer.out(&format!(
            "⏳ {waiting}\n   compare it with what machine init printed there, then: malai cluster approve {alias} <name> {}\n",
            waiting.id
        ));
    }
    Ok(Exit::OK)
}

/// The cluster, as served by the running daemon.
fn served(home: &Home, alias: &ClusterAlias) -> anyhow::Result<ClusterFacts> {
    if lock::probe(home)? == LockState::Free {
        anyhow::bail!(
            "no daemon is running here, and only the daemon knows which machines have asked to join. Start it (malai daemon) and approve again, or add the machine directly: malai cluster add {alias} <name> <id52>"
        );
    }
    let status = control::facts(home).map_err(no_answer)?;
    let mut clusters = status.clusters.into_iter();
    clusters
        .find(|cluster| cluster.alias == alias.as_str())
        .ok_or_else(|| {
            anyhow::anyhow!("the running daemon does not serve {alias} yet: malai rescan {alias}")
        })
}
