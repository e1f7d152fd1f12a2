//! `malai cluster add` and `malai cluster remove`: edits of cluster.toml that a running daemon then publishes.

use malai_cluster::{ClusterAlias, MachineId, MachineName, NameError};
use malai_node::{Home, control, display_path, edit};
use malai_wire::control::{Reply, Request, Rescan};

use crate::commands::rescan;
use crate::output::Printer;
use crate::output::exit::Exit;

/// Adds a machine.
pub fn add(
    home: &Home,
    [alias, name, id]: [&str; 3],
    allow_from: &[String],
    printer: &Printer,
) -> anyhow::Result<Exit> {
    let parsed = names(alias, name)
        .map_err(|error| error.to_string())
        .and_then(|(alias, name)| {
            let id =
                MachineId::parse(id).map_err(|error| format!("the machine's id52: {error}"))?;
            Ok((alias, name, id))
        });
    let (alias, name, id) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            printer.say(&format!("cannot add the machine: {error}"));
            return Ok(Exit::USAGE);
        }
    };
    let path = edit::add(home, &alias, &name, &id, allow_from)?;
    printer.out(&format!(
        "Added machine {name} to {}\n",
        display_path(&path)
    ));
    if allow_from.is_empty() {
        printer.out("   Nobody may run commands on it yet: its allow_from is empty\n");
    }
    publish(home, &alias, printer)
}

/// Removes a machine.
pub fn remove(home: &Home, [alias, name]: [&str; 2], printer: &Printer) -> anyhow::Result<Exit> {
    let (alias, name) = match names(alias, name) {
        Ok(names) => names,
        Err(error) => {
            printer.say(&format!("cannot remove the machine: {error}"));
            return Ok(Exit::USAGE);
        }
    };
    let path = edit::remove(home, &alias, &name)?;
    printer.out(&format!(
        "Removed machine {name} from {}, and from every list in it\n",
        display_path(&path)
    ));
    publish(home, &alias, printer)
}

fn names(alias: &str, name: &str) -> Result<(ClusterAlias, MachineName), NameError> {
    Ok((ClusterAlias::parse(alias)?, MachineName::parse(name)?))
}

/// Lets a running daemon publish the edit, and says what became of it. The edit stays in any case.
fn publish(home: &Home, alias: &ClusterAlias, printer: &Printer) -> anyhow::Result<Exit> {
    let request = Request::Rescan(Rescan {
        cluster: Some(alias.to_string()),
        typed: true,
    });
    match control::ask(home, &request) {
        Ok(None) => {
            printer.out("💤 No daemon runs here: malai daemon starts it, and publishes this\n");
            Ok(Exit::OK)
        }
        Ok(Some(Reply::Rescanned(reports))) => Ok(rescan::display_path(&reports, printer)),
        Ok(Some(_)) => {
            printer.say(&format!(
                "the file is changed, but the daemon has not understood: malai rescan {alias} tells it"
            ));
            Ok(Exit::FAILED)
        }
        Err(error) => {
            printer.say(&format!(
                "the file is changed, but the daemon was not told: {error}; malai rescan {alias} tells it"
            ));
            Ok(Exit::FAILED)
        }
    }
}
