//! One connection to one peer: what its two sides know of each other, who uses it, and how it ends. Both sides may
//! open requests.

mod io;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use iroh::endpoint::Connection;
use iroh::{Endpoint, TransportAddr};
use malai_cluster::MachineId;
use malai_wire::Refusal;
use malai_wire::peer::hello::Hello;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::cluster::state::ClusterState;
use crate::net::endpoint;
use crate::net::framing::StreamError;
use crate::node::sessions::PathInfo;
use crate::os::clock::BoundedInstant;
use crate::peer::streams::StreamRouter;

pub(crate) use io::IncomingRequest;

/// Heard from within this time, a peer is taken to be there: a request is sent without asking first.
pub(crate) const LIVENESS_WINDOW: Duration = Duration::from_millis(1_600);

/// Bytes that each session adds to what a peer may have in flight: more than the windows of its
/// streams, so that one that nobody reads does not hold up another.
const WINDOW_OF_SESSION: u32 = 1 << 22;

/// How long a peer that is cut off may take to hear why its commands were ended.
const TELLING: Duration = Duration::from_secs(1);

/// What the other side said first, and when it arrived here.
#[derive(Debug, Clone)]
pub struct RemoteHello {
    /// Its words.
    pub hello: Hello,
    /// When they arrived.
    pub at: BoundedInstant,
}

/// A connection and what is known of its other side.
#[derive(Debug)]
pub struct PeerConnection {
    /// The cluster it belongs to: an endpoint has one identity, in one cluster.
    pub cluster_state: Arc<ClusterState>,
    /// The key that this connection's handshake proved.
    pub peer: MachineId,
    connection: Connection,
    /// Streams of the requests that this side makes.
    outbound: StreamRouter,
    /// Streams of the requests that the peer makes.
    inbound: StreamRouter,
    /// Whether this side's hello has been sent: only then may anything else take room on the connection.
    has_greeted: watch::Sender<bool>,
    greeted: watch::Sender<Option<RemoteHello>>,
    admitted: watch::Sender<bool>,
    heard: Mutex<Instant>,
    /// When a session or a request of the peer's used it last; liveness pings do not count.
    used: Mutex<Instant>,
    /// When a session used it last.
    last_used_locally: Mutex<Instant>,
    sessions: watch::Sender<usize>,
    /// Commands of the peer's, until it has been told of their end.
    serving: watch::Sender<usize>,
    liveness_running: AtomicBool,
    /// Requests under way, of either side.
    occupied: AtomicUsize,
    /// The most sessions that there were at once, for which there is a window.
    most_sessions: Mutex<u32>,
    /// Why this side has closed the connection, if it has.
    closed_for: Mutex<Option<String>>,
    /// The peer is not a member, and the connection is about to be closed.
    rejecting: AtomicBool,
    /// An endpoint that exists for this connection alone and closes with it.
    own_endpoint: Mutex<Option<Endpoint>>,
}

/// Keeps a link from being closed as idle.
#[derive(Debug)]
pub struct InUse(Arc<PeerConnection>);

/// Keeps a link from being closed to make room for others.
#[derive(Debug)]
pub struct Occupied(Arc<PeerConnection>);

impl Drop for Occupied {
    fn drop(&mut self) {
        self.0.occupied.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.sessions.send_modify(|sessions| *sessions -= 1);
        self.0.used_here_now();
    }
}

/// A command of the peer's that runs here, or whose end the peer has not been told yet.
#[derive(Debug)]
pub struct Serving(Arc<PeerConnection>);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.serving.send_modify(|serving| *serving -= 1);
    }
}

impl PeerConnection {
    /// What the log says of everything that happens on it.
    pub fn span(&self) -> tracing::Span {
        let (cluster_state, peer) = (&self.cluster_state, self.peer.short());
        let machine = cluster_state.name_of(&self.peer);
        tracing::info_span!(parent: None, "link", cluster = %cluster_state.alias(), %peer, machine)
    }

    /// Wraps a connection. Nothing happens on it until it is handled.
    pub fn new(
        cluster_state: Arc<ClusterState>,
        connection: Connection,
        peer: MachineId,
        own_endpoint: Option<Endpoint>,
    ) -> Arc<Self> {
        let now = Instant::now();
        Arc::new(Self {
            cluster_state,
            peer,
            outbound: StreamRouter::for_outbound(),
            connection,
            inbound: StreamRouter::for_inbound(),
            has_greeted: watch::Sender::new(false),
            greeted: watch::Sender::new(None),
            admitted: watch::Sender::new(false),
            heard: Mutex::new(now),
            used: Mutex::new(now),
            last_used_locally: Mutex::new(now),
            sessions: watch::Sender::new(0),
            serving: watch::Sender::new(0),
            liveness_running: AtomicBool::new(false),
            occupied: AtomicUsize::new(0),
            most_sessions: Mutex::new(0),
            closed_for: Mutex::default(),
            rejecting: AtomicBool::new(false),
            own_endpoint: Mutex::new(own_endpoint),
        })
    }

    /// What the other side said first, within `patience`.
    ///
    /// # Errors
    ///
    /// The connection ended, or nothing came.
    pub async fn greeted(&self, patience: Duration) -> Result<RemoteHello, StreamError> {
        let mut greeted = self.greeted.subscribe();
        let wait = async {
            tokio::select! {
                greeted = greeted.wait_for(Option::is_some) => greeted.ok().and_then(|greeted| greeted.clone()),
                _ = self.connection.closed() => None,
            }
        };
        match tokio::time::timeout(patience, wait).await {
            Ok(Some(greeted)) => Ok(greeted),
            Ok(None) => Err(StreamError::ConnectionLost(self.end())),
            Err(_) => Err(StreamError::Timeout(patience)),
        }
    }

    /// Whether the peer is known to be a member.
    pub fn is_admitted(&self) -> bool {
        *self.admitted.borrow()
    }

    /// The peer is a member: it may make requests, this many at a time.
    pub fn admit(&self, requests: u32) {
        self.connection
            .set_max_concurrent_bi_streams(requests.into());
        self.connection
            .set_max_concurrent_uni_streams((4 * requests).into());
        self.admitted.send_replace(true);
    }

    /// Whether the peer is about to be turned away, which is known before the connection is closed.
    pub fn set_rejecting(&self, rejecting: bool) {
        self.rejecting.store(rejecting, Ordering::Relaxed);
    }

    /// Waits until the peer is known to be a member, or the connection has ended.
    pub async fn wait_admitted(&self) {
        let mut admitted = self.admitted.subscribe();
        tokio::select! {
            _ = admitted.wait_for(|admitted| *admitted) => {}
            _ = self.connection.closed() => {}
        }
    }

    /// Which run of the peer this is, if it has said so.
    pub fn instance(&self) -> Option<malai_wire::peer::hello::InstanceId> {
        Some(self.greeting()?.hello.instance)
    }

    /// What the other side said first, if it has.
    pub fn greeting(&self) -> Option<RemoteHello> {
        self.greeted.borrow().clone()
    }

    /// Marks that a request is under way, of either side.
    pub fn occupied(self: &Arc<Self>) -> Occupied {
        self.occupied.fetch_add(1, Ordering::Relaxed);
        Occupied(self.clone())
    }

    /// Whether a request is under way, of either side, or a session uses the link.
    pub fn is_occupied(&self) -> bool {
        self.occupied.load(Ordering::Relaxed) > 0 || self.sessions() > 0
    }

    /// How long no session of this side has used the connection.
    pub fn unused_locally_for(&self) -> Duration {
        self.last_used_locally.lock().elapsed()
    }

    /// Marks that the liveness watcher runs; whether it ran already.
    pub fn set_watched(&self) -> bool {
        self.liveness_running.swap(true, Ordering::Relaxed)
    }

    /// Whether the liveness watcher runs.
    pub fn is_watched(&self) -> bool {
        self.liveness_running.load(Ordering::Relaxed)
    }

    /// How long nobody has used the link.
    pub fn unused_for(&self) -> Duration {
        self.used.lock().elapsed()
    }

    /// Marks the link as used by a session, and sees to it that the peer's silence is noticed.
    pub fn in_use(self: &Arc<Self>) -> InUse {
        self.sessions.send_modify(|sessions| *sessions += 1);
        self.grow_receive_window();
        self.used_here_now();
        InUse(self.clone())
    }

    fn used_here_now(&self) {
        let now = Instant::now();
        (*self.used.lock(), *self.last_used_locally.lock()) = (now, now);
    }

    /// The peer has made a request that is more than the question whether this side is there.
    pub fn used_by_peer(&self) {
        *self.used.lock() = Instant::now();
    }

    /// Whether a session has ever used the link.
    pub fn had_sessions(&self) -> bool {
        *self.most_sessions.lock() > 0
    }

    /// Marks the link as serving a command, until the peer has been told of its end.
    pub fn serving(self: &Arc<Self>) -> Serving {
        self.serving.send_modify(|serving| *serving += 1);
        Serving(self.clone())
    }

    /// Lets the peer send as much as its sessions need. The window is never made smaller again: QUIC
    /// cannot take back what it has granted, and would grant more each time.
    fn grow_receive_window(&self) {
        let sessions = u32::try_from(self.sessions()).unwrap_or(u32::MAX);
        let mut most = self.most_sessions.lock();
        if sessions > *most {
            *most = sessions;
            let window = WINDOW_OF_SESSION.saturating_mul(sessions);
            self.connection
                .set_receive_window(window.saturating_add(endpoint::WINDOW).into());
        }
    }

    /// Sessions that use the link now.
    pub fn sessions(&self) -> usize {
        *self.sessions.borrow()
    }

    /// Waits until no session uses the link.
    pub async fn without_sessions(&self) {
        // The sender is this link's own, so that waiting cannot fail.
        let _ = self
            .sessions
            .subscribe()
            .wait_for(|sessions| *sessions == 0)
            .await;
    }

    /// Something arrived from the peer.
    pub fn heard_now(&self) {
        *self.heard.lock() = Instant::now();
    }

    /// How long the peer has been silent.
    pub fn silent_for(&self) -> Duration {
        self.heard.lock().elapsed()
    }

    /// Whether the connection is open and the peer answers requests.
    pub fn is_usable(&self) -> bool {
        !self.is_closed()
            && !self.rejecting.load(Ordering::Relaxed)
            && self.greeting().is_none_or(|greeted| greeted.hello.serves)
    }

    /// Whether this side has dialled. Such a connection survives a new address of this computer:
    /// in QUIC it is the dialer who opens new paths.
    pub fn is_dialled(&self) -> bool {
        self.connection.side().is_client()
    }

    /// Whether a greeting that has just arrived is that of a run of the peer that began after this
    /// connection's was last heard: then this one leads to nobody any more.
    pub fn is_superseded_by(&self, next: &RemoteHello) -> bool {
        let Some(ours) = self.greeting() else {
            return false;
        };
        let age = Duration::from_millis(next.hello.age_ms);
        ours.hello.serves
            && next.hello.serves
            && ours.hello.instance != next.hello.instance
            && Instant::now()
                .checked_sub(age)
                .is_some_and(|started_at| *self.heard.lock() < started_at)
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.connection.close_reason().is_some()
    }

    /// Waits for the end of the connection.
    pub async fn closed(&self) {
        self.connection.closed().await;
    }

    /// Why the connection has ended, for people; with the peer's own reason where it gave one.
    pub fn end(&self) -> String {
        match self.connection.close_reason() {
            Some(iroh::endpoint::ConnectionError::ApplicationClosed(close)) => {
                malai_cluster::escape_bytes(&close.reason)
            }
            Some(iroh::endpoint::ConnectionError::TimedOut) => silence(),
            Some(other) => match &*self.closed_for.lock() {
                Some(reason) if !reason.is_empty() => malai_cluster::escape(reason),
                _ => other.to_string(),
            },
            None => "the connection is open".into(),
        }
    }

    /// The refusal with which the peer closed the connection, if it did.
    pub fn refused(&self) -> Option<Refusal> {
        match self.connection.close_reason() {
            Some(iroh::endpoint::ConnectionError::ApplicationClosed(close)) => Some(Refusal {
                code: u16::try_from(close.error_code.into_inner()).unwrap_or(u16::MAX),
                message: String::from_utf8_lossy(&close.reason).into_owned(),
            }),
            _ => None,
        }
    }

    /// Closes the connection with a peer that is no member any more. Its commands have been ended; it
    /// is told of each before the end of the connection overtakes that.
    pub async fn drain_and_close(&self, refusal: &Refusal) {
        self.rejecting.store(true, Ordering::Relaxed);
        let mut serving = self.serving.subscribe();
        let told = serving.wait_for(|serving| *serving == 0);
        let _ = tokio::time::timeout(TELLING, told).await;
        self.close(refusal);
    }

    /// Closes the endpoint that exists for this connection alone, if there is one.
    pub async fn close_own_endpoint(&self) {
        let own_endpoint = self.own_endpoint.lock().take();
        if let Some(endpoint) = own_endpoint {
            endpoint.close().await;
        }
    }

    /// Closes the connection with a code and a reason.
    pub fn close(&self, refusal: &Refusal) {
        // Closing what the peer has closed would put this side's reason in place of the peer's.
        if self.is_closed() {
            return;
        }
        self.closed_for
            .lock()
            .get_or_insert_with(|| refusal.message.clone());
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
    pub fn address(&self) -> Option<SocketAddr> {
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
    pub fn is_direct(&self) -> Option<bool> {
        let paths = self.connection.paths();
        let path = paths.iter().find(iroh::endpoint::Path::is_selected)?;
        Some(path.is_ip())
    }

    /// The round trip of the path in use.
    pub fn round_trip(&self) -> Option<Duration> {
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
