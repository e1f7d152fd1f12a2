//! One connection to one peer: greetings, heartbeat, raw streams; both sides may open requests.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use iroh::endpoint::{Connection, RecvStream, SendStream};
use iroh::{Endpoint, TransportAddr};
use malai_cluster::MachineId;
use malai_wire::frame;
use malai_wire::peer::hello::{Greeting, Hello};
use malai_wire::peer::{Bidi, RAW_HEAD, Uni};
use malai_wire::version::Versions;
use malai_wire::{Refusal, RefusalCode};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::frames::{self, PATIENCE, StreamError};
use crate::member::{Membership, Twin, lock};
use crate::moment::Moment;
use crate::router::Router;
use crate::{endpoint, inbound, sync};

mod farewell;
mod heartbeat;

/// Heard from within this time, a peer is taken to be there: a request is sent without asking first.
pub const FRESH: Duration = Duration::from_millis(1_600);

/// Bytes that each session adds to what a peer may have in flight: more than the windows of its
/// streams, so that one that nobody reads does not hold up another.
const WINDOW_OF_SESSION: u32 = 1 << 22;

/// What the other side said first, and when it arrived here.
#[derive(Debug, Clone)]
pub struct Greeted {
    /// Its words.
    pub hello: Hello,
    /// When they arrived.
    pub at: Moment,
}

/// A connection and what is known of its other side.
#[derive(Debug)]
pub struct Link {
    /// The cluster it belongs to: an endpoint has one identity, in one cluster.
    pub membership: Arc<Membership>,
    /// The key that this connection's handshake proved.
    pub peer: MachineId,
    /// The streams that requests of this side brought with them.
    pub outbound: Router,
    connection: Connection,
    inbound: Router,
    /// This side's greeting is on its way: only then may anything else take room on the connection.
    has_greeted: watch::Sender<bool>,
    greeted: watch::Sender<Option<Greeted>>,
    admitted: watch::Sender<bool>,
    heard: Mutex<Instant>,
    used: Mutex<Instant>,
    sessions: watch::Sender<usize>,
    /// Commands of the peer's, until it has been told of their end.
    serving: watch::Sender<usize>,
    beating: AtomicBool,
    /// Requests under way, of either side.
    occupied: AtomicUsize,
    /// The most sessions that there were at once, for which there is a window.
    most_sessions: Mutex<u32>,
    /// Why this side has closed the connection, if it has.
    closed_for: Mutex<Option<String>>,
    /// The peer is not a member, and the connection is about to be closed.
    turning_away: AtomicBool,
    /// An endpoint that exists for this connection alone and closes with it.
    own_endpoint: Mutex<Option<Endpoint>>,
}

/// Keeps a link from being closed as idle.
#[derive(Debug)]
pub struct InUse(Arc<Link>);

/// Keeps a link from being closed to make room for others.
#[derive(Debug)]
pub struct Occupied(Arc<Link>);

impl Drop for Occupied {
    fn drop(&mut self) {
        self.0.occupied.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.sessions.send_modify(|sessions| *sessions -= 1);
        *lock(&self.0.used) = Instant::now();
    }
}

impl Link {
    /// Wraps a connection. Nothing happens until [`Link::drive`] runs.
    pub fn new(
        membership: Arc<Membership>,
        connection: Connection,
        peer: MachineId,
        own_endpoint: Option<Endpoint>,
    ) -> Arc<Self> {
        let now = Instant::now();
        Arc::new(Self {
            membership,
            peer,
            outbound: Router::of_own_sessions(),
            connection,
            inbound: Router::default(),
            has_greeted: watch::Sender::new(false),
            greeted: watch::Sender::new(None),
            admitted: watch::Sender::new(false),
            heard: Mutex::new(now),
            used: Mutex::new(now),
            sessions: watch::Sender::new(0),
            serving: watch::Sender::new(0),
            beating: AtomicBool::new(false),
            occupied: AtomicUsize::new(0),
            most_sessions: Mutex::new(0),
            closed_for: Mutex::default(),
            turning_away: AtomicBool::new(false),
            own_endpoint: Mutex::new(own_endpoint),
        })
    }

    /// Lives as long as the connection: greets, compares configurations, and then, if the peer is
    /// a member, serves its requests.
    pub async fn drive(self: Arc<Self>) {
        let mut tasks = JoinSet::new();
        let greeting = self.send_hello();
        let (_, ended) = tokio::join!(greeting, async {
            tokio::select! {
                () = self.accept_uni() => {}
                refusal = self.serve(&mut tasks) => self.close(&refusal),
            }
            self.connection.closed().await
        });
        tracing::debug!(peer = %self.peer.short(), cluster = %self.membership.alias(), "connection ended: {ended}");
        // What was being served notices the end of its streams; its commands get their grace period.
        while tasks.join_next().await.is_some() {}
        let own_endpoint = lock(&self.own_endpoint).take();
        if let Some(endpoint) = own_endpoint {
            endpoint.close().await;
        }
    }

    async fn send_hello(&self) {
        let send = async {
            let mut send = self.connection.open_uni().await.ok()?;
            send.write_all(&[Uni::Hello as u8]).await.ok()?;
            frames::write(&mut send, &Greeting::Hello(self.membership.hello()))
                .await
                .ok()?;
            send.finish().ok()
        };
        if send.await.is_none() {
            tracing::debug!(peer = %self.peer.short(), "the connection ended before it was greeted");
        }
        self.has_greeted.send_replace(true);
    }

    /// Hands raw streams to their sessions until the connection ends.
    async fn accept_uni(self: &Arc<Self>) {
        let mut heads = JoinSet::new();
        loop {
            tokio::select! {
                stream = self.connection.accept_uni() => match stream {
                    Ok(stream) => drop(heads.spawn(self.clone().route(stream))),
                    Err(_) => return,
                },
                Some(_) = heads.join_next() => {}
            }
        }
    }

    async fn route(self: Arc<Self>, mut stream: RecvStream) {
        let read = async {
            let mut kind = [0; 1];
            stream.read_exact(&mut kind).await.ok()?;
            let kind = Uni::from_byte(kind[0])?;
            if kind == Uni::Hello {
                let Greeting::Hello(hello) = frames::expect(&mut stream, frame::SMALL, PATIENCE)
                    .await
                    .ok()?;
                return Some((kind, 0, Some(hello), stream));
            }
            let mut session = [0; RAW_HEAD - 1];
            stream.read_exact(&mut session).await.ok()?;
            Some((kind, u64::from_be_bytes(session), None, stream))
        };
        let patience = self.membership.limiter.limits().opening();
        match tokio::time::timeout(patience, read).await {
            Ok(Some((_, _, Some(hello), _))) => self.meet(hello),
            Ok(Some((Uni::Stdin, session, None, stream))) => {
                self.inbound.deliver(Uni::Stdin, session, stream)
            }
            Ok(Some((kind, session, None, stream))) => self.outbound.deliver(kind, session, stream),
            Ok(None) | Err(_) => {
                let refusal =
                    Refusal::new(RefusalCode::Protocol, "a stream without a known beginning");
                self.close(&refusal);
            }
        }
    }

    fn meet(&self, hello: Hello) {
        *lock(&self.heard) = Instant::now();
        self.greeted.send_if_modified(|greeted| {
            let first = greeted.is_none();
            if first {
                *greeted = Some(Greeted {
                    hello,
                    at: Moment::now(),
                });
            }
            first
        });
    }

    /// What the other side said first, within `patience`.
    ///
    /// # Errors
    ///
    /// The connection ended, or nothing came.
    pub async fn greeted(&self, patience: Duration) -> Result<Greeted, StreamError> {
        let mut greeted = self.greeted.subscribe();
        let wait = async {
            tokio::select! {
                greeted = greeted.wait_for(Option::is_some) => greeted.ok().and_then(|greeted| greeted.clone()),
                _ = self.connection.closed() => None,
            }
        };
        match tokio::time::timeout(patience, wait).await {
            Ok(Some(greeted)) => Ok(greeted),
            Ok(None) => Err(StreamError::Broken(self.end())),
            Err(_) => Err(StreamError::Slow(patience)),
        }
    }

    /// Whether the peer is known to be a member.
    pub fn is_admitted(&self) -> bool {
        *self.admitted.borrow()
    }

    /// Waits until the peer is known to be a member, or the connection has ended.
    pub async fn judged(&self) {
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
    pub fn greeting(&self) -> Option<Greeted> {
        self.greeted.borrow().clone()
    }

    /// Decides whether the peer is a member, and serves it while it is. Returns why it ends.
    async fn serve(self: &Arc<Self>, tasks: &mut JoinSet<()>) -> Refusal {
        let limits = self.membership.limiter.limits();
        let hello = match self.greeted(limits.greeting()).await {
            Ok(greeted) => greeted.hello,
            Err(error) => {
                return Refusal::new(RefusalCode::Protocol, format!("no greeting: {error}"));
            }
        };
        if hello.versions.common(Versions::OURS).is_none() {
            let (ours, theirs) = (Versions::OURS, hello.versions);
            return Refusal::new(
                RefusalCode::Version,
                format!(
                    "this side speaks protocol {} to {}, the other {} to {}",
                    ours.lowest, ours.highest, theirs.lowest, theirs.highest
                ),
            );
        }
        if self.peer == self.membership.me {
            if hello.serves && hello.instance != self.membership.instance {
                let met = self.address().map_or_else(
                    || "an unknown address".into(),
                    |address| address.to_string(),
                );
                *lock(&self.membership.twin) = Some(Twin {
                    instance: hello.instance,
                    met,
                });
            }
            return Refusal::new(RefusalCode::NotAMember, "this key is this machine's own");
        }
        if let Some(header) = &hello.header {
            let compared = tokio::time::timeout(PATIENCE, sync::consider(self, header)).await;
            if let Ok(Err(error)) = compared {
                let (peer, cluster) = (self.peer.short(), self.membership.alias());
                // What strangers bring is not worth a line each.
                if self.membership.knows(&self.peer) {
                    tracing::warn!(%peer, %cluster, "configuration of a peer not taken up: {error}");
                } else {
                    tracing::debug!(%peer, %cluster, "configuration of a stranger not taken up: {error}");
                }
            }
        }
        if inbound::gate::admit(&self.membership, &self.peer).is_err() {
            self.membership.turned_away(self.peer, self.address());
            // The peer may not have read this side's header yet; a moment is all it gets. A new
            // configuration may make it a member meanwhile.
            self.turning_away.store(true, Ordering::Relaxed);
            self.await_farewell().await;
            if let Err(refusal) = inbound::gate::admit(&self.membership, &self.peer) {
                return refusal;
            }
            self.turning_away.store(false, Ordering::Relaxed);
        }
        self.admitted.send_replace(true);
        self.membership
            .heard_from(self.peer, Some(hello.instance), hello.header.as_ref());
        self.connection
            .set_max_concurrent_bi_streams(limits.requests_per_peer.into());
        self.connection
            .set_max_concurrent_uni_streams((4 * limits.requests_per_peer).into());
        self.accept_bi(tasks).await
    }

    async fn accept_bi(self: &Arc<Self>, tasks: &mut JoinSet<()>) -> Refusal {
        loop {
            tokio::select! {
                stream = self.connection.accept_bi() => match stream {
                    // What arrives after the end is not looked at: its sender may say so elsewhere.
                    Ok(_) if self.is_closed() => return Refusal::new(RefusalCode::Done, ""),
                    Ok((send, recv)) => {
                        let place = match self.membership.limiter.request(self.peer) {
                            Ok(place) => place,
                            Err(refusal) => {
                                tasks.spawn(inbound::turn_away(send, recv, refusal));
                                continue;
                            }
                        };
                        let occupied = self.occupied();
                        let session = number(&send);
                        let stdin = self.inbound.expect(Uni::Stdin, session);
                        self.inbound.begun(session);
                        *lock(&self.heard) = Instant::now();
                        *lock(&self.used) = Instant::now();
                        let serving = inbound::serve(self.clone(), send, recv, stdin);
                        tasks.spawn(async move {
                            serving.await;
                            drop((place, occupied));
                        });
                    }
                    Err(_) => return Refusal::new(RefusalCode::Done, ""),
                },
                Some(ended) = tasks.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(peer = %self.peer.short(), "serving a request failed: {error}");
                    }
                }
            }
        }
    }

    /// Waits until this side's greeting has gone before. The peer reads requests only after it, and
    /// a large one that came first would fill the window that is open before admission: neither side
    /// would get any further.
    async fn after_greeting(&self) {
        let mut has_greeted = self.has_greeted.subscribe();
        let _ = has_greeted.wait_for(|greeted| *greeted).await;
    }

    /// Opens a request.
    ///
    /// # Errors
    ///
    /// The connection has ended.
    pub async fn open(
        self: &Arc<Self>,
        kind: Bidi,
    ) -> Result<(SendStream, RecvStream), StreamError> {
        self.after_greeting().await;
        let (mut send, recv) = self
            .connection
            .open_bi()
            .await
            .map_err(|error| StreamError::Broken(error.to_string()))?;
        send.write_all(&[kind as u8])
            .await
            .map_err(|error| StreamError::Broken(error.to_string()))?;
        Ok((send, recv))
    }

    /// Opens a raw stream.
    ///
    /// # Errors
    ///
    /// The connection has ended.
    pub async fn open_raw(&self, kind: Uni, session: u64) -> Result<SendStream, StreamError> {
        self.after_greeting().await;
        let mut send = self
            .connection
            .open_uni()
            .await
            .map_err(|error| StreamError::Broken(error.to_string()))?;
        let head = malai_wire::peer::raw_head(kind, session);
        send.write_all(&head)
            .await
            .map_err(|error| StreamError::Broken(error.to_string()))?;
        Ok(send)
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

    /// How long nobody has used the link.
    pub fn unused_for(&self) -> Duration {
        lock(&self.used).elapsed()
    }

    /// Marks the link as used by a session, and sees to it that the peer's silence is noticed.
    pub fn in_use(self: &Arc<Self>) -> InUse {
        self.sessions.send_modify(|sessions| *sessions += 1);
        self.widen();
        *lock(&self.used) = Instant::now();
        InUse(self.clone())
    }

    /// Lets the peer send as much as its sessions need. The window is never made smaller again: QUIC
    /// cannot take back what it has granted, and would grant more each time.
    fn widen(&self) {
        let sessions = u32::try_from(self.sessions()).unwrap_or(u32::MAX);
        let mut most = lock(&self.most_sessions);
        if sessions > *most {
            *most = sessions;
            let window = WINDOW_OF_SESSION.saturating_mul(sessions);
            self.connection
                .set_receive_window(window.saturating_add(endpoint::WINDOW).into());
        }
    }

    /// Sessions of this side that use the link now.
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
        *lock(&self.heard) = Instant::now();
    }

    /// How long the peer has been silent.
    pub fn silent_for(&self) -> Duration {
        lock(&self.heard).elapsed()
    }

    /// Whether the connection is open and the peer answers requests.
    pub fn is_usable(&self) -> bool {
        !self.is_closed()
            && !self.turning_away.load(Ordering::Relaxed)
            && self.greeting().is_none_or(|greeted| greeted.hello.serves)
    }

    /// Whether this side has dialled. Such a connection survives a new address of this computer:
    /// in QUIC it is the dialer who opens new paths.
    pub fn is_dialled(&self) -> bool {
        self.connection.side().is_client()
    }

    /// Whether a greeting that has just arrived is that of a run of the peer that began after this
    /// connection's was last heard: then this one leads to nobody any more.
    pub fn is_outlived_by(&self, next: &Greeted) -> bool {
        let Some(ours) = self.greeting() else {
            return false;
        };
        let age = Duration::from_millis(next.hello.age_ms);
        ours.hello.serves
            && next.hello.serves
            && ours.hello.instance != next.hello.instance
            && Instant::now()
                .checked_sub(age)
                .is_some_and(|born| *lock(&self.heard) < born)
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
            Some(iroh::endpoint::ConnectionError::TimedOut) => heartbeat::silence(),
            Some(other) => match &*lock(&self.closed_for) {
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

    /// Closes the connection with a code and a reason.
    pub fn close(&self, refusal: &Refusal) {
        // Closing what the peer has closed would put this side's reason in place of the peer's.
        if self.is_closed() {
            return;
        }
        lock(&self.closed_for).get_or_insert_with(|| refusal.message.clone());
        tracing::debug!(peer = %self.peer.short(), cluster = %self.membership.alias(), code = refusal.code, "closing the connection: {}", refusal.message);
        let mut end = refusal.message.len().min(512);
        while !refusal.message.is_char_boundary(end) {
            end -= 1;
        }
        self.connection.close(
            u32::from(refusal.code).into(),
            &refusal.message.as_bytes()[..end],
        );
    }

    /// Where the peer is now; `None` through a relay.
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

    /// Whether bytes go straight to the peer; `None` while no path is chosen.
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

/// A control stream's number, which names its session.
pub fn number(send: &SendStream) -> u64 {
    iroh::endpoint::VarInt::from(send.id()).into_inner()
}
