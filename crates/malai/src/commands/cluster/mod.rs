//! `malai cluster …`: administration of clusters and their machines.

mod approve;
mod change;
mod edit;
mod end;
mod init;
mod invite;
mod list;
mod offered;
mod show;

use malai_cluster::{Change, ClusterAlias, MachineName, escape};
use malai_node::edit::Edited;
use malai_node::{Home, control};
use malai_wire::control::{Reply, Request, Rescan};

use crate::cli::ClusterCommand;
use crate::commands::rescan;
use crate::output::Printer;
use crate::output::exit::Exit;

/// Runs a subcommand of `cluster`.
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
        ClusterCommand::Invite(args) => invite::invite(home, args, printer),
        ClusterCommand::Invites { alias, json } => invite::list(home, alias, *json, printer),
        ClusterCommand::RevokeInvite { alias, id } => invite::revoke(home, [alias, id], printer),
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

/// Reports a usage error and returns its exit code.
fn usage(what: &str, problem: &str, printer: &Printer) -> anyhow::Result<Exit> {
    printer.say(&format!("cannot {what}: {problem}"));
    Ok(Exit::USAGE)
}

/// Parses a cluster's alias. A target in its place gets a hint.
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

/// Parses a machine's name.
fn machine(text: &str) -> Result<MachineName, String> {
    MachineName::parse(text).map_err(|error| error.to_string())
}

/// Prints changes, one line each.
fn show_changes(changes: &[Change], printer: &Printer) {
    for change in changes {
        for line in change.to_string().lines() {
            printer.out(&format!("   {line}\n"));
        }
    }
}

/// Prints what an edit changed, including comments that it removed.
fn show_edit(edited: &Edited, printer: &Printer) {
    for comment in &edited.removed_comments {
        printer.out(&format!("   - {}\n", malai_cluster::escape(comment)));
    }
    show_changes(&edited.changes, printer);
}

/// Lets a running daemon publish an edit, and prints the result. The edit stays in any case.
fn publish(home: &Home, alias: &ClusterAlias, printer: &Printer) -> anyhow::Result<Exit> {
    let request = Request::Rescan(Rescan {
        cluster: Some(alias.to_string()),
        publish_older: false,
    });
    match control::ask(home, &request) {
        Ok(None) => {
            printer.out(
                "💤 No daemon is running here: start it with malai daemon, which publishes this\n",
            );
            Ok(Exit::OK)
        }
        Ok(Some(Reply::Rescanned(reports))) => Ok(rescan::display_path(&reports, printer)),
        Ok(Some(_)) => {
            printer.say(&format!(
                "the file was changed, but the daemon sent an unexpected reply: run malai rescan {alias}"
            ));
            Ok(Exit::FAILED)
        }
        Err(error) => {
            printer.say(&format!(
                "the file was changed, but the daemon could not be notified: {error}; run malai rescan {alias}"
            ));
            Ok(Exit::FAILED)
        }
    }
}

/// The result of a question.
enum Asked {
    /// There is no terminal to ask on.
    NoTerminal,
    /// The input has ended: no answer, and no consent.
    End,
    /// A line, without surrounding spaces.
    Line(String),
}

/// Asks a question on the terminal.
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

/// Splits a comma-separated list.
fn entries(text: &str) -> Vec<String> {
    let entries = text.split(',').map(str::trim);
    let entries = entries.filter(|entry| !entry.is_empty());
    entries.map(str::to_owned).collect()
}

/// Names for a message, safe to show.
fn joined<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(escape).collect::<Vec<_>>().join(", ")
}
