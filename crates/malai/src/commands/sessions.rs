//! `malai sessions`: the sessions here, and those of this computer on other machines; `end` ends one.

use malai_node::{Home, control};
use malai_wire::control::{Reply, Request};
use malai_wire::sessions::SessionsFacts;

use crate::cli::{SessionsArgs, SessionsCommand};
use crate::output::exit::Exit;
use crate::output::{self, Printer};

/// Lists live sessions, or ends one.
pub fn run(home: &Home, args: &SessionsArgs, printer: &Printer) -> anyhow::Result<Exit> {
    match &args.command {
        Some(SessionsCommand::End { id }) => end(home, *id, printer),
        None => list(home, args.json, printer),
    }
}

fn list(home: &Home, json: bool, printer: &Printer) -> anyhow::Result<Exit> {
    let Reply::Sessions(text) = ask(home, &Request::Sessions)? else {
        anyhow::bail!(
            "the daemon sent an unexpected answer; is it another version? See `malai status`"
        );
    };
    let facts: SessionsFacts = serde_json::from_str(&text)
        .map_err(|error| anyhow::anyhow!("the daemon's answer cannot be read: {error}"))?;
    match json {
        true => printer.out(&format!("{}\n", serde_json::to_string_pretty(&facts)?)),
        false => printer.out(&output::sessions::render(&facts)),
    }
    Ok(Exit::OK)
}

fn end(home: &Home, id: u64, printer: &Printer) -> anyhow::Result<Exit> {
    ask(home, &Request::EndSession(id))?;
    printer.out(&format!("✅ Ended session {id}\n"));
    Ok(Exit::OK)
}

fn ask(home: &Home, request: &Request) -> anyhow::Result<Reply> {
    control::ask(home, request)?.ok_or_else(|| {
        anyhow::anyhow!(
            "no daemon is running here, and only a daemon knows the sessions; start it with malai daemon"
        )
    })
}
