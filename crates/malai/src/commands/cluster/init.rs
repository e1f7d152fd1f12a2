//! `malai cluster init <alias>`: creates a cluster that is managed here.

use malai_node::{Home, init_cluster};

use super::{alias, usage};
use crate::commands::reload::{load_in_daemon, runs};
use crate::output::Printer;
use crate::output::exit::Exit;
use crate::output::init;

/// Creates the cluster, prints the next steps, and notifies a running daemon.
pub(super) fn run(home: &Home, text: &str, printer: &Printer) -> anyhow::Result<Exit> {
    let alias = match alias(text) {
        Ok(alias) => alias,
        Err(error) => return usage("create the cluster", &error, printer),
    };
    let made = init_cluster(home, &alias)?;
    printer.out(&init::new_cluster(&made, runs(home)));
    load_in_daemon(home, &alias, printer)
}
