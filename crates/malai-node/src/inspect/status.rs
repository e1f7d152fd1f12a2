//! The facts behind `malai status` that are known without asking the daemon.

use std::io;
use std::path::PathBuf;

use malai_cluster::{ClusterId, MachineId, Severity};
use malai_wire::status::{DaemonFacts, MembershipState};
use serde::Serialize;

use crate::home::lock::{self, LockState};
use crate::home::{Home, Role, joining};
use crate::inspect::check::{self, ClusterReport, Condition, VerifyError};
use crate::settings::Settings;

/// Everything `malai status` shows.
#[derive(Debug, Clone, Serialize)]
pub struct Facts {
    /// The version of this malai.
    pub version: &'static str,
    /// The home.
    pub home: PathBuf,
    /// The state of the daemon.
    pub state: DaemonState,
    /// The daemon's process id, if known.
    pub pid: Option<u32>,
    /// `malai.lock`.
    pub lock: Sign,
    /// `malai.socket`.
    pub socket: Sign,
    /// Why the daemon did not answer, if it was asked.
    pub no_answer: Option<String>,
    /// The clusters of this home, by alias.
    pub clusters: Vec<LocalCluster>,
    /// Problems of the home as a whole, in complete sentences.
    pub problems: Vec<String>,
    /// What the daemon reported.
    pub daemon: Option<DaemonFacts>,
}

/// The state of the daemon. The lock alone decides whether one is running.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DaemonState {
    /// It holds the lock and answers.
    Running,
    /// It holds the lock but has not answered.
    NotResponsive,
    /// It holds the lock but has no socket yet.
    Starting,
    /// The lock is free, but a socket is left over.
    Crashed,
    /// The lock is free.
    NotRunning,
}

/// A file whose presence has a meaning.
#[derive(Debug, Clone, Serialize)]
pub struct Sign {
    /// Its path.
    pub path: PathBuf,
    /// Whether it exists.
    pub present: bool,
}

/// One cluster, according to its files in this home.
#[derive(Debug, Clone, Serialize)]
pub struct LocalCluster {
    /// The folder's name, which is the alias if it is valid.
    pub alias: String,
    /// This computer's role in it; `None` if the folder does not show it.
    pub role: Option<Role>,
    /// The manager's id52.
    pub manager: Option<ClusterId>,
    /// This computer's own id52 in it.
    pub own_id: Option<MachineId>,
    /// `cluster.toml` or `machine.toml`; the folder if the role is unknown.
    pub config: PathBuf,
    /// How many machines it has, if they can be counted.
    pub machines: Option<usize>,
    /// Its condition.
    pub condition: Condition,
    /// The number of errors that `malai rescan --check` shows.
    pub errors: usize,
    /// The number of warnings that it shows.
    pub warnings: usize,
    /// Whether `cluster.toml` has changes that are not published yet.
    pub unpublished: bool,
    /// How far this computer has come that joins with an invitation, in complete sentences.
    pub joining: Option<String>,
}

impl Facts {
    /// Whether the state depends on the daemon's answer.
    pub fn wants_answer(&self) -> bool {
        self.state == DaemonState::NotResponsive && self.daemon.is_none()
    }

    /// Adds the daemon's answer, or why there is none.
    pub fn answered(&mut self, answer: Result<DaemonFacts, String>) {
        match answer {
            Ok(daemon) => {
                self.state = DaemonState::Running;
                self.pid = Some(daemon.pid);
                self.no_answer = None;
                self.daemon = Some(daemon);
            }
            Err(reason) => self.no_answer = Some(reason),
        }
    }

    /// Removes every cluster except this one.
    pub fn keep_only(&mut self, alias: &str) {
        self.clusters.retain(|cluster| cluster.alias == alias);
        if let Some(daemon) = &mut self.daemon {
            daemon.clusters.retain(|cluster| cluster.alias == alias);
        }
    }

    /// Whether the daemon answers and serves every cluster, no hand-written file has errors, and this computer is a member
    /// where it should be: the exit code of `malai status` depends on it.
    pub fn is_healthy(&self) -> bool {
        let is_served = |cluster: &LocalCluster| {
            let served = self.daemon.iter().flat_map(|daemon| &daemon.clusters);
            served
                .into_iter()
                .any(|served| served.alias == cluster.alias)
        };
        let is_well = |cluster: &LocalCluster| {
            cluster.errors == 0 && (cluster.condition == Condition::Stray || is_served(cluster))
        };
        self.state == DaemonState::Running
            && self.problems.is_empty()
            && self.clusters.iter().all(is_well)
            && !self.is_excluded()
    }

    /// Whether this computer is permanently excluded from a cluster that it is configured for, so that its owner has to
    /// act.
    fn is_excluded(&self) -> bool {
        let clusters = self.daemon.iter().flat_map(|daemon| &daemon.clusters);
        clusters.into_iter().any(|cluster| {
            matches!(
                cluster.membership,
                MembershipState::Removed | MembershipState::NotAManager
            )
        })
    }
}

/// Why the facts are not available.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// The state of the lock is unknown.
    #[error(
        "cannot tell whether a daemon runs for {}: {source}; run malai as the user that owns this home",
        crate::os::fs::display_path(home)
    )]
    Lock {
        /// The home.
        home: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The clusters cannot be listed.
    #[error(transparent)]
    Home(#[from] VerifyError),
}

/// Gathers the facts from the files and the lock of this home. Changes nothing.
///
/// # Errors
///
/// The home exists but cannot be read.
pub fn gather(home: &Home) -> Result<Facts, StatusError> {
    let sign = |path: PathBuf| Sign {
        present: path.symlink_metadata().is_ok(),
        path,
    };
    let lock_state = lock::probe(home).map_err(|source| StatusError::Lock {
        home: home.root().to_path_buf(),
        source,
    })?;
    let socket = sign(home.socket());
    let (state, pid) = match (lock_state, socket.present) {
        (LockState::Held { pid }, true) => (DaemonState::NotResponsive, pid),
        (LockState::Held { pid }, false) => (DaemonState::Starting, pid),
        (LockState::Free, true) => (DaemonState::Crashed, None),
        (LockState::Free, false) => (DaemonState::NotRunning, None),
    };
    let clusters = check::verify_home(home, None)?;
    Ok(Facts {
        version: env!("CARGO_PKG_VERSION"),
        home: home.root().to_path_buf(),
        state,
        pid,
        lock: sign(home.lock_file()),
        socket,
        no_answer: None,
        clusters: clusters.into_iter().map(local_cluster).collect(),
        problems: home_problems(home),
        daemon: None,
    })
}

fn home_problems(home: &Home) -> Vec<String> {
    let mut problems = Vec::new();
    let errors = check::verify_settings(home, &[])
        .iter()
        .filter(|problem| problem.severity() == Severity::Error)
        .count();
    if errors > 0 {
        problems.push(format!(
            "malai.toml has {errors} {}: `malai rescan --check` shows where",
            if errors == 1 { "error" } else { "errors" }
        ));
    }
    // The file's own problems are counted above; the rest concerns the environment.
    if let Err(error) = Settings::default().effective_reach() {
        problems.push(error.to_string());
    }
    problems
}

fn local_cluster(report: ClusterReport) -> LocalCluster {
    let config = match report.role {
        Some(Role::Manager) => report.path.join("cluster.toml"),
        Some(Role::Machine) => report.path.join("machine.toml"),
        None => report.path.clone(),
    };
    LocalCluster {
        machines: report.count_machines(),
        errors: report.count(Severity::Error),
        warnings: report.count(Severity::Warning),
        unpublished: report.has_unpublished(),
        joining: report
            .files
            .as_ref()
            .and_then(|files| joining::notice(&files.dir)),
        alias: report.alias,
        role: report.role,
        manager: report.id,
        own_id: report.own_id,
        config,
        condition: report.condition,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use malai_wire::status::{MachineState, NetworkPath};

    /// During an upgrade the daemon may be of another version than the command line.
    #[test]
    fn answers_of_older_and_newer_daemons_are_understood() {
        let newer = r#"{
            "version": "9.0.0", "pid": 7, "mood": "fine",
            "clusters": [{"alias": "company", "revision": 3, "colour": "red", "machines": [{
                "id": "i66fo538lfl5ombdf6tcdbrabp4hmp9asv7nrffuc2im13ct4q60",
                "path": "carrier-pigeon", "state": "dreaming", "rtt_ms": 0.5
            }]}]
        }"#;
        let facts: DaemonFacts = serde_json::from_str(newer).unwrap();
        let machine = &facts.clusters[0].machines[0];
        assert_eq!(machine.path, Some(NetworkPath::Other));
        assert_eq!(machine.state, MachineState::Idle);
        let again = serde_json::to_string(&facts).unwrap();
        assert_eq!(serde_json::from_str::<DaemonFacts>(&again).unwrap(), facts);
        assert_eq!(
            serde_json::from_str::<DaemonFacts>("{}").unwrap(),
            DaemonFacts::default()
        );
    }

    #[test]
    fn only_an_answer_makes_a_daemon_healthy() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path().join("home"));
        home.prepare().unwrap();
        assert_eq!(gather(&home).unwrap().state, DaemonState::NotRunning);
        let lock = lock::HomeLock::acquire(&home).unwrap();
        let facts = gather(&home).unwrap();
        assert_eq!(facts.state, DaemonState::Starting);
        assert_eq!(facts.pid, Some(std::process::id()));
        assert!(!facts.wants_answer());

        std::fs::write(home.socket(), "").unwrap();
        let mut facts = gather(&home).unwrap();
        assert!(facts.wants_answer() && !facts.is_healthy());
        facts.answered(Err("silence".to_owned()));
        assert!(!facts.is_healthy());
        facts.answered(Ok(DaemonFacts::default()));
        assert!(facts.is_healthy() && !facts.wants_answer());

        drop(lock);
        assert_eq!(gather(&home).unwrap().state, DaemonState::Crashed);
    }
}
