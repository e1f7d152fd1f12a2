//! Which users commands run as here, and the consequences: reported once per cluster.

use malai_cluster::{
    Accept, AllowList, Cluster, ClusterAlias, Diagnostic, Machine, MachineId, Severity, UserName,
    escape, locate_span,
};
use malai_wire::status::DaemonFacts;

use crate::control;
use crate::home::lock::{self, LockState};
use crate::home::{Home, Role};
use crate::inspect::check::{ClusterReport, Problem};
use crate::os::user;
use crate::settings::{Settings, run_as};

/// Adds to each valid cluster the consequences of commands running as the daemon's user: as a warning if that user can
/// read the cluster's key, or is root. A daemon that runs is asked as whom it runs commands.
pub fn note_users(home: &Home, reports: &mut [ClusterReport]) {
    let is_running = matches!(lock::probe(home), Ok(LockState::Held { .. }));
    let daemon = is_running.then(|| control::facts(home).ok()).flatten();
    let notes = user_notes(home, reports, daemon.as_ref());
    for (report, note) in reports.iter_mut().zip(notes) {
        report.problems.extend(note);
    }
}

/// What [`note_users`] adds to each of these clusters, in their order.
pub(crate) fn user_notes(
    home: &Home,
    reports: &[ClusterReport],
    daemon: Option<&DaemonFacts>,
) -> Vec<Option<Problem>> {
    // A malai.toml with errors is reported as such and is ignored here.
    let settings = Settings::load(home).unwrap_or_default();
    let own = Own::of(daemon);
    let notes = reports.iter().map(|report| note(&settings, &own, report));
    notes.collect()
}

fn note(settings: &Settings, own: &Own, report: &ClusterReport) -> Option<Problem> {
    let cluster = report.cluster()?;
    let accept = ClusterAlias::parse(&report.alias)
        .ok()
        .and_then(|alias| settings.accept.all.get(&alias))
        .map(|section| section.accept.clone().of_daemon(Some(&own.name)));
    let here = report.own_id.and_then(|id| cluster.machine(&id));
    let here = here.filter(|machine| runs_as_daemon(machine, own, accept.as_ref()));
    let note = match (report.role, here) {
        (Some(Role::Manager), Some(here)) => Some(own.on_the_manager(here)),
        (Some(Role::Manager), None) => elsewhere(cluster, report.own_id),
        (Some(Role::Machine), Some(here)) => Some(own.on_a_machine(here, &report.alias)),
        _ => None,
    };
    Some(note?.problem(report))
}

/// The user that the daemon runs as: without a daemon, the one who checks.
struct Own {
    name: String,
    is_root: bool,
    /// As whom commands run that have no `username`; `None` is the daemon's own.
    default: Option<String>,
}

/// A note, and the key of cluster.toml that it is about.
struct Note {
    severity: Severity,
    key: String,
    message: String,
    help: String,
}

impl Own {
    fn of(daemon: Option<&DaemonFacts>) -> Self {
        match daemon {
            Some(daemon) if !daemon.user.is_empty() => Self {
                name: daemon.user.clone(),
                is_root: daemon.user == "root",
                default: daemon.default_user.clone(),
            },
            _ => Self {
                name: user::own_name().unwrap_or_default(),
                is_root: uzers::get_effective_uid() == 0,
                default: run_as::default_user()
                    .ok()
                    .flatten()
                    .map(|user| user.to_string()),
            },
        }
    }

    /// Whether commands with this `username` run as the daemon's user.
    fn runs(&self, user: Option<&UserName>) -> bool {
        let user = user.map(UserName::as_str).or(self.default.as_deref());
        user.is_none_or(|user| user == self.name)
    }

    fn user(&self) -> String {
        match self.is_root {
            true => "root".to_owned(),
            false => format!("the daemon's user `{}`", escape(&self.name)),
        }
    }

    fn on_the_manager(&self, here: &Machine) -> Note {
        let user = self.user();
        Note {
            severity: Severity::Warning,
            key: format!("machine.{}", here.name()),
            message: format!(
                "this is the manager, and commands on it run as {user}, who can read cluster.private-key: anyone who may run commands here can take over the whole cluster"
            ),
            help: "set a `username` that cannot read this home, or allow no one here".to_owned(),
        }
    }

    fn on_a_machine(&self, here: &Machine, alias: &str) -> Note {
        let user = self.user();
        let (severity, message) = match self.is_root {
            true => (
                Severity::Warning,
                format!(
                    "commands on this computer (`{}`) run as root: anyone who may run them controls it, and with its keys its identity in every cluster",
                    here.name()
                ),
            ),
            false => (
                Severity::Note,
                format!(
                    "commands on this computer (`{}`) run as {user}, who can read the keys in this home: anyone who may run them can act as this computer in every cluster",
                    here.name()
                ),
            ),
        };
        Note {
            severity,
            key: String::new(),
            message,
            help: format!(
                "the manager can set a `username`, and `users` in [accept.{alias}] of malai.toml can refuse the daemon's own user"
            ),
        }
    }
}

/// A note on a manager about other machines.
fn elsewhere(cluster: &Cluster, own: Option<MachineId>) -> Option<Note> {
    let open = cluster
        .machines()
        .filter(|machine| Some(machine.id()) != own && has_list_without_user(machine));
    let names: Vec<&str> = open.map(|machine| machine.name().as_str()).collect();
    let first = names.first()?;
    let whom = match names.len() {
        1 => format!("on `{first}`"),
        count => format!("on {count} machines, as on `{first}`,"),
    };
    Some(Note {
        severity: Severity::Note,
        key: format!("machine.{first}"),
        message: format!(
            "{whom} commands run as the daemon's user there, who can read that machine's keys, unless its service names another (the Debian package's does): anyone who may run them can act as that machine, and is root if its daemon is"
        ),
        help: "set a `username` where that matters".to_owned(),
    })
}

impl Note {
    fn problem(self, report: &ClusterReport) -> Problem {
        let file = report.path.join("cluster.toml");
        // A machine has no cluster.toml in which to show a place.
        let files = report.files.as_ref().filter(|_| !self.key.is_empty());
        let source = files.and_then(|files| files.source.as_ref());
        let place = source.and_then(|source| {
            let allowed = locate_span(source, &format!("{}.allow_from", self.key));
            let span = allowed.or_else(|| locate_span(source, &self.key))?;
            Some((source, span))
        });
        match place {
            Some((source, span)) => Problem::InFile(Diagnostic::at(
                self.severity,
                &file.to_string_lossy(),
                source,
                span,
                self.message,
                Some(self.help),
            )),
            None => Problem::Whole {
                severity: self.severity,
                message: format!("{} ({})", self.message, self.help),
            },
        }
    }
}

/// Whether any member may run anything on this computer as the daemon's user.
fn runs_as_daemon(machine: &Machine, own: &Own, accept: Option<&Accept>) -> bool {
    if accept.is_some_and(|accept| {
        accept.from().is_some_and(<[_]>::is_empty) || !accept.accepts_user(None)
    }) {
        return false;
    }
    any_list(machine, |user| own.runs(user))
}

fn has_list_without_user(machine: &Machine) -> bool {
    any_list(machine, |user| user.is_none())
}

/// Whether there is a non-empty list for something that runs as such a user.
fn any_list(machine: &Machine, such: impl Fn(Option<&UserName>) -> bool) -> bool {
    let holds = |list: Option<&AllowList>| list.is_some_and(|list| !list.entries().is_empty());
    let own =
        such(machine.username()) && (holds(machine.allow_from()) || holds(machine.allow_shell()));
    let commands = machine.commands().iter();
    own || commands
        .filter(|command| such(command.username().or(machine.username())))
        .any(|command| holds(command.allow_from().or(machine.allow_from())))
}

#[cfg(test)]
mod tests;
