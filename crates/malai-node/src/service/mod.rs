//! One cluster at work in this process: its identity, endpoint, links and background tasks.

pub mod dispatch;
pub(crate) mod distribute;
pub(crate) mod duplicate_identity;
pub(crate) mod local;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use iroh::endpoint::{Connection, ConnectionError, Incoming};
use malai_cluster::{ClusterId, MAX_CONTENT, MachineId, SecretSeed, Snapshot, check};
use malai_wire::peer::hello::InstanceId;
use malai_wire::peer::probe::PROBE_TWIN;
use malai_wire::version::PROBE_ALPN;
use malai_wire::{Refusal, RefusalCode};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::audit::Audit;
use crate::cluster::authorize;
use crate::cluster::config::{ConfigStore, State};
use crate::cluster::state::ClusterState;
use crate::home::keystore::{self, KeyError};
use crate::home::manager_file::{self, MembershipError};
use crate::home::{ClusterDir, Home, Role};
use crate::net::discovery::address_book::AddressBook;
use crate::net::discovery::mdns::Mdns;
use crate::net::discovery::probe_pool::ProbePool;
use crate::net::endpoint::{self, BindError, Ports, machine_id};
use crate::node::accept::AcceptPolicies;
use crate::node::limits::{Limiter, Origin};
use crate::node::reaper::Reaper;
use crate::node::sessions::Sessions;
use crate::os::clock::BoundedInstant;
use crate::os::fs::{self, StoreError};
use crate::peer::connection::PeerConnection;
use crate::peer::pool::PeerPool;
use crate::server::Server;
use crate::settings::{Reach, Settings};

/// How long a prober may take to say goodbye.
const PROBE: Duration = Duration::from_secs(5);

/// How long an endpoint may take to close. Every peer is told at once; what follows is a wait for late
/// packets, which is 3 s long after a connection with a path that was never measured (a short command's).
const CLOSE_TIMEOUT: Duration = Duration::from_millis(250);

/// Largest snapshot file that is read, in bytes: the content and its comment line.
const MAX_SNAPSHOT_FILE: u64 = MAX_CONTENT as u64 + 4096;

/// A cluster cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// Its folder does not say what it is.
    #[error(transparent)]
    ClusterState(#[from] MembershipError),
    /// Its key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A file cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No sockets.
    #[error(transparent)]
    Bind(#[from] BindError),
}

/// How this process takes part.
#[derive(Debug, Clone)]
pub struct Node {
    /// A daemon serves; a command by itself only dials.
    pub serves: bool,
    /// How far it reaches.
    pub reach: Reach,
    /// Which run of the program this is.
    pub instance: InstanceId,
    /// When it began.
    pub started_at: BoundedInstant,
    /// What this computer's owner accepts.
    pub accept_policies: Arc<AcceptPolicies>,
    /// What runs here now.
    pub sessions: Arc<Sessions>,
    /// Where it is recorded.
    pub audit: Arc<Audit>,
    /// What counts for the limits.
    pub limiter: Arc<Limiter>,
    /// Who ends what runs here if this process cannot. None unless it is set.
    pub reaper: Arc<Reaper>,
    /// From where peers are looked for.
    pub probers: Arc<ProbePool>,
}

impl Node {
    /// A part that begins now, in this home.
    pub fn new(serves: bool, reach: Reach, home: &Home, settings: &Settings) -> Self {
        let instance = rand::random();
        Self {
            serves,
            reach,
            instance,
            started_at: BoundedInstant::now(),
            accept_policies: Arc::new(AcceptPolicies::new(&settings.accept)),
            sessions: Arc::default(),
            limiter: Arc::new(Limiter::new(settings.limits.clone())),
            audit: Arc::new(Audit::new(home, &instance, settings.audit)),
            reaper: Arc::default(),
            probers: Arc::default(),
        }
    }
}

/// A cluster at work.
#[derive(Debug)]
pub struct Service {
    /// Identity, role, configuration.
    pub cluster_state: Arc<ClusterState>,
    /// Links to members.
    pub peers: Arc<PeerPool>,
    /// Told when somebody has probed this daemon in search of its own key.
    pub probed_by_twin: Notify,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Service {
    /// Reads the folder and opens the endpoint. Nothing is accepted before [`Service::serve`].
    ///
    /// # Errors
    ///
    /// The folder, the key or the sockets cannot be used. A damaged snapshot is no error: that
    /// cluster denies everything until it has a new one.
    pub async fn start(dir: ClusterDir, node: Node) -> Result<Arc<Self>, ServiceError> {
        let cluster_state = Arc::new(open(dir, node.clone())?);
        let ports = if node.serves {
            Ports::Derived
        } else {
            Ports::Any
        };
        let endpoint = endpoint::bind(&cluster_state.seed, node.reach, ports).await?;
        let mdns = Mdns::new(node.reach, cluster_state.local_id);
        let addresses = AddressBook::load(&cluster_state.dir.addresses());
        let tasks = TaskTracker::new();
        let peers = PeerPool::new(
            Arc::new(Server),
            cluster_state.clone(),
            endpoint,
            node.reach,
            mdns,
            addresses,
            node.probers,
            tasks.clone(),
        );
        Ok(Arc::new(Self {
            cluster_state,
            peers,
            probed_by_twin: Notify::new(),
            tasks,
            stop: CancellationToken::new(),
        }))
    }

    /// Accepts from now on, and keeps the configuration up to date. Before this nobody is judged.
    pub fn serve(self: &Arc<Self>) {
        self.own(self.clone().accept());
        self.own(self.clone().announce());
        self.own(self.clone().drain_and_close());
        self.own(distribute::poll_loop(self.clone()));
        self.own(duplicate_identity::watch(self.clone()));
    }

    /// Runs a task until it ends or the service stops.
    pub fn own(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        let span =
            tracing::info_span!(parent: None, "cluster", cluster = %self.cluster_state.alias());
        let until_stopped = async move {
            tokio::select! {
                () = task => {}
                () = stop.cancelled() => {}
            }
        };
        self.tasks.spawn(until_stopped.instrument(span));
    }

    /// Under a new configuration, judges what runs here again and closes the connections of whoever
    /// is not a member any more.
    async fn drain_and_close(self: Arc<Self>) {
        let mut news = self.cluster_state.config.watch();
        while news.changed().await.is_ok() {
            authorize::reauthorize_all(&self.cluster_state);
            self.cluster_state.forget_strangers();
            for connection in self.peers.all() {
                if let Err(refusal) = authorize::admit(&self.cluster_state, &connection.peer) {
                    self.own(async move { connection.drain_and_close(&refusal).await });
                }
            }
        }
    }

    async fn announce(self: Arc<Self>) {
        self.peers.announce().await;
    }

    async fn accept(self: Arc<Self>) {
        let limiter = &self.cluster_state.limiter;
        while let Some(incoming) = self.peers.endpoint().accept().await {
            let origin = Origin::from(incoming.remote_addr());
            // When it gets crowded, an address has to prove itself before it may have a place.
            if limiter.is_crowded(&origin) && !incoming.remote_addr_validated() {
                let _ = incoming.retry();
                continue;
            }
            // Identities are free to mint, so slots are few; members need one for milliseconds.
            let Ok(slot) = limiter.unauthenticated(origin) else {
                // Its peer sends its first packet again within a second.
                incoming.ignore();
                continue;
            };
            let service = self.clone();
            self.own(async move {
                let accepted = OnceLock::new();
                tokio::select! {
                    () = service.welcome(incoming, &accepted) => {}
                    by = slot.evicted() => {
                        let refusal = service.cluster_state.limiter.evicted(by);
                        // One in its handshake ends by being dropped, and its peer dials again.
                        if let Some(connection) = accepted.get() {
                            connection.close(&refusal);
                        }
                    }
                }
                drop(slot);
            });
        }
    }

    /// One handshake, and the wait until its peer is known or gone. One that fails ends nothing else.
    async fn welcome(&self, incoming: Incoming, accepted: &OnceLock<Arc<PeerConnection>>) {
        let patience = self.cluster_state.limiter.limits().handshake();
        let handshake = async {
            incoming
                .accept()
                .map_err(|error| error.to_string())?
                .await
                .map_err(|error| error.to_string())
        };
        let connection = match tokio::time::timeout(patience, handshake).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => {
                return tracing::debug!(cluster = %self.cluster_state.alias(), "a handshake failed: {error}");
            }
            Err(_) => {
                return tracing::debug!(cluster = %self.cluster_state.alias(), "a handshake took too long");
            }
        };
        if connection.alpn() == PROBE_ALPN {
            return self.probed(connection).await;
        }
        match machine_id(&connection.remote_id()) {
            Some(peer) => {
                let adopted = self.peers.adopt(connection, peer, None);
                accepted.get_or_init(|| adopted).wait_admitted().await;
            }
            None => connection.close(
                u32::from(RefusalCode::NotAMember as u16).into(),
                b"a weak key",
            ),
        }
    }

    /// The handshake has proved to a prober that this key lives here; it is told which run of the
    /// program this is, and says by the code of its farewell whether it was looking for its own key.
    async fn probed(&self, connection: Connection) {
        let serve = async {
            if let Ok(mut stream) = connection.open_uni().await {
                let _ = stream.write_all(&self.cluster_state.instance).await;
                let _ = stream.finish();
            }
            connection.closed().await
        };
        match tokio::time::timeout(PROBE, serve).await {
            Ok(ConnectionError::ApplicationClosed(close))
                if close.error_code == PROBE_TWIN.into() =>
            {
                self.probed_by_twin.notify_one();
            }
            _ => {}
        }
    }

    /// Ends everything: background tasks, links (each peer is told why), the endpoint.
    pub async fn stop(&self, refusal: &Refusal) {
        self.stop.cancel();
        for connection in self.peers.all() {
            connection.close(refusal);
        }
        self.tasks.close();
        if let Err(error) = self.save_addresses() {
            tracing::warn!("remembered addresses are not saved: {error}");
        }
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.peers.endpoint().close()).await;
        self.tasks.wait().await;
    }

    /// Saves remembered addresses, if this process may write.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn save_addresses(&self) -> Result<(), StoreError> {
        if self.cluster_state.serves {
            self.peers.addresses.save()
        } else {
            Ok(())
        }
    }
}

/// Reads what the home knows of a cluster.
fn open(dir: ClusterDir, node: Node) -> Result<ClusterState, ServiceError> {
    let (role, cluster) = manager_file::identify(&dir)?;
    let (seed, state) = match role {
        Role::Manager => (
            keystore::load(&dir.cluster_key())?,
            manager_state(&dir, &cluster)?,
        ),
        Role::Machine => (
            keystore::load(&dir.machine_key())?,
            machine_state(&dir, &cluster)?,
        ),
    };
    Ok(assemble(dir, role, cluster, seed, state, node))
}

fn assemble(
    dir: ClusterDir,
    role: Role,
    cluster: ClusterId,
    seed: SecretSeed,
    state: State,
    node: Node,
) -> ClusterState {
    let local_id: MachineId = seed.id();
    ClusterState {
        dir,
        cluster,
        role,
        local_id,
        seed,
        config: ConfigStore::new(state),
        serves: node.serves,
        instance: node.instance,
        started_at: node.started_at,
        accept_policies: node.accept_policies,
        sessions: node.sessions,
        audit: node.audit,
        limiter: node.limiter,
        reaper: node.reaper,
        peers_seen: Default::default(),
        encoded: Default::default(),
        pending_joins: Default::default(),
        stopping: Default::default(),
        duplicate: Default::default(),
    }
}

/// What a manager has published, and its file for names before the first time.
fn manager_state(dir: &ClusterDir, cluster: &ClusterId) -> Result<State, ServiceError> {
    let mut state = State::default();
    if let Some(text) = fs::read_text(&dir.published(), MAX_SNAPSHOT_FILE)? {
        match Snapshot::from_file(cluster, &text) {
            Ok(snapshot) => state.snapshot = Some(Arc::new(snapshot)),
            Err(error) => {
                state.problem = Some(format!(
                    "{}: {error}; the next rescan publishes anew",
                    dir.published().display()
                ))
            }
        }
    }
    let published = state
        .snapshot
        .as_ref()
        .map_or(0, |snapshot| snapshot.revision());
    if let Some(text) = fs::read_text(&dir.newer(), MAX_SNAPSHOT_FILE)? {
        state.newer = Snapshot::from_file(cluster, &text)
            .ok()
            .map(|newer| newer.revision())
            .filter(|newer| *newer > published);
    }
    if state.snapshot.is_none()
        && let Some(text) = fs::read_text(&dir.cluster_toml(), MAX_SNAPSHOT_FILE)?
    {
        state.draft = check(&dir.cluster_toml().to_string_lossy(), &text)
            .cluster
            .map(Arc::new);
    }
    Ok(state)
}

/// What a machine has received. A file that is torn or was edited is reported and never obeyed.
fn machine_state(dir: &ClusterDir, cluster: &ClusterId) -> Result<State, ServiceError> {
    let mut state = State::default();
    if let Some(text) = fs::read_text(&dir.machine_toml(), MAX_SNAPSHOT_FILE)? {
        match Snapshot::from_file(cluster, &text) {
            Ok(snapshot) => state.snapshot = Some(Arc::new(snapshot)),
            Err(error) => {
                let problem = format!(
                    "{} cannot be used: {error}. This cluster denies everything until the manager or a member has sent the configuration again, which is being asked for",
                    dir.machine_toml().display()
                );
                tracing::error!(cluster = %dir.alias, "{problem}");
                state.problem = Some(problem);
            }
        }
    }
    Ok(state)
}

/// Looks whether a machine's file is what was received; if somebody edited it, says so and puts the
/// received one back: a local edit is never obeyed.
pub(crate) fn restore_edited(cluster_state: &ClusterState) -> Option<String> {
    let snapshot = cluster_state.config.snapshot()?;
    let path = cluster_state.dir.machine_toml();
    let written = snapshot.to_file();
    if fs::read_text(&path, MAX_SNAPSHOT_FILE)
        .ok()
        .flatten()
        .as_deref()
        == Some(&written)
    {
        return None;
    }
    Some(match fs::write_atomic(&path, written.as_bytes(), 0o600) {
        Ok(()) => format!(
            "{} was changed here; only the manager changes it, so what it sent (revision {}) was put back",
            path.display(),
            snapshot.revision()
        ),
        Err(error) => format!(
            "{} was changed here, and what the manager sent cannot be put back: {error}",
            path.display()
        ),
    })
}
