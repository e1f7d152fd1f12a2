//! One connection to one peer: what its two sides know of each other, who uses it, and how it ends. Both sides may
//! open requests.

mod io;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use iroh::endpoint::Connection;
use iroh::{Endpoint, TransportAddr};
use malai_cluster::MachineId;
use malai_wire::Refusal;
use malai_wire::peer::hello::InstanceId;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::cluster::state::ClusterState;
use crate::net::endpoint;
use crate::net::framing::StreamError;
use crate::node::sessions::PathInfo;
use crate::peer::activity::{Activity, InUse, Occupied, Serving};
use crate::peer::phase::{Phase, RemoteHello};
use crate::peer::streams::StreamRouter;
use crate::peer::windows::{WindowShare, Windows};

pub(crate) use io::IncomingRequest;

/// Heard from within this time, a peer is taken to be there: a request is sent without asking first.
pub(crate) const LIVENESS_WINDOW: Duration = Duration::from_millis(1_600);

/// How long a peer may take to receive what was sent before the connection is closed.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// A connection and what is known of its other side.
#[derive(Debug)]
pub struct PeerConnection {
    /// The cluster it belongs to: an endpoint has one identity, in one cluster.
    pub cluster_state: Arc<ClusterState>,
    /// The key that this connection's handshake proved.
    pub peer: MachineId,
    connection: Connection,

    // How far it has come.
    phase: watch::Sender<Phase>,
    /// Whether this side's hello has been sent: only then may anything else take room on the connection.
    hello_sent: watch::Sender<bool>,

    // Who uses it.
    activity: Arc<Activity>,
    is_watched: AtomicBool,

    // What goes over it.
    /// How much the peer may have on its way.
    windows: Arc<Windows>,
    /// Streams of the requests that this side makes.
    outbound: StreamRouter,
    /// Streams of the requests that the peer makes.
    inbound: StreamRouter,

    /// An endpoint that exists for this connection alone and closes with it.
    own_endpoint: Mutex<Option<Endpoint>>,
}

impl PeerConnection {
    /// The span of everything that is logged about it.
    pub(crate) fn span(&self) -> tracing::Span {
        let (cluster_state, peer) = (&self.cluster_state, self.peer.short());
        let machine = cluster_state.name_of(&self.peer);
        tracing::info_span!(parent: None, "peer", cluster = %cluster_state.alias(), %peer, machine)
    }

    /// Wraps a connection. Nothing happens on it until it is handled.
    pub(crate) fn new(
        cluster_state: Arc<ClusterState>,
        connection: Connection,
        peer: MachineId,
        own_endpoint: Option<Endpoint>,
    ) -> Arc<Self> {
        let limiter = cluster_state.node.limiter.clone();
        Arc::new(Self {
            windows: Windows::new(connection.clone(), peer, limiter),
            cluster_state,
            peer,
            connection,
            phase: watch::Sender::default(),
            hello_sent: watch::Sender::new(false),
            activity: Activity::new(Instant::now()),
            is_watched: AtomicBool::new(false),
            outbound: StreamRouter::default(),
            inbound: StreamRouter::default(),
            own_endpoint: Mutex::new(own_endpoint),
        })
    }

    /// The peer's hello, waited for at most this long.
    ///
    /// # Errors
    ///
    /// The connection ended, or nothing came.
    pub(crate) async fn wait_greeted(
        &self,
        patience: Duration,
    ) -> Result<RemoteHello, StreamError> {
        let greeted = self.wait_for_phase(|phase| phase.hello().is_some());
        match tokio::time::timeout(patience, greeted).await {
            Ok(()) => self
                .hello()
                .ok_or_else(|| StreamError::ConnectionLost(self.end())),
            Err(_) => Err(StreamError::Timeout(patience)),
        }
    }

    /// Waits until the peer is known to be a member, or the connection has ended.
    pub(crate) async fn wait_admitted(&self) {
        self.wait_for_phase(Phase::is_admitted).await;
    }

    /// Waits for a phase, or for the end of the connection.
    async fn wait_for_phase(&self, is_reached: impl Fn(&Phase) -> bool) {
        let mut phase = self.phase.subscribe();
        tokio::select! {
            _ = phase.wait_for(is_reached) => {}
            _ = self.connection.closed() => {}
        }
    }

    /// The peer has said hello. Only the first counts.
    fn greet(&self, hello: RemoteHello) {
        self.phase.send_if_modified(|phase| phase.greet(hello));
    }

    /// The peer is not a member. It is about to be told.
    pub(crate) fn reject(&self) {
        self.phase.send_if_modified(Phase::reject);
    }

    /// The peer is a member: it may make requests, this many at a time.
    pub(crate) fn admit(&self, requests: u32) {
        self.phase.send_if_modified(Phase::admit);
        self.connection
            .set_max_concurrent_bi_streams(requests.into());
        self.connection
            .set_max_concurrent_uni_streams((2 * requests).into());
    }

    /// Whether the peer is known to be a member.
    pub fn is_admitted(&self) -> bool {
        self.phase.borrow().is_admitted()
    }

    /// Whether the connection is open and the peer answers requests.
    pub(crate) fn is_usable(&self) -> bool {
        !self.is_closed() && self.phase.borrow().is_usable()
    }

    /// The peer's hello, if it has arrived.
    pub(crate) fn hello(&self) -> Option<RemoteHello> {
        self.phase.borrow().hello().cloned()
    }

    /// Which run of the peer this is, if it has said so.
    pub(crate) fn instance(&self) -> Option<InstanceId> {
        Some(self.phase.borrow().hello()?.hello.instance)
    }

    /// Whether `next`, which has just arrived, is the hello of a run of the peer that began after this connection's
    /// run was last heard: then this connection leads nowhere any more.
    pub(crate) fn is_superseded_by(&self, next: &RemoteHello) -> bool {
        let heard = self.activity.heard();
        self.hello()
            .is_some_and(|hello| next.supersedes(&hello, heard, Instant::now()))
    }

    /// Who uses it, and when the peer was last heard.
    pub(crate) fn activity(&self) -> &Activity {
        &self.activity
    }

    /// Marks that the liveness watcher runs; whether it ran already.
    pub(crate) fn set_watched(&self) -> bool {
        self.is_watched.swap(true, Ordering::Relaxed)
    }

    /// Whether the liveness watcher runs.
    pub(crate) fn is_watched(&self) -> bool {
        self.is_watched.load(Ordering::Relaxed)
    }

    /// Marks that a request is under way, of either side.
    pub(crate) fn occupied(&self) -> Occupied {
        self.activity.request()
    }

    /// Marks the connection as serving a command, until the peer has been told of its end.
    pub(crate) fn serving(&self) -> Serving {
        self.activity.serving()
    }

    /// Marks the connection as used by a session of this side, and lets the peer send as much as that needs.
    pub fn in_use(&self) -> InUse {
        self.activity.session(Some(self.windows.outbound()))
    }

    /// Marks the connection as used by a session of the peer's, and lets it send its input.
    pub(crate) fn in_use_by_peer(&self, share: WindowShare) -> InUse {
        self.activity.session(Some(share))
    }

    /// The share of the window that a session of the peer's needs.
    ///
    /// # Errors
    ///
    /// The limit of what members may have on their way here is reached.
    pub(crate) fn share_for_peer(&self, has_input: bool) -> Result<WindowShare, Refusal> {
        self.windows.inbound(has_input)
    }

    /// Sessions that use the connection now.
    pub(crate) fn sessions(&self) -> usize {
        self.activity.sessions()
    }

    /// Something arrived from the peer.
    pub(crate) fn heard_now(&self) {
        self.activity.heard_now();
    }

    /// How long neither side has used the connection; pings do not count.
    pub fn idle_for(&self) -> Duration {
        self.activity.idle_for()
    }

    /// How long the peer has been silent.
    pub fn silent_for(&self) -> Duration {
        self.activity.heard().elapsed()
    }

    /// Whether this side has dialled. Such a connection survives a new address of this computer:
    /// in QUIC it is the dialer who opens new paths.
    pub fn is_dialled(&self) -> bool {
        self.connection.side().is_client()
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.connection.close_reason().is_some()
    }

    /// Waits for the end of the connection.
    pub(crate) async fn closed(&self) {
        self.connection.closed().await;
    }

    /// Why the connection has ended, for people; with the peer's own reason where it gave one.
    pub(crate) fn end(&self) -> String {
        match self.connection.close_reason() {
            Some(iroh::endpoint::ConnectionError::ApplicationClosed(close)) => {
                malai_cluster::escape_bytes(&close.reason)
            }
            Some(iroh::endpoint::ConnectionError::TimedOut) => silence(),
            Some(other) => match self.phase.borrow().close_reason() {
                Some(reason) if !reason.is_empty() => malai_cluster::escape(reason),
                _ => other.to_string(),
            },
            None => "the connection is open".into(),
        }
    }

    /// The refusal with which the peer closed the connection, if it did.
    pub(crate) fn refused(&self) -> Option<Refusal> {
        match self.connection.close_reason() {
            Some(iroh::endpoint::ConnectionError::ApplicationClosed(close)) => Some(Refusal {
                code: u16::try_from(close.error_code.into_inner()).unwrap_or(u16::MAX),
                message: String::from_utf8_lossy(&close.reason).into_owned(),
            }),
            _ => None,
        }
    }

    /// Closes the connection with a peer that is not a member any more. Its commands have been ended; it is told
    /// of each before the connection is closed.
    pub(crate) async fn drain_and_close(&self, refusal: &Refusal) {
        self.phase.send_if_modified(Phase::drain);
        let told = async {
            self.activity.without_serving().await;
            self.activity.delivered().await;
        };
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, told).await;
        self.close(refusal);
    }

    /// Closes the connection when the peer has received what was sent to its end; what still runs is cut off.
    pub(crate) async fn deliver_and_close(&self, refusal: &Refusal) {
        let delivered = self.activity.delivered();
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, delivered).await;
        self.close(refusal);
    }

    /// Waits until no command uses the connection and the peer has received the end of each.
    pub(crate) async fn served(&self) {
        self.activity.without_sessions().await;
        self.activity.without_serving().await;
        self.activity.delivered().await;
    }

    /// Closes the endpoint that exists for this connection alone, if there is one.
    pub(crate) async fn close_own_endpoint(&self) {
        let own_endpoint = self.own_endpoint.lock().take();
        if let Some(endpoint) = own_endpoint {
            endpoint.close().await;
        }
    }

    /// Closes the connection with a code and a reason.
    pub(crate) fn close(&self, refusal: &Refusal) {
        // Closing what the peer has closed would put this side's reason in place of the peer's.
        if self.is_closed() {
            return;
        }
        self.phase
            .send_if_modified(|phase| phase.close(&refusal.message));
        tracing::debug!(peer = %self.peer.short(), cluster = %self.cluster_state.alias(), code = refusal.code, "closing the connection: {}", refusal.message);
        let mut end = refusal.message.len().min(512);
        while !refusal.message.is_char_boundary(end) {
            end -= 1;
        }
        self.connection.close(
            u32::from(refusal.code).into(),
            &refusal.message.as_bytes()[..end],
        );
    }

    /// The peer's address on the path in use; `None` through a relay.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        let paths = self.connection.paths();
        let path = paths
            .iter()
            .find(iroh::endpoint::Path::is_selected)
            .or_else(|| paths.iter().next());
        match path.map(|path| path.remote_addr().clone()) {
            Some(TransportAddr::Ip(address)) => Some(address),
            _ => None,
        }
    }

    /// Whether packets go straight to the peer; `None` while no path is chosen.
    pub(crate) fn is_direct(&self) -> Option<bool> {
        let paths = self.connection.paths();
        let path = paths.iter().find(iroh::endpoint::Path::is_selected)?;
        Some(path.is_ip())
    }

    /// The round trip of the path in use.
    pub(crate) fn round_trip(&self) -> Option<Duration> {
        let paths = self.connection.paths();
        let path = paths
            .iter()
            .find(iroh::endpoint::Path::is_selected)
            .or_else(|| paths.iter().next())?;
        Some(path.rtt())
    }
}

impl PathInfo for PeerConnection {
    fn is_direct(&self) -> Option<bool> {
        self.is_direct()
    }

    fn address(&self) -> Option<SocketAddr> {
        self.address()
    }
}

/// Why a connection ended whose peer was given up.
pub(super) fn silence() -> String {
    format!(
        "the machine has been silent for {} s",
        endpoint::GIVE_UP.as_secs()
    )
}
