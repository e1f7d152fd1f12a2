//! One connection to one peer: what the two sides know of each other, who uses it, and how it ends. Both sides may open
//! requests.

mod io;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use iroh::endpoint::{Connection, ConnectionState, Path, RecvStream};
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
use crate::peer::streams::{RawStream, StreamRouter};
use crate::peer::windows::{Input, WindowShare, Windows};

pub(crate) use io::{IncomingRequest, binding, read_hello, send_hello};

/// A peer heard within this time counts as alive: a request is sent without a ping first.
pub(crate) const LIVENESS_WINDOW: Duration = Duration::from_millis(1_600);

/// The code with which QUIC closes a connection for its application before the handshake is complete: RFC 9000, section 20.1.
const APPLICATION_ERROR: u64 = 0x0c;

/// How long a peer may take to receive what was sent before the connection is closed.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// A connection and what is known about its peer.
#[derive(Debug)]
pub struct PeerConnection {
    /// The cluster that it belongs to: an endpoint has one identity, in one cluster.
    pub cluster_state: Arc<ClusterState>,
    /// The key that this connection's handshake proved.
    pub peer: MachineId,
    connection: Connection,
    /// Where it came from, if the peer dialed it directly: what is known before a path is.
    came_from: OnceLock<SocketAddr>,

    // How far it has come.
    phase: watch::Sender<Phase>,
    /// Whether this side's hello has been sent. Nothing else may use the connection's window before.
    hello_sent: watch::Sender<bool>,

    // Who uses it.
    activity: Arc<Activity>,
    is_watched: AtomicBool,

    // What goes over it.
    /// How much the peer may have in flight.
    windows: Arc<Windows>,
    /// Streams of this side's requests.
    outbound: StreamRouter,
    /// Streams of the peer's requests.
    inbound: StreamRouter,

    /// An endpoint that exists for this connection only and closes with it.
    own_endpoint: Mutex<Option<Endpoint>>,
}

impl PeerConnection {
    /// The tracing span for its log lines.
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
            came_from: OnceLock::new(),
            phase: watch::Sender::default(),
            hello_sent: watch::Sender::new(false),
            activity: Activity::new(Instant::now()),
            is_watched: AtomicBool::new(false),
            outbound: StreamRouter::default(),
            inbound: StreamRouter::default(),
            own_endpoint: Mutex::new(own_endpoint),
        })
    }

    /// Waits for the peer's hello, up to this timeout.
    ///
    /// # Errors
    ///
    /// The connection ended, or the hello did not arrive in time.
    pub(crate) async fn wait_greeted(&self, timeout: Duration) -> Result<RemoteHello, StreamError> {
        let greeted = self.wait_for_phase(|phase| phase.hello().is_some());
        match tokio::time::timeout(timeout, greeted).await {
            Ok(()) => self
                .hello()
                .ok_or_else(|| StreamError::ConnectionLost(self.end())),
            Err(_) => Err(StreamError::Timeout(timeout)),
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

    /// The peer's hello has arrived. Only the first counts.
    fn greet(&self, hello: RemoteHello) {
        self.phase.send_if_modified(|phase| phase.greet(hello));
    }

    /// The peer is not a member. It will be told.
    pub(crate) fn reject(&self) {
        self.phase.send_if_modified(Phase::reject);
    }

    /// The peer is a member and may have this many requests open, those for connections included.
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

    /// The run of the peer, if its hello has arrived.
    pub(crate) fn instance(&self) -> Option<InstanceId> {
        Some(self.phase.borrow().hello()?.hello.instance)
    }

    /// Whether `next`, a hello that has just arrived, belongs to a run of the peer that started after this connection's run
    /// was last heard. If so, this connection is dead.
    pub(crate) fn is_superseded_by(&self, next: &RemoteHello) -> bool {
        let heard = self.activity.heard();
        self.hello()
            .is_some_and(|hello| next.supersedes(&hello, heard, Instant::now()))
    }

    /// Who uses it, and when the peer was last heard.
    pub(crate) fn activity(&self) -> &Activity {
        &self.activity
    }

    /// Marks that the liveness watcher runs; returns whether it already did.
    pub(crate) fn set_watched(&self) -> bool {
        self.is_watched.swap(true, Ordering::Relaxed)
    }

    /// Whether the liveness watcher runs.
    pub(crate) fn is_watched(&self) -> bool {
        self.is_watched.load(Ordering::Relaxed)
    }

    /// Marks that a request of either side is running.
    pub(crate) fn mark_in_use(&self) -> Occupied {
        self.activity.request()
    }

    /// Marks that the connection serves a command, until the peer has been told of its end.
    pub(crate) fn serving(&self) -> Serving {
        self.activity.serving()
    }

    /// Marks that a session of this side uses the connection, and lets the peer send what that session needs.
    pub fn in_use(&self) -> InUse {
        self.activity.session(Some(self.windows.outbound()))
    }

    /// The same for a connection to a service of the peer.
    pub(crate) fn in_use_for_connection(&self) -> InUse {
        self.activity
            .session(Some(self.windows.outbound_connection()))
    }

    /// The rest of a request's stream as raw bytes.
    pub(crate) fn raw(&self, recv: RecvStream) -> RawStream {
        RawStream::new(recv, self.windows.clone())
    }

    /// Marks that a session of the peer uses the connection, and lets it send its input.
    pub(crate) fn in_use_by_peer(&self, share: WindowShare) -> InUse {
        self.activity.session(Some(share))
    }

    /// The share of the window for a session of the peer.
    ///
    /// # Errors
    ///
    /// The limit of data in flight from members is reached.
    pub(crate) fn share_for_peer(&self, input: Input) -> Result<WindowShare, Refusal> {
        self.windows.inbound(input)
    }

    /// The number of sessions that use the connection.
    pub(crate) fn sessions(&self) -> usize {
        self.activity.sessions()
    }

    /// Records that something arrived from the peer.
    pub(crate) fn heard_now(&self) {
        self.activity.heard_now();
    }

    /// How long neither side has used the connection. Pings do not count.
    pub fn idle_for(&self) -> Duration {
        self.activity.idle_for()
    }

    /// How long the peer has been silent.
    pub fn silent_for(&self) -> Duration {
        self.activity.heard().elapsed()
    }

    /// Whether this side dialed. Such a connection survives a new address of this computer, because in QUIC the dialer
    /// opens new paths.
    pub fn is_dialed(&self) -> bool {
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

    /// Why the connection ended, as text, including the peer's own reason if it gave one.
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

    /// Whether a peer that was dialed ended the connection while it was still in its handshake: what was sent over it could
    /// not be read. This side may consider the handshake finished by then.
    pub(crate) fn ended_in_handshake(&self) -> bool {
        self.is_dialed()
            && matches!(
                self.connection.close_reason(),
                Some(iroh::endpoint::ConnectionError::ConnectionClosed(close))
                    if u64::from(close.error_code) == APPLICATION_ERROR
            )
    }

    /// Closes the connection to a peer that is no longer a member. Its commands have been ended; the peer is told of each
    /// before the connection is closed.
    pub(crate) async fn drain_and_close(&self, refusal: &Refusal) {
        self.phase.send_if_modified(Phase::drain);
        let told = async {
            self.activity.without_serving().await;
            self.activity.delivered().await;
        };
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, told).await;
        self.close(refusal);
    }

    /// Closes the connection once the peer has received everything that was finished. What still runs is cut off.
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

    /// Closes the endpoint that exists for this connection only, if there is one.
    pub(crate) async fn close_own_endpoint(&self) {
        let own_endpoint = self.own_endpoint.lock().take();
        if let Some(endpoint) = own_endpoint {
            endpoint.close().await;
        }
    }

    /// Closes the connection with a code and a reason.
    pub(crate) fn close(&self, refusal: &Refusal) {
        // If the peer closed first, closing here would replace the peer's reason with this side's.
        if self.is_closed() {
            return;
        }
        self.phase
            .send_if_modified(|phase| phase.close(&refusal.message));
        tracing::debug!(peer = %self.peer.short(), cluster = %self.cluster_state.alias(), code = refusal.code, "closing the connection: {}", refusal.message);
        close(&self.connection, refusal);
    }

    /// The peer's address on the path in use; `None` through a relay.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match self.on_path(|path| path.remote_addr().clone()) {
            Some(TransportAddr::Ip(address)) => Some(address),
            Some(_) => None,
            None => self.came_from.get().copied(),
        }
    }

    /// Records what is known of a connection that the peer made: its hello, and the address that it came from.
    pub(super) fn introduce(&self, hello: RemoteHello, from: Option<SocketAddr>) {
        if let Some(address) = from {
            let _ = self.came_from.set(address);
        }
        self.greet(hello);
    }

    /// Whether packets go directly to the peer; `None` while no path is selected.
    pub(crate) fn is_direct(&self) -> Option<bool> {
        let paths = self.connection.paths();
        let path = paths.iter().find(Path::is_selected)?;
        Some(path.is_ip())
    }

    /// The round trip time of the current path.
    pub(crate) fn round_trip(&self) -> Option<Duration> {
        self.on_path(|path| path.rtt())
    }

    /// What is asked of the path in use, or of any while none is selected.
    fn on_path<T>(&self, ask: impl FnOnce(&Path<'_>) -> T) -> Option<T> {
        let paths = self.connection.paths();
        let selected = paths.iter().find(Path::is_selected);
        selected
            .or_else(|| paths.iter().next())
            .map(|path| ask(&path))
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

/// Closes a connection with a code and a reason, which is cut to 512 bytes.
pub(crate) fn close<S: ConnectionState>(connection: &Connection<S>, refusal: &Refusal) {
    let mut end = refusal.message.len().min(512);
    while !refusal.message.is_char_boundary(end) {
        end -= 1;
    }
    let reason = &refusal.message.as_bytes()[..end];
    connection.close(u32::from(refusal.code).into(), reason);
}

/// Why a connection to a silent peer ended.
pub(crate) fn silence() -> String {
    format!(
        "the machine has been silent for {} s",
        endpoint::GIVE_UP.as_secs()
    )
}
