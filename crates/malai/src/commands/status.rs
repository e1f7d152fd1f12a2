//! `malai status`: whether the daemon runs, and this computer's clusters.

use malai_node::{Home, control, gather};

use crate::output::exit::Exit;
use crate::output::{self, Printer};

/// Prints the screen; succeeds only if a daemon runs and answers.
pub fn run(home: &Home, json: bool, printer: &Printer) -> anyhow::Result<Exit> {
    let mut facts = gather(home)?;
    if facts.wants_answer() {
        facts.answered(control::facts(home));
    }
    if json {
        let text = serde_json::to_string_pretty(&facts)?;
        printer.out(&format!("{text}\n"));
    } else {
        printer.out(&output::status::render(&facts));
    }
    Ok(if facts.is_healthy() {
        Exit::OK
    } else {
        Exit::FAILED
    })
}
