//! `malai status`: whether the daemon runs, and this computer's clusters.

use malai_node::{Home, control, gather, verify_home};

use crate::cli::StatusArgs;
use crate::output::exit::Exit;
use crate::output::{self, Printer};

/// Prints the screen for one cluster or for all; succeeds only if a daemon is running and responds.
pub fn run(home: &Home, args: &StatusArgs, printer: &Printer) -> anyhow::Result<Exit> {
    if let Some(cluster) = &args.cluster {
        // The error names the existing clusters if there is no such cluster.
        verify_home(home, Some(cluster))?;
    }
    let mut facts = gather(home)?;
    if facts.wants_answer() {
        facts.answered(control::facts(home));
    }
    if let Some(cluster) = &args.cluster {
        facts.keep_only(cluster);
    }
    let text = if args.json {
        serde_json::to_string_pretty(&facts)? + "\n"
    } else {
        output::status::render(&facts)
    };
    printer.out(&text);
    Ok(if facts.is_healthy() {
        Exit::OK
    } else {
        Exit::FAILED
    })
}
