//! `malai id [cluster]`: this computer's own id52.

use malai_node::{Home, Role, verify_home};
use serde_json::json;

use crate::cli::IdArgs;
use crate::output::Printer;
use crate::output::exit::Exit;
use crate::output::table::Table;

/// Prints the id52 in one cluster, or a table of all.
pub fn run(home: &Home, args: &IdArgs, printer: &Printer) -> anyhow::Result<Exit> {
    let reports = verify_home(home, args.cluster.as_deref())?;
    let known = reports
        .iter()
        .filter_map(|report| Some((report, report.own_id?)));
    let known: Vec<_> = known.collect();
    if args.json {
        let all = known.iter().map(|(report, id)| {
            json!({ "cluster": report.alias, "id": id.to_string(), "role": report.role })
        });
        let text = serde_json::to_string_pretty(&all.collect::<Vec<_>>())?;
        printer.out(&format!("{text}\n"));
        return Ok(Exit::OK);
    }
    if known.is_empty() {
        printer.say(&format!(
            "this computer has no key yet in {}: create one with malai cluster init <alias> or malai machine init <manager-id52> <alias>",
            malai_node::display_path(home.root())
        ));
        return Ok(Exit::FAILED);
    }
    if args.cluster.is_some() {
        for (_, id) in &known {
            printer.out(&format!("{id}\n"));
        }
        return Ok(Exit::OK);
    }
    let mut table = Table::new(["ID52", "CLUSTER", "ROLE"]);
    for (report, id) in &known {
        let role = match report.role {
            Some(Role::Manager) => "manager",
            _ => "machine",
        };
        table.row([
            id.to_string(),
            malai_cluster::escape(&report.alias),
            role.to_owned(),
        ]);
    }
    printer.out(&table.to_string());
    Ok(Exit::OK)
}
