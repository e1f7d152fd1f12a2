//! `malai cluster init <alias>`: creates a cluster that is managed here.

use malai_cluster::ClusterAlias;
use malai_node::home::Home;
use malai_node::init::init_cluster;

use super::tell::tell_daemon;
use crate::exit::Exit;
use crate::printer::Printer;
use crate::render;

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
    printer.out(&render::init::new_cluster(&made));
    tell_daemon(home, &alias, printer)
}
