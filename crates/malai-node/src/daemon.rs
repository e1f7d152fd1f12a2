//! The daemon: one process for all clusters of a home, from its lock to its end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use malai_cluster::{ClusterAlias, MachineId, Target, escape};
use malai_wire::control::RescanReport;
use malai_wire::status::{
    ClusterFacts, DaemonFacts, MachineFacts, MachineState, NetworkPath, WaitingFacts,
};
use malai_wire::{Refusal, RefusalCode};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::control::server::Socket;
use crate::distribute::{self, Pushed};
use crate::home::{ClusterDir, Home, HomeError, Role};
use crate::lock::{HomeLock, LockError};
use crate::member::lock;
use crate::rescan::{self, Published};
use crate::service::{Part, Service};
use crate::settings::{BadEnvironment, Settings};
use crate::verify::{self, VerifyError};

/// How long `rescan` waits for machines to take a new revision up.
const RESCAN_WAIT: Duration = Duration::from_secs(10);

/// How long a starting manager whose file has changed asks members for newer revisions.
const ASK_AT_START: Duration = Duration::from_millis(1500);

/// How long running commands may take to end when the daemon stops.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// A peer silent for this long is shown as not answering.
const NOT_ANSWERING: Duration = Duration::from_secs(10);

/// How often remembered addresses are saved.
const SAVE_EVERY: Duration = Duration::from_secs(5);

/// Why the daemon does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another daemon has the home, or it cannot be locked.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The home cannot be used.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The clusters cannot be looked at.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// Hand-written configuration is invalid: everything that is wrong.
    #[error("{}\nthe daemon does not start while configuration is invalid; `malai rescan --check` shows this list again", .0.join("\n"))]
    Invalid(Vec<String>),
    /// MALAI_NETWORK names no reach.
    #[error(transparent)]
    Environment(#[from] BadEnvironment),
    /// A cluster cannot be served.
    #[error("cluster {alias}: {why}")]
    Service {
        /// Its alias.
        alias: String,
        /// What is wrong.
        why: String,
    },
    /// The control socket cannot be made.
    #[error("cannot make the control socket: {0}")]
    Socket(#[from] std::io::Error),
}

/// A running daemon.
#[derive(Debug)]
pub struct Daemon {
    home: Home,
    lock: HomeLock,
    part: Part,
    aliases: Mutex<BTreeMap<String, Target>>,
    services: Mutex<BTreeMap<ClusterAlias, Arc<Service>>>,
    /// One rescan at a time: two that are typed at once are done one after the other.
    rescanning: tokio::sync::Mutex<()>,
    tasks: TaskTracker,
    stopping: CancellationToken,
}

impl Daemon {
    /// Checks everything, takes the lock, opens all clusters and the socket. When this returns the
    /// daemon serves.
    ///
    /// # Errors
    ///
    /// Everything that keeps it from starting; then nothing runs.
    pub async fn start(home: Home) -> Result<Arc<Self>, StartError> {
        home.prepare()?;
        let lock = HomeLock::acquire(&home)?;
        let settings = check(&home)?;
        let part = Part::new(true, settings.effective_reach()?);
        let daemon = Arc::new(Self {
            home: home.clone(),
            lock,
            part,
            aliases: Mutex::new(settings.aliases),
            services: Mutex::default(),
            rescanning: tokio::sync::Mutex::default(),
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
        });
        for dir in home.cluster_dirs()? {
            let alias = dir.alias.clone();
            daemon
                .open(dir, false)
                .await
                .map_err(|why| StartError::Service {
                    alias: alias.to_string(),
                    why,
                })?;
        }
        let socket = Socket::bind(&home)?;
        daemon
            .tasks
            .spawn(socket.serve(daemon.clone(), daemon.stopping.clone()));
        daemon.tasks.spawn(daemon.clone().save_addresses());
        Ok(daemon)
    }

    /// Serves until told to stop, then stops: no new sessions, and a grace period for running ones.
    pub async fn run(self: Arc<Self>) {
        self.stopping.cancelled().await;
        let services = self.services();
        let busy = || {
            services
                .iter()
                .flat_map(|service| service.peers.all())
                .any(|link| link.sessions() > 0)
        };
        let deadline = Instant::now() + STOP_GRACE;
        while busy() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let refusal = Refusal::new(RefusalCode::Stopping, "the daemon is stopping");
        for service in &services {
            service.stop(&refusal).await;
        }
        tracing::info!("stopped");
    }

    /// Tells the daemon to stop.
    pub fn stop(&self) {
        self.stopping.cancel();
    }

    /// Who runs tasks for the daemon.
    pub fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// All clusters at work.
    pub fn services(&self) -> Vec<Arc<Service>> {
        lock(&self.services).values().cloned().collect()
    }

    /// Short names of targets, as `malai.toml` has them.
    pub fn aliases(&self) -> BTreeMap<String, Target> {
        lock(&self.aliases).clone()
    }

    /// How many clusters are served, for the word at the start.
    pub fn cluster_count(&self) -> usize {
        lock(&self.services).len()
    }

    /// Makes `malai.lock` again if somebody removed it: it is only the sign of the lock.
    pub fn look_after_lock(&self) {
        if let Err(error) = self.lock.refresh() {
            tracing::warn!("malai.lock cannot be made again: {error}");
        }
    }

    async fn save_addresses(self: Arc<Self>) {
        while tokio::time::timeout(SAVE_EVERY, self.stopping.cancelled())
            .await
            .is_err()
        {
            for service in self.services() {
                if let Err(error) = service.save_addresses() {
                    tracing::warn!("remembered addresses are not saved: {error}");
                }
            }
        }
    }

    /// Opens one cluster; a manager's includes a rescan.
    async fn open(self: &Arc<Self>, dir: ClusterDir, typed: bool) -> Result<Vec<String>, String> {
        let alias = dir.alias.clone();
        let service = Service::start(dir, self.part)
            .await
            .map_err(|error| error.to_string())?;
        lock(&self.services).insert(alias, service.clone());
        if service.membership.role == Role::Machine {
            service.serve();
            return Ok(vec![
                "taken up; it asks the manager for its configuration".into(),
            ]);
        }
        if !typed {
            self.ask_for_newer(&service).await;
        }
        let published = rescan::publish(&service.membership, typed);
        service.serve();
        match published {
            Ok(published) => {
                drop(distribute::push(&service));
                Ok(vec![said(&published)])
            }
            Err(error) => {
                service
                    .membership
                    .configuration
                    .note(|state| state.problem = Some(error.to_string()));
                Err(error.to_string())
            }
        }
    }

    /// A manager whose file has changed while no daemon ran may have been restored from a backup:
    /// before it publishes by itself, members may say that they have seen newer.
    async fn ask_for_newer(&self, service: &Arc<Service>) {
        let membership = &service.membership;
        let path = membership.dir.cluster_toml();
        let Ok(Some(text)) = crate::store::read_text(&path, malai_cluster::MAX_CONTENT as u64)
        else {
            return;
        };
        let Some(cluster) = malai_cluster::check(&path.to_string_lossy(), &text).cluster else {
            return;
        };
        let current = membership.configuration.snapshot();
        if current
            .as_ref()
            .is_some_and(|current| current.content() == cluster.render())
        {
            return;
        }
        let mut members: Vec<MachineId> = cluster.members().collect();
        members.extend(
            current
                .iter()
                .flat_map(|current| current.cluster().members()),
        );
        members.sort();
        members.dedup();
        distribute::ask_members_for_newer(service, members.into_iter(), ASK_AT_START).await;
    }

    /// Applies the files: of one cluster, or of all. Each cluster is taken up as a whole or not at
    /// all, and none disturbs another.
    ///
    /// # Errors
    ///
    /// There is no such cluster, or the home or `malai.toml` cannot be read.
    pub async fn rescan(
        self: &Arc<Self>,
        only: Option<&str>,
        typed: bool,
    ) -> Result<Vec<RescanReport>, String> {
        let _one_at_a_time = self.rescanning.lock().await;
        let dirs = self
            .home
            .cluster_dirs()
            .map_err(|error| error.to_string())?;
        let known: Vec<String> = dirs.iter().map(|dir| dir.alias.to_string()).collect();
        let served: Vec<ClusterAlias> = lock(&self.services).keys().cloned().collect();
        if let Some(only) = only
            && !known.iter().any(|alias| alias == only)
            && !served.iter().any(|alias| alias.as_str() == only)
        {
            let known = if known.is_empty() {
                "there is none yet".into()
            } else {
                format!("there are: {}", known.join(", "))
            };
            return Err(format!(
                "there is no cluster `{}` in {}; {known}",
                escape(only),
                self.home.root().display()
            ));
        }
        let wanted = |alias: &ClusterAlias| only.is_none_or(|only| only == alias.as_str());
        let mut reports = Vec::new();
        if only.is_none() {
            match Settings::load(&self.home) {
                Ok(settings) => *lock(&self.aliases) = settings.aliases,
                Err(error) => reports.push(RescanReport {
                    alias: "malai.toml".into(),
                    lines: vec![error.to_string()],
                    ok: false,
                }),
            }
        }
        for alias in served
            .iter()
            .filter(|alias| wanted(alias) && !known.iter().any(|known| known == alias.as_str()))
        {
            let service = lock(&self.services).remove(alias);
            if let Some(service) = service {
                service
                    .stop(&Refusal::new(
                        RefusalCode::Stopping,
                        "the cluster's folder is gone",
                    ))
                    .await;
                reports.push(RescanReport {
                    alias: alias.to_string(),
                    lines: vec!["its folder is gone; it is served no more".into()],
                    ok: true,
                });
            }
        }
        let mut pushes = Vec::new();
        for dir in dirs.into_iter().filter(|dir| wanted(&dir.alias)) {
            let alias = dir.alias.clone();
            let service = lock(&self.services).get(&alias).cloned();
            let result = match service {
                None => self.open(dir, typed).await,
                Some(service) => rescan_one(&service, typed),
            };
            let (lines, ok) = match result {
                Ok(lines) => (lines, true),
                Err(problem) => (vec![problem], false),
            };
            let service = lock(&self.services).get(&alias).cloned();
            if let Some(service) =
                service.filter(|service| ok && service.membership.role == Role::Manager)
            {
                pushes.push((reports.len(), service.clone(), distribute::push(&service)));
            }
            reports.push(RescanReport {
                alias: alias.to_string(),
                lines,
                ok,
            });
        }
        let deadline = tokio::time::Instant::now() + RESCAN_WAIT;
        for (index, service, (targets, mut results)) in pushes {
            let mut left = targets;
            while let Ok(Some((machine, pushed))) =
                tokio::time::timeout_at(deadline, results.recv()).await
            {
                left.retain(|other| *other != machine);
                reports[index]
                    .lines
                    .push(pushed_line(&service, &machine, &pushed));
            }
            for machine in left {
                reports[index].lines.push(pushed_line(
                    &service,
                    &machine,
                    &Pushed::Unreachable(String::new()),
                ));
            }
        }
        Ok(reports)
    }

    /// What `malai status` shows of the daemon, as JSON.
    pub fn facts(&self) -> String {
        let facts = DaemonFacts {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            clusters: self
                .services()
                .iter()
                .map(|service| cluster_facts(service))
                .collect(),
            notices: Vec::new(),
        };
        serde_json::to_string(&facts).unwrap_or_default()
    }
}

/// Everything hand-written has to be sound before anything is served.
fn check(home: &Home) -> Result<Settings, StartError> {
    let mut problems: Vec<String> = verify::verify_settings(home)
        .iter()
        .map(ToString::to_string)
        .collect();
    for report in verify::verify_home(home, None)? {
        if report.prevents_start() {
            problems.extend(report.problems.iter().map(ToString::to_string));
        }
    }
    if !problems.is_empty() {
        return Err(StartError::Invalid(problems));
    }
    Settings::load(home).map_err(|error| StartError::Invalid(vec![error.to_string()]))
}

fn rescan_one(service: &Arc<Service>, typed: bool) -> Result<Vec<String>, String> {
    let membership = &service.membership;
    match membership.role {
        Role::Manager => match rescan::publish(membership, typed) {
            Ok(published) => {
                membership.configuration.note(|state| state.problem = None);
                Ok(vec![said(&published)])
            }
            Err(error) => {
                let kept = membership
                    .header()
                    .map(|header| format!("; revision {} stays in force", header.revision));
                membership.configuration.note(|state| {
                    state.problem =
                        Some("cluster.toml has errors; `malai rescan --check` shows them".into())
                });
                Err(format!("{error}{}", kept.unwrap_or_default()))
            }
        },
        Role::Machine => {
            if let Some(line) = crate::service::mend_edited(membership) {
                return Ok(vec![line]);
            }
            let revision = membership.header().map(|header| header.revision);
            Ok(vec![revision.map_or_else(
                || "this machine has no configuration yet; it keeps asking the manager".into(),
                |revision| format!("revision {revision}; only the manager changes it"),
            )])
        }
    }
}

fn said(published: &Published) -> String {
    match published {
        Published::Unchanged(revision) => format!("unchanged, revision {revision}"),
        Published::Revision(revision) => format!("published revision {revision}"),
        Published::Withheld(why) => format!("nothing published: {why}"),
    }
}

fn pushed_line(service: &Service, machine: &MachineId, pushed: &Pushed) -> String {
    let name = name_of(service, machine).unwrap_or_else(|| machine.short());
    match pushed {
        Pushed::Updated => format!("{name}: updated"),
        Pushed::Unreachable(_) => format!("{name}: unreachable (it will get it later)"),
        Pushed::Refused(why) => format!("{name}: refused: {why}"),
    }
}

fn name_of(service: &Service, machine: &MachineId) -> Option<String> {
    service
        .membership
        .configuration
        .names()?
        .machine(machine)
        .map(|machine| machine.name().to_string())
}

fn cluster_facts(service: &Service) -> ClusterFacts {
    let membership = &service.membership;
    let state = membership.configuration.state();
    let heard = lock(&membership.heard).clone();
    let mut members: Vec<MachineId> = membership
        .configuration
        .names()
        .map(|cluster| cluster.members().collect())
        .unwrap_or_default();
    if !members.contains(&membership.cluster.manager()) {
        members.insert(0, membership.cluster.manager());
    }
    let machines = members.iter().filter(|id| **id != membership.me).map(|id| {
        let link = service.peers.current(id);
        let heard = heard.get(id);
        MachineFacts {
            name: name_of(service, id),
            id: *id,
            revision: heard.map(|heard| heard.revision),
            heard_seconds_ago: heard.map(|heard| heard.at.elapsed().as_secs()),
            path: link
                .as_ref()
                .and_then(|link| link.is_direct())
                .map(|direct| {
                    if direct {
                        NetworkPath::Direct
                    } else {
                        NetworkPath::Relayed
                    }
                }),
            rtt_ms: link
                .as_ref()
                .and_then(|link| link.round_trip())
                .map(|rtt| rtt.as_secs_f64() * 1000.0),
            state: match &link {
                Some(link) if link.silent_for() > NOT_ANSWERING && link.sessions() > 0 => {
                    MachineState::NotAnswering
                }
                Some(_) => MachineState::Answering,
                None => MachineState::Idle,
            },
        }
    });
    let mut notices: Vec<String> = state.problem.into_iter().chain(state.fork).collect();
    if let Some(newer) = state.newer {
        notices.push(crate::sync::newer_notice(
            membership,
            newer,
            &membership.dir.newer(),
        ));
    }
    if let Some(twin) = lock(&membership.twin).as_ref() {
        notices.push(format!("another daemon has this identity's key (met at {}): a restored backup beside the original? Stop one of them", twin.met));
    }
    if membership.role == Role::Machine && state.snapshot.is_none() {
        notices.push(format!(
            "no configuration yet: the manager has to add {} to its cluster.toml",
            membership.me
        ));
    }
    ClusterFacts {
        alias: membership.alias().to_string(),
        revision: state.snapshot.as_ref().map(|snapshot| snapshot.revision()),
        machines: machines.collect(),
        waiting: lock(&membership.waiting)
            .iter()
            .filter(|waiting| !membership.knows(&waiting.id))
            .map(|waiting| WaitingFacts {
                id: waiting.id,
                address: waiting
                    .address
                    .map_or_else(|| "a relay".into(), |address| address.to_string()),
            })
            .collect(),
        manager_reachable_seconds_ago: (membership.role == Role::Machine)
            .then(|| {
                heard
                    .get(&membership.cluster.manager())
                    .map(|heard| heard.at.elapsed().as_secs())
            })
            .flatten(),
        notices,
    }
}
