//! One cluster at work in this process: its identity, endpoint, links and background tasks.

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

use crate::accepting::Accepting;
use crate::addresses::Addresses;
use crate::audit::Audit;
use crate::configuration::{Configuration, State};
use crate::distribute;
use crate::endpoint::{self, BindError, Ports, machine_id};
use crate::home::{ClusterDir, Home, Role};
use crate::inbound::gate;
use crate::keeper::Keeper;
use crate::keystore::{self, KeyError};
use crate::limits::{Limiter, Origin};
use crate::link::Link;
use crate::mdns::Mdns;
use crate::member::Membership;
use crate::membership::{self, MembershipError};
use crate::moment::Moment;
use crate::peers::Peers;
use crate::probers::Probers;
use crate::session::Sessions;
use crate::settings::limits::busy;
use crate::settings::{Reach, Settings};
use crate::store::{self, StoreError};
use crate::twin;

/// How long a prober may take to say goodbye.
const PROBE: Duration = Duration::from_secs(5);

/// How long an endpoint may take to close. Every peer is told at once; what follows is a wait for late
/// packets, which is 3 s long after a connection with a path that was never measured (a short command's).
const GOODBYE: Duration = Duration::from_millis(250);

/// Largest snapshot file that is read, in bytes: the content and its comment line.
const MAX_SNAPSHOT_FILE: u64 = MAX_CONTENT as u64 + 4096;

/// A cluster cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// Its folder does not say what it is.
    #[error(transparent)]
    Membership(#[from] MembershipError),
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
pub struct Part {
    /// A daemon serves; a command by itself only dials.
    pub serves: bool,
    /// How far it reaches.
    pub reach: Reach,
    /// Which run of the program this is.
    pub instance: InstanceId,
    /// When it began.
    pub born: Moment,
    /// What this computer's owner accepts.
    pub accepting: Arc<Accepting>,
    /// What runs here now.
    pub sessions: Arc<Sessions>,
    /// Where it is recorded.
    pub audit: Arc<Audit>,
    /// What counts for the limits.
    pub limiter: Arc<Limiter>,
    /// Who ends what runs here if this process cannot. None unless it is set.
    pub keeper: Arc<Keeper>,
    /// From where peers are looked for.
    pub probers: Arc<Probers>,
}

impl Part {
    /// A part that begins now, in this home.
    pub fn new(serves: bool, reach: Reach, home: &Home, settings: &Settings) -> Self {
        let instance = rand::random();
        Self {
            serves,
            reach,
            instance,
            born: Moment::now(),
            accepting: Arc::new(Accepting::new(&settings.accept)),
            sessions: Arc::default(),
            limiter: Arc::new(Limiter::new(settings.limits.clone())),
            audit: Arc::new(Audit::new(home, &instance, settings.audit)),
            keeper: Arc::default(),
            probers: Arc::default(),
        }
    }
}

/// A cluster at work.
#[derive(Debug)]
pub struct Service {
    /// Identity, role, configuration.
    pub membership: Arc<Membership>,
    /// Links to members.
    pub peers: Arc<Peers>,
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
    pub async fn start(dir: ClusterDir, part: Part) -> Result<Arc<Self>, ServiceError> {
        let membership = Arc::new(open(dir, part.clone())?);
        let ports = if part.serves {
            Ports::Derived
        } else {
            Ports::Any
        };
        let endpoint = endpoint::bind(&membership.seed, part.reach, ports).await?;
        let mdns = Mdns::new(part.reach, membership.me);
        let addresses = Addresses::load(&membership.dir.addresses());
        let tasks = TaskTracker::new();
        let peers = Peers::new(
            membership.clone(),
            endpoint,
            part.reach,
            mdns,
            addresses,
            part.probers,
            tasks.clone(),
        );
        Ok(Arc::new(Self {
            membership,
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
        self.own(self.clone().cut_off());
        self.own(distribute::keep_up(self.clone()));
        self.own(twin::watch(self.clone()));
    }

    /// Runs a task until it ends or the service stops.
    pub fn own(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        let span = tracing::info_span!(parent: None, "cluster", cluster = %self.membership.alias());
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
    async fn cut_off(self: Arc<Self>) {
        let mut news = self.membership.configuration.watch();
        while news.changed().await.is_ok() {
            self.membership.sessions.judge_again(&self.membership);
            self.membership.forget_strangers();
            for link in self.peers.all() {
                if let Err(refusal) = gate::admit(&self.membership, &link.peer) {
                    self.own(async move { link.cut_off(&refusal).await });
                }
            }
        }
    }

    async fn announce(self: Arc<Self>) {
        self.peers.announce().await;
    }

    async fn accept(self: Arc<Self>) {
        let limiter = &self.membership.limiter;
        while let Some(incoming) = self.peers.endpoint().accept().await {
            let origin = Origin::from(incoming.remote_addr());
            // When it gets crowded, an address has to prove itself before it may have a place.
            if limiter.is_crowded(&origin) && !incoming.remote_addr_validated() {
                let _ = incoming.retry();
                continue;
            }
            // Identities are free to mint, so places are few; members need one for milliseconds.
            let place = limiter.stranger(origin);
            let service = self.clone();
            self.own(async move {
                let (link, gives_way) = (OnceLock::new(), place.gives_way.clone());
                tokio::select! {
                    () = service.welcome(incoming, &link) => {}
                    () = gives_way.cancelled() => service.make_way(link.get()),
                }
                drop(place);
            });
        }
    }

    /// Ends a connection that has to give way; one in its handshake has ended by being dropped.
    fn make_way(&self, link: Option<&Arc<Link>>) {
        if let Some(link) = link {
            let most = self.membership.limiter.limits().strangers_per_address;
            link.close(&busy("strangers_per_address", most));
        }
    }

    /// One handshake, and the wait until its peer is known or gone. One that fails ends nothing else.
    async fn welcome(&self, incoming: Incoming, link: &OnceLock<Arc<Link>>) {
        let patience = self.membership.limiter.limits().handshake();
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
                return tracing::debug!(cluster = %self.membership.alias(), "a handshake failed: {error}");
            }
            Err(_) => {
                return tracing::debug!(cluster = %self.membership.alias(), "a handshake took too long");
            }
        };
        if connection.alpn() == PROBE_ALPN {
            return self.probed(connection).await;
        }
        match machine_id(&connection.remote_id()) {
            Some(peer) => {
                let adopted = self.peers.adopt(connection, peer, None);
                link.get_or_init(|| adopted).judged().await;
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
                let _ = stream.write_all(&self.membership.instance).await;
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
        for link in self.peers.all() {
            link.close(refusal);
        }
        self.tasks.close();
        if let Err(error) = self.save_addresses() {
            tracing::warn!("remembered addresses are not saved: {error}");
        }
        let _ = tokio::time::timeout(GOODBYE, self.peers.endpoint().close()).await;
        self.tasks.wait().await;
    }

    /// Saves remembered addresses, if this process may write.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn save_addresses(&self) -> Result<(), StoreError> {
        if self.membership.serves {
            self.peers.addresses.save()
        } else {
            Ok(())
        }
    }
}

/// Reads what the home knows of a cluster.
fn open(dir: ClusterDir, part: Part) -> Result<Membership, ServiceError> {
    let (role, cluster) = membership::identify(&dir)?;
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
    Ok(assemble(dir, role, cluster, seed, state, part))
}

fn assemble(
    dir: ClusterDir,
    role: Role,
    cluster: ClusterId,
    seed: SecretSeed,
    state: State,
    part: Part,
) -> Membership {
    let me: MachineId = seed.id();
    Membership {
        dir,
        cluster,
        role,
        me,
        seed,
        configuration: Configuration::new(state),
        serves: part.serves,
        instance: part.instance,
        born: part.born,
        accepting: part.accepting,
        sessions: part.sessions,
        audit: part.audit,
        limiter: part.limiter,
        keeper: part.keeper,
        heard: Default::default(),
        given: Default::default(),
        waiting: Default::default(),
        stopping: Default::default(),
        twin: Default::default(),
    }
}

/// What a manager has published, and its file for names before the first time.
fn manager_state(dir: &ClusterDir, cluster: &ClusterId) -> Result<State, ServiceError> {
    let mut state = State::default();
    if let Some(text) = store::read_text(&dir.published(), MAX_SNAPSHOT_FILE)? {
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
    if let Some(text) = store::read_text(&dir.newer(), MAX_SNAPSHOT_FILE)? {
        state.newer = Snapshot::from_file(cluster, &text)
            .ok()
            .map(|newer| newer.revision())
            .filter(|newer| *newer > published);
    }
    if state.snapshot.is_none()
        && let Some(text) = store::read_text(&dir.cluster_toml(), MAX_SNAPSHOT_FILE)?
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
    if let Some(text) = store::read_text(&dir.machine_toml(), MAX_SNAPSHOT_FILE)? {
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
pub fn mend_edited(membership: &Membership) -> Option<String> {
    let snapshot = membership.configuration.snapshot()?;
    let path = membership.dir.machine_toml();
    let written = snapshot.to_file();
    if store::read_text(&path, MAX_SNAPSHOT_FILE)
        .ok()
        .flatten()
        .as_deref()
        == Some(&written)
    {
        return None;
    }
    Some(
        match store::write_atomic(&path, written.as_bytes(), 0o600) {
            Ok(()) => format!(
                "{} was changed here; only the manager changes it, so what it sent (revision {}) was put back",
                path.display(),
                snapshot.revision()
            ),
            Err(error) => format!(
                "{} was changed here, and what the manager sent cannot be put back: {error}",
                path.display()
            ),
        },
    )
}
