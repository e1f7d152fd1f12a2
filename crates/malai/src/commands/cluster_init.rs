//! `malai cluster init <alias>`: creates a cluster that is managed here.

use malai_cluster::ClusterAlias;
use malai_node::{Home, init_cluster};

use crate::commands::reload::notify_daemon;
use crate::output::exit::Exit;
use crate::output::{self, Printer};

/// Creates the cluster, says what to do next, and tells a running daemon.
pub fn run(home: &Home, alias: &str, printer: &Printer) -> anyhow::Result<Exit> {
    let alias = match ClusterAlias::parse(alias) {
        Ok(alias) => alias,
        Err(error) => {
            printer.say(&format!("cannot create the cluster: {error}"));
            return Ok(Exit::USAGE);
        }
    };
    let made = init_cluster(home, &alias)?;
    printer.out(&output::init::new_cluster(&made));
    notify_daemon(home, &alias, printer)
}
