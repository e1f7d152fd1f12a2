//! `malai status`: whether the daemon runs, and this computer's clusters.

use malai_node::control::client;
use malai_node::home::Home;
use malai_node::status::gather;
use malai_wire::control::{Reply, Request};
use malai_wire::status::DaemonFacts;

use crate::exit::Exit;
use crate::printer::Printer;
use crate::render;

/// Prints the screen; succeeds only if a daemon runs and answers.
pub fn run(home: &Home, json: bool, printer: &Printer) -> anyhow::Result<Exit> {
    let mut facts = gather(home)?;
    if facts.wants_answer() {
        facts.answered(ask(home));
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

/// Asks the daemon through its socket, or says in words for people why it gave no answer.
fn ask(home: &Home) -> Result<DaemonFacts, String> {
    match client::ask(home, &Request::Status) {
        Ok(Some(Reply::Status(facts))) => serde_json::from_str(&facts)
            .map_err(|error| format!("its answer cannot be read: {error}")),
        Ok(Some(_)) => Err("it answered with something else".to_owned()),
        Ok(None) => Err("it has just ended".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
