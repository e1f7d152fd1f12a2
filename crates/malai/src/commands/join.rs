//! `malai join`: makes this computer a machine of a cluster that it is invited to, and waits until it is.

use std::io::BufRead;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use gethostname::gethostname;
use malai_cluster::{ClusterAlias, Invitation, MachineName, escape, sanitize_host};
use malai_node::joining::{self, Joining};
use malai_node::{ClusterDir, Home, JoinAlone, Settings, control, display_path, manager_file};
use malai_wire::control::{Reply, Request, Rescan};
use malai_wire::status::{JoiningFacts, JoiningState};

use crate::cli::JoinArgs;
use crate::commands::reload::{no_answer, runs};
use crate::output::Printer;
use crate::output::exit::Exit;

/// How often it is looked how far it has come.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Joins.
pub fn run(home: &Home, args: &JoinArgs, printer: &Printer) -> anyhow::Result<Exit> {
    let parsed = parse(home, args);
    let (joining, alias) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            printer.say(&format!("cannot join the cluster: {error}"));
            return Ok(Exit::USAGE);
        }
    };
    let (made, is_new) = joining::begin(home, &alias, &joining)?;
    match is_new {
        true => printer.out(&format!("Machine created with ID: {}\n", made.id)),
        false => printer.out(&format!("Machine ID: {}\n", made.id)),
    }
    let waiting = Waiting {
        alias: &alias,
        printer,
        said: None,
    };
    match runs(home) {
        true => through_daemon(home, &made.dir, waiting),
        false => alone(home, &made.dir, waiting),
    }
}

fn parse(home: &Home, args: &JoinArgs) -> Result<(Joining, ClusterAlias), String> {
    let text = match args.invitation.as_str() {
        "-" => {
            let mut line = String::new();
            let read = std::io::stdin().lock().read_line(&mut line);
            read.map_err(|error| format!("standard input cannot be read: {error}"))?;
            line
        }
        line => line.to_owned(),
    };
    let invitation = Invitation::parse(&text).map_err(|error| error.to_string())?;
    let name = args.name.as_deref().map(MachineName::parse).transpose();
    let given = args.alias.as_deref().map(ClusterAlias::parse).transpose();
    let given = given.map_err(|error| error.to_string())?;
    let alias = given
        .or_else(|| known_as(home, &invitation))
        .or_else(|| invitation.alias.clone())
        .ok_or("give the cluster a name here: malai join <invitation> <alias>")?;
    let joining = Joining {
        invitation,
        name: name.map_err(|error| error.to_string())?,
        host: sanitize_host(&gethostname().to_string_lossy()),
        refused: None,
    };
    Ok((joining, alias))
}

/// The alias of the cluster, if this computer is in it already.
fn known_as(home: &Home, invitation: &Invitation) -> Option<ClusterAlias> {
    let dirs = home.survey().ok()?.dirs;
    let mut dirs = dirs.into_iter();
    let is_it = |dir: &ClusterDir| {
        manager_file::identify(dir).is_ok_and(|(_, cluster)| cluster == invitation.cluster)
    };
    dirs.find(is_it).map(|dir| dir.alias)
}

/// Someone waits, and is told what changes.
struct Waiting<'a> {
    alias: &'a ClusterAlias,
    printer: &'a Printer,
    said: Option<JoiningFacts>,
}

impl Waiting<'_> {
    /// Tells how it went on. Returns the exit code when there is nothing to wait for.
    fn look(&mut self, dir: &ClusterDir, facts: Option<JoiningFacts>) -> Option<Exit> {
        let (alias, printer) = (self.alias, self.printer);
        let Some(facts) = facts else {
            printer.out(&joined(alias, dir));
            return Some(Exit::OK);
        };
        let text = escape(facts.text.as_deref().unwrap_or_default());
        if facts.state == JoiningState::Refused {
            printer.say(&format!(
                "the manager of {alias} refuses the invitation: {text}"
            ));
            return Some(Exit::FAILED);
        }
        if self.said.as_ref() != Some(&facts) {
            match facts.state {
                JoiningState::Unreachable => printer.out(&format!(
                    "⏳ The manager of {alias} cannot be reached, it may be asleep: {text}\n"
                )),
                JoiningState::Waiting => printer.out(&format!("⏳ Not yet: {text}\n")),
                _ => {}
            }
            let has_spoken = |facts: &JoiningFacts| facts.text.is_some();
            if has_spoken(&facts) && !self.said.as_ref().is_some_and(has_spoken) {
                self.went_on();
            }
            self.said = Some(facts);
        }
        None
    }

    /// Says once that nobody has to wait.
    fn went_on(&self) {
        self.printer.out(&format!(
            "   The daemon goes on asking, also after Ctrl-C; malai status {} shows how far it is\n",
            self.alias
        ));
    }
}

/// The line about a machine that has joined.
fn joined(alias: &ClusterAlias, dir: &ClusterDir) -> String {
    let Some((name, groups)) = joining::place(dir) else {
        return format!("{alias}: joined\n");
    };
    let groups = match groups.as_slice() {
        [] => "in no group".to_owned(),
        [group] => format!("in group {group}"),
        several => format!("in groups {}", several.join(", ")),
    };
    format!("{name}.{alias}: joined, {groups}\n")
}

/// The running daemon asks.
fn through_daemon(home: &Home, dir: &ClusterDir, mut waiting: Waiting<'_>) -> anyhow::Result<Exit> {
    let request = Request::Rescan(Rescan {
        cluster: Some(dir.alias.to_string()),
        publish_older: false,
    });
    match control::ask(home, &request) {
        Ok(Some(Reply::Rescanned(reports))) if reports.iter().all(|report| report.ok) => {}
        Ok(Some(Reply::Rescanned(reports))) => {
            let lines = reports.iter().flat_map(|report| &report.lines);
            let lines: Vec<&str> = lines.map(String::as_str).collect();
            anyhow::bail!("the running daemon has not loaded it: {}", lines.join("; "));
        }
        Ok(_) => anyhow::bail!("the daemon has just ended: start it, and it joins (malai daemon)"),
        Err(error) => return Err(error.into()),
    }
    loop {
        let facts = control::facts(home).map_err(no_answer)?;
        let mut clusters = facts.clusters.into_iter();
        let served = clusters
            .find(|served| served.alias == dir.alias.as_str())
            .with_context(|| format!("the daemon no longer serves {}", dir.alias))?;
        if let Some(exit) = waiting.look(dir, served.joining) {
            return Ok(exit);
        }
        thread::sleep(POLL_INTERVAL);
    }
}

/// This process asks. It does not wait for a manager that cannot answer now: that is the daemon's work.
fn alone(home: &Home, dir: &ClusterDir, mut waiting: Waiting<'_>) -> anyhow::Result<Exit> {
    let printer = waiting.printer;
    let settings = Settings::load(home)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    let exit = runtime.block_on(async {
        let asking = JoinAlone::begin(home, &settings, dir).await?;
        let exit = loop {
            let facts = asking.facts();
            let state = facts.as_ref().map(|facts| facts.state);
            if let Some(JoiningState::Unreachable | JoiningState::Waiting) = state {
                let text = facts.and_then(|facts| facts.text).unwrap_or_default();
                printer.say(&format!(
                    "not joined yet: {}\n  start the daemon, which goes on asking: malai daemon (the invitation is kept in {})",
                    escape(&text),
                    display_path(&dir.path)
                ));
                break Exit::FAILED;
            }
            if let Some(exit) = waiting.look(dir, facts) {
                break exit;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        };
        asking.stop().await;
        Ok::<Exit, anyhow::Error>(exit)
    })?;
    if exit == Exit::OK {
        printer.out("💤 No daemon is running here: start it with malai daemon\n");
    }
    Ok(exit)
}
