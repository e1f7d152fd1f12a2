//! Connections to peers: one dial at a time, kept for reuse, and replaced when the peer's daemon was restarted.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use iroh::Endpoint;
use iroh::endpoint::Connection;
use malai_cluster::MachineId;
use malai_wire::{Refusal, RefusalCode};
use parking_lot::Mutex;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::cluster::state::ClusterState;
use crate::peer::arrival::Greeted;
use crate::peer::connection::{LIVENESS_WINDOW, PeerConnection, silence};
use crate::peer::dialer::{Dialed, Dialer, ReachError};
use crate::peer::duplicates::{self, Keys};
use crate::peer::eviction::{self, Candidate};
use crate::settings::limits::busy;

/// How long a silent peer may take to answer a ping.
const PING_TIMEOUT: Duration = Duration::from_millis(400);

/// The same for one of many.
const CROWD_PING_TIMEOUT: Duration = Duration::from_secs(3);

/// Handles connections. The pool only knows this trait, not the server behind it.
pub(crate) trait ConnectionHandler: fmt::Debug + Send + Sync + 'static {
    /// Handles a connection from its start until it has ended and nothing runs for it any more.
    fn handle(self: Arc<Self>, connection: Arc<PeerConnection>) -> ConnectionTask;
}

/// A connection being handled.
pub(crate) type ConnectionTask = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The connections of one identity.
#[derive(Debug)]
pub struct PeerPool {
    dialer: Dialer,
    handler: Arc<dyn ConnectionHandler>,
    connections: Mutex<HashMap<MachineId, Vec<Arc<PeerConnection>>>>,
    tasks: TaskTracker,
}

impl PeerPool {
    /// An empty pool. `handler` handles every connection, whichever side dials; `tasks` owns the tasks for them.
    pub(crate) fn new(
        dialer: Dialer,
        handler: Arc<dyn ConnectionHandler>,
        tasks: TaskTracker,
    ) -> Arc<Self> {
        Arc::new(Self {
            dialer,
            handler,
            connections: Mutex::default(),
            tasks,
        })
    }

    /// The cluster that these connections belong to.
    pub(crate) fn cluster_state(&self) -> &Arc<ClusterState> {
        &self.dialer.cluster_state
    }

    /// The endpoint of this identity.
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.dialer.endpoint
    }

    /// How this identity finds others and is found.
    pub(crate) fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    /// Announces this identity in the local network while the endpoint is open.
    pub(crate) async fn announce(&self) {
        self.dialer.mdns.announce(self.endpoint().clone()).await;
    }

    /// Adds a connection that this side dialed.
    fn adopt(self: &Arc<Self>, dialed: Dialed, peer: MachineId) -> Arc<PeerConnection> {
        let Dialed {
            connection,
            own_endpoint,
        } = dialed;
        let cluster_state = self.cluster_state().clone();
        let connection = PeerConnection::new(cluster_state, connection, peer, own_endpoint);
        self.add(connection)
    }

    /// Adds a connection that the peer made, which has greeted.
    pub(crate) fn adopt_arrived(
        self: &Arc<Self>,
        connection: Connection,
        greeted: Greeted,
        from: Option<SocketAddr>,
    ) -> Arc<PeerConnection> {
        let (cluster_state, Greeted { peer, hello }) = (self.cluster_state().clone(), greeted);
        let connection = PeerConnection::new(cluster_state, connection, peer, None);
        connection.introduce(hello, from);
        self.add(connection)
    }

    fn add(self: &Arc<Self>, connection: Arc<PeerConnection>) -> Arc<PeerConnection> {
        self.connections
            .lock()
            .entry(connection.peer)
            .or_default()
            .push(connection.clone());
        let (peers, own) = (self.clone(), connection.clone());
        let span = connection.span();
        let life = async move {
            let handled = async {
                peers.handler.clone().handle(own.clone()).await;
                own.close_own_endpoint().await;
            };
            let admitted = async {
                own.wait_admitted().await;
                peers.evict_idle(&own);
                peers.on_admitted(&own);
            };
            tokio::join!(handled, admitted);
            peers.remove(&own);
            peers.record_end(&own);
        };
        self.tasks.spawn(life.instrument(span));
        connection
    }

    /// Enforces the limits of connections. Over the limit, the connection unused for longest is closed. If all are in use,
    /// the new one is closed, unless this side needs it itself.
    ///
    /// A connection that is closed for this carries no request that was received and not answered.
    fn evict_idle(&self, new: &Arc<PeerConnection>) {
        if new.is_closed() {
            return;
        }
        let limits = self.cluster_state().node.limiter.limits();
        let of_peer = self.connections.lock().get(&new.peer).cloned();
        let (one, all) = (limits.connections_per_peer, limits.connections);
        for (connections, name, most) in [
            (of_peer.unwrap_or_default(), "connections_per_peer", one),
            (self.all(), "connections", all),
        ] {
            let open = connections
                .into_iter()
                .filter(|connection| connection.is_admitted() && !connection.is_closed());
            let open: Vec<_> = open.collect();
            let candidate = |connection: &Arc<PeerConnection>| Candidate {
                idle: connection.idle_for(),
                is_occupied: connection.activity().is_occupied(),
                is_new: Arc::ptr_eq(connection, new),
            };
            let candidates: Vec<_> = open.iter().map(candidate).collect();
            let eviction = eviction::evict(&candidates, most as usize);
            for place in eviction.close {
                open[place].close(&busy(name, most));
            }
            if !eviction.is_enough && !new.is_dialed() {
                new.close(&self.cluster_state().node.limiter.refused(name, most));
                return;
            }
        }
    }

    /// Learns from a member's hello. A member that serves can probably be reached again at the address that it dialed
    /// from, and connections to an earlier run of it are dead.
    fn on_admitted(&self, connection: &Arc<PeerConnection>) {
        let Some(greeted) = connection.hello().filter(|greeted| greeted.hello.serves) else {
            return;
        };
        if connection.is_closed() {
            return;
        }
        if let Some(address) = connection.address() {
            self.dialer.addresses.remember(connection.peer, address);
        }
        let of_peer = self
            .connections
            .lock()
            .get(&connection.peer)
            .cloned()
            .unwrap_or_default();
        for old in of_peer.iter().filter(|old| old.is_superseded_by(&greeted)) {
            old.close(&restarted());
        }
    }

    /// Records an end that says something about the peer: it has fallen silent, or it refuses this machine.
    fn record_end(&self, connection: &Arc<PeerConnection>) {
        if let Some(refusal) = connection.refused() {
            self.cluster_state()
                .record_close(&connection.peer, &refusal);
        } else if connection.end() == silence() {
            self.cluster_state()
                .record_failure(connection.peer, &silence());
        }
    }

    fn remove(&self, connection: &Arc<PeerConnection>) {
        let mut connections = self.connections.lock();
        if let Some(of_peer) = connections.get_mut(&connection.peer) {
            of_peer.retain(|other| !Arc::ptr_eq(other, connection));
            if of_peer.is_empty() {
                connections.remove(&connection.peer);
            }
        }
    }

    /// The connection to use for a peer now, if there is one: the latest, preferably one that this side dialed.
    pub fn current(&self, peer: &MachineId) -> Option<Arc<PeerConnection>> {
        let connections = self.connections.lock();
        let usable = || {
            let of_peer = connections.get(peer).into_iter().flatten();
            of_peer.rev().filter(|connection| connection.is_usable())
        };
        usable()
            .find(|connection| connection.is_dialed())
            .or_else(|| usable().next())
            .cloned()
    }

    /// All connections.
    pub fn all(&self) -> Vec<Arc<PeerConnection>> {
        self.connections
            .lock()
            .values()
            .flatten()
            .cloned()
            .collect()
    }

    /// A working connection: one on which the peer was heard just now or answers a ping, or a new one.
    ///
    /// # Errors
    ///
    /// The machine could not be reached; the error says what was tried.
    pub async fn connection(
        self: &Arc<Self>,
        peer: MachineId,
    ) -> Result<Arc<PeerConnection>, ReachError> {
        if let Some(connection) = self.current(&peer) {
            if connection.silent_for() < LIVENESS_WINDOW || self.answers(&connection).await {
                self.watch(&connection);
                return Ok(connection);
            }
            // While the old connection is open, a peer that came back on another port cannot be dialed. Running sessions
            // of either side keep theirs: the outage may be short, or the peer only slow. The code says that what the peer has
            // just sent over it was not looked at.
            if !connection.activity().is_occupied() {
                connection.close(&Refusal::new(RefusalCode::Busy, "no answer"));
            }
        }
        self.dial_new(peer).await
    }

    /// Whether a silent peer answers. One of many that are asked at once has longer.
    async fn answers(&self, connection: &PeerConnection) -> bool {
        let quick = self.cluster_state().node.quick_pings.try_acquire();
        let timeout = match &quick {
            Ok(_) => PING_TIMEOUT,
            Err(_) => CROWD_PING_TIMEOUT,
        };
        connection.ping(connection.ping_timeout(timeout)).await
    }

    /// A connection for a command: one that this side dialed, so that the command survives a new address of this
    /// computer. If the peer dialed, its address is known.
    ///
    /// # Errors
    ///
    /// As [`PeerPool::connection`].
    pub async fn connect_for_session(
        self: &Arc<Self>,
        peer: MachineId,
    ) -> Result<Arc<PeerConnection>, ReachError> {
        let connection = self.connection(peer).await?;
        if connection.is_dialed() {
            return Ok(connection);
        }
        let Some(address) = connection.address() else {
            return Ok(connection);
        };
        let turn = self.dialer.turn(peer);
        let _one_at_a_time = turn.lock().await;
        let own = self.current(&peer);
        if let Some(own) = own.filter(|connection| connection.is_dialed()) {
            return Ok(own);
        }
        // Where many dial at once, the connection that is there is worth more than one that takes its turn.
        let Ok(_turn) = self.cluster_state().node.dials.try_acquire() else {
            return Ok(connection);
        };
        let timeout = connection.ping_timeout(PING_TIMEOUT);
        match self.dialer.dial_at(&peer, address, timeout).await {
            Ok(dialed) => {
                let own = self.adopt(dialed.into(), peer);
                self.watch(&own);
                Ok(own)
            }
            Err(_) => Ok(connection),
        }
    }

    /// A new connection, even if there is one already. A dial in progress for another caller is shared, and so is the
    /// failure of a dial that started after this call.
    ///
    /// # Errors
    ///
    /// As [`PeerPool::connection`].
    pub async fn dial_new(
        self: &Arc<Self>,
        peer: MachineId,
    ) -> Result<Arc<PeerConnection>, ReachError> {
        let asked = Instant::now();
        let turn = self.dialer.turn(peer);
        let before = self.current(&peer);
        let mut last = turn.lock().await;
        if let Some(connection) = self.current(&peer)
            && before.is_none_or(|before| !Arc::ptr_eq(&before, &connection))
        {
            return Ok(connection);
        }
        if let Some((began, error)) = &*last
            && *began >= asked
        {
            return Err(error.clone());
        }
        let began = Instant::now();
        let cluster = self.cluster_state().alias();
        let name = self.cluster_state().name_of(&peer);
        let name = name.unwrap_or_else(|| peer.short());
        tracing::debug!(%cluster, machine = name, "dialing");
        let dialed = self.dialer.dial(peer, asked).await;
        let result = dialed.map(|dialed| {
            let connection = self.adopt(dialed, peer);
            self.watch(&connection);
            connection
        });
        let took_ms = began.elapsed().as_millis() as u64;
        match &result {
            Ok(connection) => {
                let address = connection.address().map(tracing::field::display);
                tracing::debug!(%cluster, machine = name, address, took_ms, "connected");
            }
            Err(error) => {
                tracing::debug!(%cluster, machine = name, took_ms, "{error}");
                self.cluster_state().record_failure(peer, error.what());
            }
        }
        *last = result.as_ref().err().map(|error| (began, error.clone()));
        drop(last);
        drop(turn);
        self.dialer.forget_turns();
        result
    }

    /// Starts the liveness watcher of a connection in use, once.
    fn watch(self: &Arc<Self>, connection: &Arc<PeerConnection>) {
        if connection.is_watched() {
            return;
        }
        let (peers, watched) = (Arc::downgrade(self), connection.clone());
        let all = peers.clone();
        let is_duplicate = move |connection: &Arc<PeerConnection>| {
            all.upgrade()
                .is_some_and(|peers| peers.is_duplicate(connection))
        };
        self.tasks
            .spawn(watched.watch(is_duplicate, move |connection| {
                let peers = peers.upgrade();
                async move {
                    let Some(peers) = peers else { return };
                    // A new run of the peer ends everything that ran under the old one.
                    if peers.find_restarted_peer(&connection).await.is_some() {
                        connection.close(&restarted());
                    }
                }
            }));
    }

    fn is_duplicate(&self, connection: &Arc<PeerConnection>) -> bool {
        let cluster_state = self.cluster_state();
        let keys = Keys {
            local: cluster_state.local_id,
            peer: connection.peer,
            manager: cluster_state.cluster.manager(),
        };
        let connections = self.connections.lock();
        let of_peer = connections.get(&connection.peer);
        of_peer.is_some_and(|of_peer| duplicates::is_duplicate(connection, of_peer, keys))
    }

    /// Looks for a restarted peer while a connection is silent, or after its end: a connection to another run of it, if there
    /// is one. While a connection may recover, it is not looked for if many others are.
    pub(crate) async fn find_restarted_peer(
        self: &Arc<Self>,
        connection: &Arc<PeerConnection>,
    ) -> Option<Arc<PeerConnection>> {
        let beside = self
            .current(&connection.peer)
            .filter(|next| !Arc::ptr_eq(next, connection));
        let next = match beside {
            Some(next)
                if next.silent_for() < LIVENESS_WINDOW
                    || next.ping(next.ping_timeout(PING_TIMEOUT)).await =>
            {
                next
            }
            _ => {
                let searches = &self.cluster_state().node.searches;
                let _search = match connection.is_closed() {
                    true => searches.acquire().await.ok()?,
                    false => searches.try_acquire().ok()?,
                };
                self.dial_new(connection.peer).await.ok()?
            }
        };
        let greeted = next.wait_greeted(PING_TIMEOUT).await.ok()?;
        let before = connection.hello()?;
        (greeted.hello.instance != before.hello.instance).then_some(next)
    }
}

fn restarted() -> Refusal {
    Refusal::new(RefusalCode::Done, "the machine's daemon was restarted")
}
