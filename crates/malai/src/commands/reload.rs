//! Tells a running daemon that the home has changed.

use malai_cluster::ClusterAlias;
use malai_node::{Home, LockState, control, lock};
use malai_wire::control::{Reply, Request, Rescan};

use crate::output::Printer;
use crate::output::exit::Exit;

/// Whether a daemon runs in this home.
pub fn runs(home: &Home) -> bool {
    matches!(lock::probe(home), Ok(LockState::Held { .. }))
}

/// The error about a daemon that did not report its state.
pub fn no_answer(why: String) -> anyhow::Error {
    anyhow::anyhow!("the daemon of this home does not respond: {why}; run malai doctor")
}

/// Asks the running daemon to load a new cluster, or reports that none is running.
pub fn load_in_daemon(
    home: &Home,
    alias: &ClusterAlias,
    printer: &Printer,
) -> anyhow::Result<Exit> {
    let request = Request::Rescan(Rescan {
        cluster: Some(alias.to_string()),
        publish_older: false,
    });
    match control::ask(home, &request) {
        Ok(None) => printer.out("💤 No daemon is running here: start it with malai daemon\n"),
        Ok(Some(Reply::Rescanned(reports))) if reports.iter().all(|report| report.ok) => {
            printer.out("🔄 The running daemon has loaded it\n");
        }
        Ok(Some(Reply::Rescanned(reports))) => {
            let lines: Vec<_> = reports
                .iter()
                .flat_map(|report| &report.lines)
                .map(String::as_str)
                .collect();
            printer.say(&format!(
                "the running daemon has not loaded it: {}",
                lines.join("; ")
            ));
            return Ok(Exit::FAILED);
        }
        Ok(Some(_)) => {
            printer.say(&format!(
                "the running daemon sent an unexpected reply; run malai rescan {alias}"
            ));
            return Ok(Exit::FAILED);
        }
        Err(error) => {
            printer.say(&format!(
                "the running daemon could not be notified: {error}; run malai rescan {alias}"
            ));
            return Ok(Exit::FAILED);
        }
    }
    Ok(Exit::OK)
}
