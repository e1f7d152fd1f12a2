//! The daemon: one process for all clusters of a home, from taking the lock to releasing it.

mod browse;
mod forward;
mod kept;
pub(crate) mod listener;
mod received;
pub(crate) mod reload;
pub(crate) mod sessions;
pub(crate) mod status;
pub mod systemd;
mod whois;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use malai_cluster::ClusterAlias;
use malai_wire::status::{DaemonFacts, Notice, NoticeKind};
use malai_wire::{Refusal, RefusalCode};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::daemon::listener::Socket;
use crate::home::lock::{HomeLock, LockError};
use crate::home::problem::Problem;
use crate::home::{Home, HomeError};
use crate::inspect::check::{self, ClusterReport, Condition, VerifyError};
use crate::node::Node;
use crate::node::limits::Limiter;
use crate::node::reaper::{self, Reaper};
use crate::os::user;
use crate::service::Service;
use crate::settings::{BadEnvironment, LogSettings, Settings, run_as};

/// How long running commands may take to finish when the daemon stops.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// How long ending them may take: their own grace period plus a margin.
const END: Duration = Duration::from_secs(8);

/// How often remembered addresses are saved.
const SAVE_EVERY: Duration = Duration::from_secs(5);

/// Why the daemon does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another daemon holds the home, or it cannot be locked.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The home cannot be used.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The clusters cannot be examined.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// No cluster can be served, or not all although that is required.
    #[error("{}\nthe daemon does not start: {why}; `malai rescan --check` shows this list again", .problems.join("\n"))]
    Invalid {
        /// Every problem.
        problems: Vec<String>,
        /// Why that prevents the start.
        why: &'static str,
    },
    /// MALAI_NETWORK is not a valid reach.
    #[error(transparent)]
    Environment(#[from] BadEnvironment),
    /// The pipe to the reaper cannot be created.
    #[error("cannot create the pipe to the reaper: {0}")]
    Reaper(std::io::Error),
    /// The control socket cannot be created.
    #[error("cannot create the control socket: {0}")]
    Socket(#[from] std::io::Error),
}

/// What to do on start about clusters whose files have errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartPolicy {
    /// Serve what can be served, and report the problems.
    Serve,
    /// Do not start.
    Strict,
}

/// A daemon that serves.
#[derive(Debug)]
pub struct Started {
    /// The daemon.
    pub daemon: Arc<Daemon>,
    /// Problems with folders in `clusters/`: the name of each, and its problems.
    pub problems: Vec<(String, String)>,
}

/// A running daemon.
#[derive(Debug)]
pub struct Daemon {
    home: Home,
    lock: HomeLock,
    node: Arc<Node>,
    /// What to log, and in which format.
    log: watch::Sender<LogSettings>,
    /// The state as one line for the service manager.
    summary: watch::Sender<String>,
    services: Mutex<BTreeMap<ClusterAlias, Arc<Service>>>,
    /// What malai.toml says to listen on.
    forwards: kept::KeptForwards,
    /// One rescan at a time: parallel ones are queued.
    rescanning: tokio::sync::Mutex<()>,
    tasks: TaskTracker,
    /// Commands of this computer's command lines.
    sessions: TaskTracker,
    stopping: CancellationToken,
    /// The browsers of this computer's user.
    browsing: browse::Browsing,
    /// The task that serves the control socket. It removes the socket when it ends.
    socket: Mutex<Option<JoinHandle<()>>>,
    /// Cancelled when the daemon has stopped. Until then, command lines are told that it is stopping.
    stopped: CancellationToken,
    /// Cancelled when the grace period of a stop is over.
    ending: CancellationToken,
}

impl Daemon {
    /// Takes the lock, checks everything, opens all clusters that can be served, and binds the socket. When this returns, the
    /// daemon serves.
    ///
    /// # Errors
    ///
    /// Everything that prevents the start. Nothing runs then.
    pub async fn start(
        home: Home,
        reaper: reaper::Program,
        policy: StartPolicy,
    ) -> Result<Started, StartError> {
        home.prepare()?;
        let lock = HomeLock::acquire(&home)?;
        let (settings, reports) = check(&home, policy)?;
        let mut node = Node::daemon(settings.effective_reach()?, &home, &settings);
        node.audit.open();
        node.audit.end_killed();
        node.reaper = Reaper::new(reaper).map_err(StartError::Reaper)?;
        node.reaper.start();
        let daemon = Arc::new(Self {
            home: home.clone(),
            lock,
            node: Arc::new(node),
            log: watch::Sender::new(settings.log),
            summary: watch::Sender::default(),
            services: Mutex::default(),
            forwards: kept::KeptForwards::default(),
            rescanning: tokio::sync::Mutex::default(),
            tasks: TaskTracker::new(),
            sessions: TaskTracker::new(),
            stopping: CancellationToken::new(),
            browsing: browse::Browsing::default(),
            socket: Mutex::default(),
            stopped: CancellationToken::new(),
            ending: CancellationToken::new(),
        });
        let has_clusters = reports
            .iter()
            .any(|report| report.condition != Condition::Stray);
        let mut problems = daemon.open_all(reports).await;
        if has_clusters && daemon.services.lock().is_empty() {
            return Err(StartError::Invalid {
                problems: problems.into_iter().map(|(_, all)| all).collect(),
                why: "no cluster can be served",
            });
        }
        let socket = Socket::bind(&home)?;
        let unheard = daemon.keep_forwards(&settings.forward).await;
        problems.extend(
            unheard
                .into_iter()
                .map(|problem| ("malai.toml".to_owned(), problem)),
        );
        let serving = socket.serve(daemon.clone(), daemon.stopped.clone());
        *daemon.socket.lock() = Some(tokio::spawn(serving));
        daemon.own("saving addresses", daemon.clone().save_addresses());
        daemon.own("counting strangers", daemon.clone().keep_count());
        let giving_back = crate::os::malloc::trim_periodically(daemon.stopped.clone());
        daemon.own("giving memory back", giving_back);
        let replaced = daemon.node.reaper.clone().replace(daemon.stopped.clone());
        daemon.own("replacing the reaper", replaced);
        Ok(Started { daemon, problems })
    }

    /// Runs a task of the daemon itself. Without any of them the daemon would continue as if nothing were wrong, so it stops
    /// if one fails.
    fn own(self: &Arc<Self>, what: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let (daemon, task) = (self.clone(), tokio::spawn(task));
        self.tasks.spawn(async move {
            if let Err(error) = task.await {
                tracing::error!("{what} failed, and the daemon stops: {error}");
                daemon.stop();
            }
        });
    }

    /// Serves until told to stop, then stops: no new sessions, a grace period for running ones, then their end, of which each
    /// client is told.
    pub async fn run(self: Arc<Self>) {
        self.stopping.cancelled().await;
        let services = self.services();
        for service in &services {
            service.cluster_state.stop();
        }
        // A connection to a service may be open for days, and nobody knows when it is not needed: no grace would be enough.
        let refusal = Refusal::new(RefusalCode::Stopping, "the daemon is stopping");
        self.node.sessions.end_connections(&refusal);
        self.sessions.close();
        let served = async {
            self.forwards.ended().await;
            for connection in services.iter().flat_map(|service| service.peers.all()) {
                connection.served().await;
            }
            self.sessions.wait().await;
        };
        if tokio::time::timeout(STOP_GRACE, served).await.is_err() {
            tracing::warn!(
                "commands are still running after {} s; ending them",
                STOP_GRACE.as_secs()
            );
        }
        self.ending.cancel();
        let ended = async {
            for service in &services {
                service.stop(&refusal).await;
            }
            self.sessions.wait().await;
        };
        if tokio::time::timeout(END, ended).await.is_err() {
            tracing::error!("some commands did not end in time");
        }
        self.node.audit.counted();
        tracing::info!("stopped");
        self.stopped.cancel();
        let socket = self.socket.lock().take();
        if let Some(Err(error)) = async { Some(socket?.await) }.await {
            tracing::error!("the control socket failed: {error}");
        }
    }

    /// Tells the daemon to stop.
    pub fn stop(&self) {
        self.stopping.cancel();
    }

    /// Waits until the daemon is told to stop.
    pub async fn begins_to_stop(&self) {
        self.stopping.cancelled().await;
    }

    /// Cancelled when a session of a command line has to end; `None` if no new ones are accepted.
    pub fn session(&self) -> Option<CancellationToken> {
        (!self.stopping.is_cancelled()).then(|| self.ending.child_token())
    }

    /// Cancelled when the forwards of a command line have to end, which is as soon as the daemon stops; `None` if no new ones
    /// are accepted.
    pub fn forwarding(&self) -> Option<CancellationToken> {
        (!self.stopping.is_cancelled()).then(|| self.stopping.child_token())
    }

    /// Tracks the sessions of command lines.
    pub fn sessions(&self) -> &TaskTracker {
        &self.sessions
    }

    /// Tracks the daemon's tasks.
    pub fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Enforces the limits.
    pub fn limiter(&self) -> &Arc<Limiter> {
        &self.node.limiter
    }

    /// All served clusters.
    pub fn services(&self) -> Vec<Arc<Service>> {
        self.services.lock().values().cloned().collect()
    }

    /// What to log, and in which format; notifies of changes.
    pub fn log(&self) -> watch::Receiver<LogSettings> {
        self.log.subscribe()
    }

    /// The state as one line; notifies of changes.
    pub fn summary(&self) -> watch::Receiver<String> {
        self.summary.subscribe()
    }

    /// Updates that line, given what the last rescan found broken.
    fn summarize(&self, broken: impl Iterator<Item = String>) {
        let services = self.services();
        let troubled = services.iter().map(|service| &service.cluster_state);
        let troubled = troubled
            .filter(|cluster_state| cluster_state.config.state().problem.is_some())
            .map(|cluster_state| cluster_state.alias().to_string());
        let broken: BTreeSet<String> = broken.chain(troubled).collect();
        let broken: Vec<String> = broken.into_iter().collect();
        let count = services.len();
        let mut line = match count {
            1 => "serving 1 cluster".to_owned(),
            _ => format!("serving {count} clusters"),
        };
        if !broken.is_empty() {
            line += &format!(
                "; {} has problems (run `malai rescan --check`)",
                broken.join(", ")
            );
        }
        self.summary.send_replace(line);
    }

    /// Recreates `malai.lock` if it was deleted; it is only the visible sign of the lock. Returns whether the home is still
    /// this daemon's. If it was removed or replaced, the daemon stops, because another one may serve the new home.
    pub fn look_after_lock(&self) -> bool {
        if !self.lock.is_in_place() {
            tracing::error!(home = %self.home.root().display(), "the home was removed or replaced while the daemon was running; stopping");
            self.stop();
            return false;
        }
        if let Err(error) = self.lock.refresh() {
            tracing::warn!("cannot recreate malai.lock: {error}");
        }
        true
    }

    async fn keep_count(self: Arc<Self>) {
        self.node.audit.keep_count(&self.stopping).await;
    }

    async fn save_addresses(self: Arc<Self>) {
        while tokio::time::timeout(SAVE_EVERY, self.stopping.cancelled())
            .await
            .is_err()
        {
            for service in self.services() {
                if let Err(error) = service.save_addresses() {
                    tracing::warn!("cannot save the remembered addresses: {error}");
                }
            }
        }
    }

    /// The daemon's state for `malai status`, as JSON.
    pub fn facts(self: &Arc<Self>) -> String {
        let facts = DaemonFacts {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            user: user::own_name().unwrap_or_default(),
            default_user: run_as::default_user()
                .ok()
                .flatten()
                .map(|user| user.to_string()),
            tasks: tokio::runtime::Handle::try_current()
                .map_or(0, |runtime| runtime.metrics().num_alive_tasks()),
            clusters: self
                .services()
                .iter()
                .map(|service| status::cluster_facts(service))
                .collect(),
            forwards: self.forward_facts(),
            audit: self.node.audit.trouble(),
            notices: self
                .node
                .audit
                .removal()
                .map(|text| Notice::new(NoticeKind::Audit, text))
                .into_iter()
                .collect(),
        };
        serde_json::to_string(&facts).unwrap_or_default()
    }
}

/// Checks whether a daemon would start on this home, with the same checks and without starting anything.
///
/// # Errors
///
/// Everything that would prevent the start.
pub fn check_start(home: &Home) -> Result<(), StartError> {
    check(home, StartPolicy::Serve).map(drop)
}

/// Checks everything hand-written. The content of `malai.toml` has to be known before anything is served, and there has to
/// be something to serve, if there are clusters at all.
fn check(home: &Home, policy: StartPolicy) -> Result<(Settings, Vec<ClusterReport>), StartError> {
    let reports = check::verify_home(home, None)?;
    let (errors, warnings): (Vec<_>, Vec<_>) = check::verify_settings(home, &reports)
        .into_iter()
        .partition(Problem::is_error);
    for warning in warnings {
        tracing::warn!("{}", warning.brief());
    }
    let invalid = |errors: &[&Problem], why| StartError::Invalid {
        problems: errors.iter().map(ToString::to_string).collect(),
        why,
    };
    let of_clusters = reports.iter().flat_map(ClusterReport::errors);
    let all: Vec<&Problem> = errors.iter().chain(of_clusters).collect();
    if !errors.is_empty() {
        let why = "while malai.toml has errors, it is not known what this computer accepts";
        return Err(invalid(&all, why));
    }
    if policy == StartPolicy::Strict && !all.is_empty() {
        return Err(invalid(&all, "with --strict, no file may have errors"));
    }
    let mut clusters = reports
        .iter()
        .filter(|report| report.condition != Condition::Stray)
        .peekable();
    if clusters.peek().is_some() && !clusters.any(|report| report.servable) {
        return Err(invalid(&all, "no cluster can be served"));
    }
    let settings = Settings::load(home)
        .map_err(|error| invalid(&[&Problem::error(error)], "malai.toml cannot be read"))?;
    Ok((settings, reports))
}
