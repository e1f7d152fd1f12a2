//! `malai machine init [--replace] [--relay <address>] <manager-id52> <alias>`: creates this computer's identity in a cluster managed elsewhere.

use gethostname::gethostname;
use malai_cluster::{ClusterAlias, ClusterId, RelayAddress, sanitize_host};
use malai_node::{Home, InitError, Role, init_machine, replace_machine};

use crate::commands::reload::{load_in_daemon, runs};
use crate::output::exit::Exit;
use crate::output::{self, Printer};

/// Creates the identity, prints the section to add on the manager, and tells a running daemon.
pub fn run(
    home: &Home,
    [manager, alias]: [&str; 2],
    replace: bool,
    relays: &[RelayAddress],
    printer: &Printer,
) -> anyhow::Result<Exit> {
    let (cluster, alias) = match (ClusterId::parse(manager), ClusterAlias::parse(alias)) {
        (Ok(cluster), Ok(alias)) => (cluster, alias),
        (Err(_), Err(_)) if ClusterId::parse(alias).is_ok() => {
            return refuse(
                &format!(
                    "the id52 and the alias are swapped: malai machine init {alias} {manager}"
                ),
                printer,
            );
        }
        (Err(error), _) => {
            return refuse(
                &format!(
                    "the manager's id52 is wrong: {error} (on the manager, malai status shows it)"
                ),
                printer,
            );
        }
        (_, Err(error)) => return refuse(&error.to_string(), printer),
    };
    let hints: Vec<String> = relays.iter().map(ToString::to_string).collect();
    let (made, aside) = match replace {
        true => replace_machine(home, &alias, &cluster, &hints)
            .map(|(made, aside)| (made, Some(aside)))?,
        false => match init_machine(home, &alias, &cluster, &hints) {
            Ok(made) => (made, None),
            Err(error @ InitError::AliasTaken { .. }) => {
                let taken = home.cluster_dir(&alias).role().ok();
                if taken == Some(Role::Machine) {
                    anyhow::bail!(
                        "{error} (use --replace if the key of its manager is lost or stolen)"
                    );
                }
                return Err(error.into());
            }
            Err(error) => return Err(error.into()),
        },
    };
    let name = sanitize_host(&gethostname().to_string_lossy());
    printer.out(&output::init::new_machine(&made, &name, runs(home)));
    if let Some(aside) = aside {
        printer.out(&output::init::replaced(&aside));
    }
    load_in_daemon(home, &alias, printer)
}

fn refuse(reason: &str, printer: &Printer) -> anyhow::Result<Exit> {
    printer.say(&format!("cannot join the cluster: {reason}"));
    Ok(Exit::USAGE)
}
