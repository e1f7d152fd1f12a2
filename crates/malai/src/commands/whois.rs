//! `malai whois <address:port>`: who is behind a connection to a service of this machine.

use anyhow::{Context, bail};
use malai_node::{Home, control};
use malai_wire::control::{Reply, Request};
use malai_wire::whois::WhoisFacts;

use crate::cli::WhoisArgs;
use crate::output::exit::Exit;
use crate::output::{self, Printer};

/// Shows the client. Exits with 1 if there is none.
pub fn run(home: &Home, args: &WhoisArgs, printer: &Printer) -> anyhow::Result<Exit> {
    let answer = control::ask(home, &Request::Whois(args.address.clone()))?;
    let answer = answer.context(
        "no daemon is running here, so there are no connections to services of this machine; start it with malai daemon",
    )?;
    let Reply::Whois(text) = answer else {
        bail!("the daemon sent an unexpected answer; is it another version? See `malai status`");
    };
    let facts: WhoisFacts =
        serde_json::from_str(&text).context("the daemon's answer cannot be read")?;
    if args.json {
        printer.out(&format!("{}\n", serde_json::to_string_pretty(&facts)?));
    } else if facts.connections.is_empty() {
        printer.say(&format!(
            "no service of this machine has a connection from {}; those over Unix sockets have no address",
            args.address
        ));
    } else {
        printer.out(&output::whois::render(&facts));
    }
    Ok(match facts.connections.is_empty() {
        true => Exit::FAILED,
        false => Exit::OK,
    })
}
