//! Tells a running daemon that the home has changed.

use malai_cluster::ClusterAlias;
use malai_node::home::Home;
use malai_node::lock::{self, LockState};

use crate::exit::Exit;
use crate::printer::Printer;

/// Lets a running daemon take up a new cluster, or says that none runs.
pub fn tell_daemon(home: &Home, alias: &ClusterAlias, printer: &Printer) -> anyhow::Result<Exit> {
    match lock::probe(home)? {
        LockState::Free => printer.out("💤 No daemon runs here yet: malai daemon starts it\n"),
        LockState::Held { .. } => printer.out(&format!(
            "⚠️  A daemon runs and has not been told: malai rescan {alias}\n"
        )),
    }
    Ok(Exit::OK)
}
