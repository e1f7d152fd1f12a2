//! `malai status`: whether the daemon runs, and this computer's clusters.

use malai_node::control::client;
use malai_node::home::Home;
use malai_node::status::gather;

use crate::exit::Exit;
use crate::printer::Printer;
use crate::render;

/// Prints the screen; succeeds only if a daemon runs and answers.
pub fn run(home: &Home, json: bool, printer: &Printer) -> anyhow::Result<Exit> {
    let mut facts = gather(home)?;
    if facts.wants_answer() {
        facts.answered(client::facts(home));
    }
    if json {
        let text = serde_json::to_string_pretty(&facts)?;
        printer.out(&format!("{text}\n"));
    } else {
        printer.out(&render::status::render(&facts));
    }
    Ok(if facts.is_healthy() {
        Exit::OK
    } else {
        Exit::FAILED
    })
}
