//! `malai cluster list`: the clusters that this computer is in.

use malai_node::{Condition, Home, Role, verify_home};
use serde::Serialize;

use crate::output::Printer;
use crate::output::exit::Exit;
use crate::output::table::Table;

/// A cluster, as printed by `--json`.
#[derive(Serialize)]
struct Listed {
    alias: String,
    role: Option<Role>,
    id: Option<String>,
    own_id: Option<String>,
    name: Option<String>,
    machines: Option<usize>,
    condition: Condition,
}

/// Lists them, in the order of their aliases.
pub(super) fn run(home: &Home, json: bool, printer: &Printer) -> anyhow::Result<Exit> {
    let reports = verify_home(home, None)?;
    let listed: Vec<Listed> = reports
        .into_iter()
        .filter(|report| report.condition != Condition::Stray)
        .map(|report| Listed {
            role: report.role,
            id: report.id.map(|id| id.to_string()),
            own_id: report.own_id.map(|id| id.to_string()),
            name: report.cluster().map(|cluster| cluster.name().to_owned()),
            machines: report.count_machines(),
            condition: report.condition,
            alias: report.alias,
        })
        .collect();
    if json {
        printer.out(&format!("{}\n", serde_json::to_string_pretty(&listed)?));
        return Ok(Exit::OK);
    }
    if listed.is_empty() {
        printer.out(&format!(
            "No clusters in {} yet: create one with malai cluster init <alias>, or join one with malai machine init <manager-id52> <alias>\n",
            malai_node::display_path(home.root())
        ));
        return Ok(Exit::OK);
    }
    let mut table = Table::new(["ALIAS", "ROLE", "MACHINES", "STATE", "MANAGER"]);
    for cluster in &listed {
        let role = match cluster.role {
            Some(Role::Manager) => "manager",
            Some(Role::Machine) => "machine",
            None => "-",
        };
        let state = match cluster.condition {
            Condition::Sound => "ok",
            Condition::Waiting => "waiting for its first configuration",
            Condition::Behind => "behind its members: malai rescan --check",
            Condition::Stray => "not a cluster",
            Condition::Damaged => "damaged: malai rescan --check",
            Condition::Broken => "broken: malai rescan --check",
        };
        let machines = cluster.machines.map(|count| count.to_string());
        table.row([
            malai_cluster::escape(&cluster.alias),
            role.to_owned(),
            machines.unwrap_or_else(|| "-".to_owned()),
            state.to_owned(),
            cluster.id.clone().unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    printer.out(&table.to_string());
    Ok(Exit::OK)
}
