//! `malai cluster …`: clusters and their machines, as their administrator types it.

mod approve;
mod change;
mod edit;
mod end;
mod init;
mod list;
mod show;

use malai_cluster::{Change, ClusterAlias, MachineName, escape};
use malai_node::{Home, control};
use malai_wire::control::{Reply, Request, Rescan};

use crate::cli::ClusterCommand;
use crate::commands::rescan;
use crate::output::Printer;
use crate::output::exit::Exit;

/// Does what follows `cluster`.
pub fn run(home: &Home, command: &ClusterCommand, printer: &Printer) -> anyhow::Result<Exit> {
    match command {
        ClusterCommand::Init { alias } => init::run(home, alias, printer),
        ClusterCommand::List { json } => list::run(home, *json, printer),
        ClusterCommand::Show { alias, name, json } => {
            show::run(home, alias, name.as_deref(), *json, printer)
        }
        ClusterCommand::Edit { alias, yes } => edit::run(home, alias, *yes, printer),
        ClusterCommand::Add(args) => change::add(home, args, printer),
        ClusterCommand::Approve {
            alias,
            name,
            id52,
            allow_from,
            group,
        } => match (name, id52) {
            (Some(name), Some(id52)) => {
                approve::run(home, [alias, name, id52], allow_from, group, printer)
            }
            _ => approve::list(home, alias, printer),
        },
        ClusterCommand::Set(args) => change::set(home, args, printer),
        ClusterCommand::Rename { alias, name, new } => match new {
            Some(new) => change::rename(home, [alias, name, new], printer),
            None => change::rename_alias(home, [alias, name], printer),
        },
        ClusterCommand::Remove { alias, name } => change::remove(home, [alias, name], printer),
        ClusterCommand::Delete { alias, end } => end::delete(home, alias, end, printer),
        ClusterCommand::Leave { alias, end } => end::leave(home, alias, end, printer),
    }
}

/// What is wrong with what was typed, and exits with the code for that.
fn usage(what: &str, problem: &str, printer: &Printer) -> anyhow::Result<Exit> {
    printer.say(&format!("cannot {what}: {problem}"));
    Ok(Exit::USAGE)
}

/// A cluster's alias. A target in its place is answered with what belongs there.
fn alias(text: &str) -> Result<ClusterAlias, String> {
    ClusterAlias::parse(text).map_err(|error| match text.split_once('.') {
        Some((machine, cluster))
            if MachineName::parse(machine).is_ok() && ClusterAlias::parse(cluster).is_ok() =>
        {
            format!("{text} is a target; here the cluster comes first: {cluster} {machine}")
        }
        _ => error.to_string(),
    })
}

/// A machine's name. Nothing else than the name belongs here.
fn machine(text: &str) -> Result<MachineName, String> {
    MachineName::parse(text).map_err(|error| error.to_string())
}

/// What has changed, one line each.
fn show_changes(changes: &[Change], printer: &Printer) {
    for change in changes {
        for line in change.to_string().lines() {
            printer.out(&format!("   {line}\n"));
        }
    }
}

/// Lets a running daemon publish an edit, and says what became of it. The edit stays in any case.
fn publish(home: &Home, alias: &ClusterAlias, printer: &Printer) -> anyhow::Result<Exit> {
    let request = Request::Rescan(Rescan {
        cluster: Some(alias.to_string()),
        publish_older: false,
    });
    match control::ask(home, &request) {
        Ok(None) => {
            printer.out("💤 No daemon runs here: malai daemon starts it, and publishes this\n");
            Ok(Exit::OK)
        }
        Ok(Some(Reply::Rescanned(reports))) => Ok(rescan::display_path(&reports, printer)),
        Ok(Some(_)) => {
            printer.say(&format!(
                "the file is changed, but the daemon sent an unexpected reply: run malai rescan {alias}"
            ));
            Ok(Exit::FAILED)
        }
        Err(error) => {
            printer.say(&format!(
                "the file is changed, but the daemon was not told: {error}; run malai rescan {alias}"
            ));
            Ok(Exit::FAILED)
        }
    }
}

/// What came of a question.
enum Asked {
    /// There is no terminal to ask on.
    NoTerminal,
    /// The input has ended: no answer, and no consent.
    End,
    /// A line, without the blanks around it.
    Line(String),
}

/// Asks a question that is answered on the terminal.
fn ask(question: &str) -> Asked {
    use std::io::{BufRead, Write};
    if !rustix::termios::isatty(std::io::stdin()) || !rustix::termios::isatty(std::io::stderr()) {
        return Asked::NoTerminal;
    }
    let mut stderr = std::io::stderr();
    let mut line = String::new();
    let asked = write!(stderr, "malai: {question} ").and_then(|()| stderr.flush());
    match asked.and_then(|()| std::io::stdin().lock().read_line(&mut line)) {
        Ok(0) | Err(_) => Asked::End,
        Ok(_) => Asked::Line(line.trim().to_owned()),
    }
}

/// A list as it is typed: entries with commas between them.
fn entries(text: &str) -> Vec<String> {
    let entries = text.split(',').map(str::trim);
    let entries = entries.filter(|entry| !entry.is_empty());
    entries.map(str::to_owned).collect()
}

/// Names for a message, safe to show.
fn joined<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(escape).collect::<Vec<_>>().join(", ")
}
