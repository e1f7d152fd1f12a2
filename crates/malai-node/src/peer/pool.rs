//! Links to peers: found, dialled once at a time, kept, replaced when the peer has started anew.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use iroh::{Endpoint, EndpointAddr};
use malai_cluster::MachineId;
use malai_wire::version::ALPN;
use malai_wire::{Refusal, RefusalCode};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::cluster::state::ClusterState;
use crate::net::discovery::address_book::AddressBook;
use crate::net::discovery::mdns::Mdns;
use crate::net::discovery::probe_pool::ProbePool;
use crate::net::discovery::{self, ProbeLog, VerifiedAddress};
use crate::net::endpoint::{self, Ports, endpoint_id};
use crate::peer::connection::{LIVENESS_WINDOW, PeerConnection};
use crate::peer::duplicates::{self, Ends};
use crate::settings::Reach;
use crate::settings::limits::busy;

/// How long a machine is looked for and dialled, all in all.
pub(crate) const DIAL: Duration = Duration::from_secs(10);

/// How long a dial has at least, when it had to wait for another to the same machine to fail.
const DIAL_AT_LEAST: Duration = Duration::from_secs(3);

/// How long a proven address may take to answer the real dial, at least.
const PROVEN: Duration = Duration::from_secs(1);

/// And how many times as long as the proof took: a machine that is busy is slow both times.
const TIMES_PROOF: u32 = 10;

/// How long a peer that has been silent may take to say that it is there.
const ASK: Duration = Duration::from_millis(400);

/// A machine was not reached. Nothing was run.
#[derive(Debug, Clone, thiserror::Error)]
#[error(
    "cannot reach {machine}: {what}\n  tried: {tried}\n  is its daemon running (`malai status` there), and is it in the same network reach?"
)]
pub struct ReachError {
    machine: String,
    what: String,
    tried: String,
}

/// The dial to one machine, if one is under way, and how the last one failed and when it had begun.
type Dial = Arc<tokio::sync::Mutex<Option<(Instant, ReachError)>>>;

/// What handles a connection: the pool knows that there is something, not what.
pub(crate) trait ConnectionHandler: fmt::Debug + Send + Sync + 'static {
    /// Handles a connection from its beginning until it has ended and nothing is done for it any more.
    fn handle(self: Arc<Self>, connection: Arc<PeerConnection>) -> ConnectionTask;
}

/// A connection being handled.
pub(crate) type ConnectionTask = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The links of one identity.
#[derive(Debug)]
pub struct PeerPool {
    handler: Arc<dyn ConnectionHandler>,
    cluster_state: Arc<ClusterState>,
    endpoint: Endpoint,
    /// How far this identity reaches.
    pub reach: Reach,
    /// Its part in mDNS.
    pub mdns: Mdns,
    /// Where members were last proven to be.
    pub addresses: AddressBook,
    probers: Arc<ProbePool>,
    connections: Mutex<HashMap<MachineId, Vec<Arc<PeerConnection>>>>,
    dials: Mutex<HashMap<MachineId, Dial>>,
    tasks: TaskTracker,
}

impl PeerPool {
    /// The connections of an identity, none yet. `handler` gets each of them; `tasks` owns what runs for them.
    #[expect(clippy::too_many_arguments)]
    pub(crate) fn new(
        handler: Arc<dyn ConnectionHandler>,
        cluster_state: Arc<ClusterState>,
        endpoint: Endpoint,
        reach: Reach,
        mdns: Mdns,
        addresses: AddressBook,
        probers: Arc<ProbePool>,
        tasks: TaskTracker,
    ) -> Arc<Self> {
        Arc::new(Self {
            handler,
            cluster_state,
            endpoint,
            reach,
            mdns,
            addresses,
            probers,
            connections: Mutex::default(),
            dials: Mutex::default(),
            tasks,
        })
    }

    /// The cluster these links belong to.
    pub(crate) fn cluster_state(&self) -> &Arc<ClusterState> {
        &self.cluster_state
    }

    /// The endpoint of this identity.
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Announces this identity in the local network, as long as the endpoint is open.
    pub(crate) async fn announce(&self) {
        self.mdns.announce(self.endpoint.clone()).await;
    }

    /// Takes a connection in, whichever side dialled.
    pub(crate) fn adopt(
        self: &Arc<Self>,
        connection: iroh::endpoint::Connection,
        peer: MachineId,
        own_endpoint: Option<Endpoint>,
    ) -> Arc<PeerConnection> {
        let connection =
            PeerConnection::new(self.cluster_state.clone(), connection, peer, own_endpoint);
        self.connections
            .lock()
            .entry(peer)
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
                peers.remember(&own).await;
            };
            tokio::join!(handled, admitted);
            peers.forget(&own);
        };
        self.tasks.spawn(life.instrument(span));
        connection
    }

    /// Keeps to the limits of connections: with one more than that, the one that was unused for longest
    /// is closed. Where all are in use the new one is, unless this side needs it itself.
    ///
    /// A connection that is closed for this carries no request that was received and not answered.
    fn evict_idle(&self, new: &Arc<PeerConnection>) {
        if new.is_closed() {
            return;
        }
        let limits = self.cluster_state.limiter.limits();
        let of_peer = self.connections.lock().get(&new.peer).cloned();
        let (one, all) = (limits.connections_per_peer, limits.connections);
        for (connections, name, most) in [
            (of_peer.unwrap_or_default(), "connections_per_peer", one),
            (self.all(), "connections", all),
        ] {
            let open = connections
                .into_iter()
                .filter(|connection| connection.is_admitted() && !connection.is_closed());
            let mut open: Vec<_> = open.collect();
            let too_many = open.len().saturating_sub(most as usize);
            if too_many == 0 {
                continue;
            }
            // Each is asked once: time goes on meanwhile, and an order that changes is none.
            open.sort_by_cached_key(|connection| std::cmp::Reverse(connection.idle_for()));
            let idle = open.iter().filter(|connection| {
                !connection.activity().is_occupied() && !Arc::ptr_eq(connection, new)
            });
            let idle: Vec<_> = idle.take(too_many).collect();
            for connection in &idle {
                connection.close(&busy(name, most));
            }
            if idle.len() < too_many && !new.is_dialled() {
                new.close(&self.cluster_state.limiter.refused(name, most));
                return;
            }
        }
    }

    /// What is learnt from a member's greeting: a member that serves is likely to be found again
    /// where it dialled from, and links to an earlier run of it lead to nobody any more.
    async fn remember(&self, connection: &Arc<PeerConnection>) {
        connection.wait_admitted().await;
        let Some(greeted) = connection.hello().filter(|greeted| greeted.hello.serves) else {
            return;
        };
        if connection.is_closed() {
            return;
        }
        if let Some(address) = connection.address() {
            self.addresses.remember(connection.peer, address);
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

    fn forget(&self, connection: &Arc<PeerConnection>) {
        let mut connections = self.connections.lock();
        if let Some(of_peer) = connections.get_mut(&connection.peer) {
            of_peer.retain(|other| !Arc::ptr_eq(other, connection));
            if of_peer.is_empty() {
                connections.remove(&connection.peer);
            }
        }
    }

    /// The link that would be used for a peer now, if there is one: the latest, and rather one that
    /// this side has dialled.
    pub fn current(&self, peer: &MachineId) -> Option<Arc<PeerConnection>> {
        let connections = self.connections.lock();
        let usable = || {
            let of_peer = connections.get(peer).into_iter().flatten();
            of_peer.rev().filter(|connection| connection.is_usable())
        };
        usable()
            .find(|connection| connection.is_dialled())
            .or_else(|| usable().next())
            .cloned()
    }

    /// All open links.
    pub fn all(&self) -> Vec<Arc<PeerConnection>> {
        self.connections
            .lock()
            .values()
            .flatten()
            .cloned()
            .collect()
    }

    /// A link that is known to work: one that the peer was heard on just now, or one on which it
    /// answers when asked, or a new one.
    ///
    /// # Errors
    ///
    /// The machine was not reached; what was tried is said.
    pub async fn connection(
        self: &Arc<Self>,
        peer: MachineId,
    ) -> Result<Arc<PeerConnection>, ReachError> {
        if let Some(connection) = self.current(&peer) {
            if connection.silent_for() < LIVENESS_WINDOW
                || connection.ping(connection.patience(ASK)).await
            {
                self.watch(&connection);
                return Ok(connection);
            }
            // While the old connection is open, a peer that came back on another port cannot be
            // dialled. Live sessions keep theirs: the outage may be short.
            if connection.sessions() == 0 {
                connection.close(&Refusal::new(RefusalCode::Idle, "no answer"));
            }
        }
        self.dial_new(peer).await
    }

    /// A link for a command: one that this side has dialled, so that the command survives a new
    /// address of this computer. Where the peer has dialled, its address is known and proven.
    ///
    /// # Errors
    ///
    /// As [`PeerPool::connection`].
    pub async fn connect_for_session(
        self: &Arc<Self>,
        peer: MachineId,
    ) -> Result<Arc<PeerConnection>, ReachError> {
        let connection = self.connection(peer).await?;
        if connection.is_dialled() {
            return Ok(connection);
        }
        let Some(address) = connection.address() else {
            return Ok(connection);
        };
        let dial = self.dials.lock().entry(peer).or_default().clone();
        let _one_at_a_time = dial.lock().await;
        if let Some(own) = self
            .current(&peer)
            .filter(|connection| connection.is_dialled())
        {
            return Ok(own);
        }
        let target = EndpointAddr::new(endpoint_id(&peer)).with_ip_addr(address);
        let dialled = self.endpoint.connect(target, ALPN);
        match tokio::time::timeout(connection.patience(ASK), dialled).await {
            Ok(Ok(connection)) => {
                let own = self.adopt(connection, peer, None);
                self.watch(&own);
                Ok(own)
            }
            Ok(Err(_)) | Err(_) => Ok(connection),
        }
    }

    /// A new link, whatever there is; one that somebody else dials at the same time is shared, and
    /// so is the failure of a dial that has begun since.
    ///
    /// # Errors
    ///
    /// As [`PeerPool::connection`].
    pub async fn dial_new(
        self: &Arc<Self>,
        peer: MachineId,
    ) -> Result<Arc<PeerConnection>, ReachError> {
        let asked = Instant::now();
        let dial = self.dials.lock().entry(peer).or_default().clone();
        let before = self.current(&peer);
        let mut last = dial.lock().await;
        if let Some(connection) = self.current(&peer)
            && before.is_none_or(|before| !Arc::ptr_eq(&before, &connection))
        {
            return Ok(connection);
        }
        if let Some((begun, error)) = &*last
            && *begun >= asked
        {
            return Err(error.clone());
        }
        let begun = Instant::now();
        let deadline = (asked + DIAL).max(begun + DIAL_AT_LEAST);
        let mut tried = ProbeLog::default();
        let dialled = tokio::time::timeout_at(deadline.into(), self.dial(peer, &mut tried)).await;
        let result = match dialled {
            Ok(Ok(connection)) => {
                self.watch(&connection);
                Ok(connection)
            }
            Ok(Err(what)) => Err(self.unreached(&peer, what, &tried)),
            Err(_) => {
                let what = format!("no answer within {} s", asked.elapsed().as_secs());
                Err(self.unreached(&peer, what, &tried))
            }
        };
        *last = result.as_ref().err().map(|error| (begun, error.clone()));
        drop(last);
        drop(dial);
        // Whoever waits for this dial holds it as well.
        self.dials
            .lock()
            .retain(|_, dial| Arc::strong_count(dial) > 1);
        result
    }

    fn unreached(&self, peer: &MachineId, what: String, tried: &ProbeLog) -> ReachError {
        let cluster = self.cluster_state.config.names();
        let name = cluster
            .as_ref()
            .and_then(|cluster| cluster.machine(peer))
            .map(|machine| machine.name().to_string());
        let beyond = match self.reach {
            Reach::Loopback => "",
            Reach::Lan => "; the local network (mDNS)",
            Reach::Public => "; the local network (mDNS); iroh's public discovery and relays",
        };
        ReachError {
            machine: name.unwrap_or_else(|| peer.to_string()),
            what,
            tried: format!("{tried}{beyond}; reach is `{}`", self.reach),
        }
    }

    /// Looks for a proven address and dials it; under `public`, iroh's discovery runs beside it.
    async fn dial(
        self: &Arc<Self>,
        peer: MachineId,
        tried: &mut ProbeLog,
    ) -> Result<Arc<PeerConnection>, String> {
        let (hint, hints) = mpsc::channel(64);
        let direct = async {
            let (searching, proving) = (
                self.search(peer, hint),
                discovery::prove(&self.probers, &peer, self.reach, hints, tried),
            );
            tokio::pin!(searching, proving);
            tokio::select! {
                proven = &mut proving => proven,
                () = &mut searching => proving.await,
            }
        };
        let public = async {
            if self.reach == Reach::Public {
                self.endpoint.connect(endpoint_id(&peer), ALPN).await.ok()
            } else {
                None
            }
        };
        tokio::pin!(direct, public);
        let (mut direct_done, mut public_done) = (false, self.reach != Reach::Public);
        loop {
            tokio::select! {
                proven = &mut direct, if !direct_done => {
                    direct_done = true;
                    if let Some(proven) = proven {
                        return self.dial_proven(peer, proven).await;
                    }
                }
                connection = &mut public, if !public_done => {
                    public_done = true;
                    if let Some(connection) = connection {
                        return Ok(self.adopt(connection, peer, None));
                    }
                }
                else => return Err("nothing answers with its key at any known address".into()),
            }
        }
    }

    /// Offers hints until the search is over: what is known at once, then what mDNS finds.
    async fn search(&self, peer: MachineId, hint: mpsc::Sender<SocketAddr>) {
        let waiting = self
            .cluster_state
            .pending_joins
            .lock()
            .iter()
            .find(|waiting| waiting.id == peer)
            .and_then(|waiting| waiting.address);
        let known = discovery::loopback_hints(&peer);
        let remembered = self.addresses.of(&peer);
        let mut hosts: Vec<IpAddr> = remembered
            .iter()
            .chain(&waiting)
            .map(SocketAddr::ip)
            .collect();
        hosts.sort();
        hosts.dedup();
        let moved = discovery::hints_at(&peer, &hosts);
        // The likeliest first: where it was last, then where a daemon on this computer would be, then
        // its other ports on the hosts where it was (something else may have taken the one it had).
        for address in remembered
            .into_iter()
            .chain(waiting)
            .chain(known)
            .chain(moved)
        {
            if hint.send(address).await.is_err() {
                return;
            }
        }
        self.mdns.find(&peer, hint).await;
    }

    async fn dial_proven(
        self: &Arc<Self>,
        peer: MachineId,
        VerifiedAddress { address, took }: VerifiedAddress,
    ) -> Result<Arc<PeerConnection>, String> {
        self.addresses.remember(peer, address);
        let patience = PROVEN.max(took * TIMES_PROOF);
        let target = EndpointAddr::new(endpoint_id(&peer)).with_ip_addr(address);
        let own = match tokio::time::timeout(patience, self.endpoint.connect(target.clone(), ALPN))
            .await
        {
            Ok(Ok(connection)) => return Ok(self.adopt(connection, peer, None)),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer".to_owned(),
        };
        // The endpoint may hold a bad address of this peer for a minute; a new endpoint holds none.
        tracing::debug!(machine = %peer.short(), %address, "a proven address did not answer the endpoint ({own}); dialling with a new one");
        let endpoint = endpoint::bind(&self.cluster_state.seed, self.reach, Ports::Any)
            .await
            .map_err(|error| error.to_string())?;
        match endpoint.connect(target, ALPN).await {
            Ok(connection) => Ok(self.adopt(connection, peer, Some(endpoint))),
            Err(error) => {
                endpoint.close().await;
                Err(format!(
                    "{address} proved to be its address but does not answer: {error:#}"
                ))
            }
        }
    }

    /// Sees to it that a peer's silence on a link in use is noticed.
    fn watch(self: &Arc<Self>, connection: &Arc<PeerConnection>) {
        if connection.is_watched() {
            return;
        }
        let (peers, watched) = (Arc::downgrade(self), connection.clone());
        let all = peers.clone();
        let is_spare = move |connection: &Arc<PeerConnection>| {
            all.upgrade()
                .is_some_and(|peers| peers.is_spare(connection))
        };
        self.tasks.spawn(watched.watch(is_spare, move |connection| {
            let peers = peers.upgrade();
            async move {
                let Some(peers) = peers else { return };
                // A new run of the peer is the end of everything that ran under the old one.
                if peers.find_restarted_peer(&connection).await.is_some() {
                    connection.close(&restarted());
                }
            }
        }));
    }

    fn is_spare(&self, connection: &Arc<PeerConnection>) -> bool {
        let ends = Ends {
            local_id: self.cluster_state.local_id,
            peer: connection.peer,
            manager: self.cluster_state.cluster.manager(),
        };
        let connections = self.connections.lock();
        let of_peer = connections.get(&connection.peer);
        of_peer.is_some_and(|of_peer| duplicates::is_spare(connection, of_peer, ends))
    }

    /// Looks for the peer beside a silent link: a link to another run of it, if there is one.
    pub(crate) async fn find_restarted_peer(
        self: &Arc<Self>,
        connection: &Arc<PeerConnection>,
    ) -> Option<Arc<PeerConnection>> {
        let beside = self
            .current(&connection.peer)
            .filter(|next| !Arc::ptr_eq(next, connection));
        let next = match beside {
            Some(next)
                if next.silent_for() < LIVENESS_WINDOW || next.ping(next.patience(ASK)).await =>
            {
                next
            }
            _ => self.dial_new(connection.peer).await.ok()?,
        };
        let greeted = next.wait_greeted(ASK).await.ok()?;
        let before = connection.hello()?;
        (greeted.hello.instance != before.hello.instance).then_some(next)
    }
}

fn restarted() -> Refusal {
    Refusal::new(RefusalCode::Done, "the machine's daemon was restarted")
}
