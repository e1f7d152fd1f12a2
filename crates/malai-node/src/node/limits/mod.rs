//! Enforces the limits: which connections are admitted, and how much of this computer each peer may use.

mod admission;
mod quota;
mod rate;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use malai_cluster::MachineId;
use malai_wire::{Refusal, frame};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::settings::limits::{Limits, busy};
use quota::InboundBuffers;

pub(crate) use admission::{Bounds, NoSlot, Origin, Slot, SlotPool};
pub(crate) use quota::{BufferReservation, CountGuard, Full, KeyedCounter};
use rate::KeyedRate;

/// The log names a limit that is reached at most once in this time.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The periods of rates.
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// How long a connection of an unknown peer keeps its slot at least. A handshake takes a few milliseconds and round trips;
/// without this, peers that come all at once would evict each other in the middle of theirs.
const HANDSHAKE_MIN_AGE: Duration = Duration::from_millis(100);

/// How long a connection of an unknown peer waits for a slot at most. Its peer gives up on a probe after 3 s.
const HANDSHAKE_WAIT: Duration = Duration::from_secs(2);

/// How many refused invitations a minute are logged and recorded one by one.
const RECORDED_PER_MINUTE: u32 = 30;

/// How long a command line may be silent before it can be evicted for another one.
const CONTROL_MIN_AGE: Duration = Duration::from_secs(1);

/// Everything that the limits count, over all clusters of a process.
#[derive(Debug)]
pub struct Limiter {
    limits: Mutex<Arc<Limits>>,
    /// Connections whose peer is not known yet.
    pub(crate) unauthenticated: Arc<SlotPool<Origin>>,
    /// Connections that wait for a slot.
    queued: Arc<KeyedCounter<()>>,
    /// Those that lost their slot and may still finish.
    overtime: Arc<KeyedCounter<()>>,
    /// Command lines without a running command.
    pub(crate) control: Arc<SlotPool<()>>,
    /// Commands of other machines that run here.
    pub(crate) sessions: Arc<KeyedCounter<MachineId>>,
    /// Commands of this computer's own command lines.
    pub(crate) local_sessions: Arc<KeyedCounter<()>>,
    /// Connections of other machines to services here.
    pub(crate) forwards: Arc<KeyedCounter<MachineId>>,
    /// Connections of this computer's own command lines to services.
    local_forwards: Arc<KeyedCounter<()>>,
    /// Connections of this computer's browsers.
    browsers: Arc<KeyedCounter<()>>,
    requests: Arc<KeyedCounter<MachineId>>,
    /// Bytes that may be on their way here for members' commands.
    receive: Arc<KeyedCounter<MachineId>>,
    /// Bytes that may be on their way to members, unacknowledged.
    send: Arc<KeyedCounter<MachineId>>,
    request_rate: KeyedRate<MachineId>,
    connection_rate: KeyedRate<MachineId>,
    delivery_rate: KeyedRate<()>,
    wrong_invitation_rate: KeyedRate<()>,
    inflight: Mutex<InboundBuffers>,
    /// Permits for fetching: for peers that are not known to be members, and for members.
    fetches: Mutex<[Arc<Semaphore>; 2]>,
    /// The permit for checking a fetched configuration.
    checks: Arc<Semaphore>,
    logged: Mutex<HashMap<&'static str, (Instant, u64)>>,
}

impl Limiter {
    /// Enforces these limits; nothing is counted yet.
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            inflight: Mutex::new(InboundBuffers::new(&limits)),
            fetches: Mutex::new(fetches(&limits)),
            checks: Arc::new(Semaphore::new(1)),
            limits: Mutex::new(Arc::new(limits)),
            unauthenticated: Arc::default(),
            queued: Arc::default(),
            overtime: Arc::default(),
            control: Arc::default(),
            sessions: Arc::default(),
            local_sessions: Arc::default(),
            forwards: Arc::default(),
            local_forwards: Arc::default(),
            browsers: Arc::default(),
            requests: Arc::default(),
            receive: Arc::default(),
            send: Arc::default(),
            request_rate: KeyedRate::default(),
            connection_rate: KeyedRate::default(),
            delivery_rate: KeyedRate::default(),
            wrong_invitation_rate: KeyedRate::default(),
            logged: Mutex::default(),
        }
    }

    /// The limits in force.
    pub(crate) fn limits(&self) -> Arc<Limits> {
        self.limits.lock().clone()
    }

    /// Replaces the limits, for everything that starts later. Returns whether they differ.
    pub(crate) fn replace(&self, limits: Limits) -> bool {
        let mut current = self.limits.lock();
        if **current == limits {
            return false;
        }
        *self.inflight.lock() = InboundBuffers::new(&limits);
        *self.fetches.lock() = fetches(&limits);
        *current = Arc::new(limits);
        true
    }

    /// A slot for a connection whose peer is not known. Evicts another one if necessary.
    ///
    /// # Errors
    ///
    /// Everything that could be evicted has only just started.
    pub(crate) fn unauthenticated(&self, origin: Origin) -> Result<Slot<Origin>, NoSlot> {
        let limits = self.limits();
        let bounds = Bounds {
            all: limits.unauthenticated_connections as usize,
            per_key: limits.unauthenticated_connections_per_address as usize,
            min_age: HANDSHAKE_MIN_AGE,
        };
        let slot = self.unauthenticated.enter(origin, bounds, Instant::now());
        if let Err(NoSlot { by, .. }) = slot {
            let _ = self.evicted(by);
        }
        slot
    }

    /// A place in the queue for a slot. As many connections may wait as there are slots.
    pub(crate) fn queue(&self) -> Option<CountGuard<()>> {
        let most = self.limits().unauthenticated_connections as usize;
        self.queued.enter((), 1, most, usize::MAX).ok()
    }

    /// Room for a connection that lost its slot to finish; there is as much room as there are slots.
    pub(crate) fn overtime(&self) -> Option<CountGuard<()>> {
        let most = self.limits().unauthenticated_connections as usize;
        self.overtime.enter((), 1, most, usize::MAX).ok()
    }

    /// Waits for a slot for a connection whose peer is not known. Without waiting, the connection would be ignored until its
    /// peer sends its first packet again: after a second, then after two more.
    ///
    /// # Errors
    ///
    /// No slot became free within [`HANDSHAKE_WAIT`].
    pub(crate) async fn wait_unauthenticated(
        &self,
        origin: &Origin,
    ) -> Result<Slot<Origin>, NoSlot> {
        let deadline = Instant::now() + HANDSHAKE_WAIT;
        loop {
            let no_slot = match self.unauthenticated(origin.clone()) {
                Ok(slot) => return Ok(slot),
                Err(no_slot) => no_slot,
            };
            if deadline <= Instant::now() {
                return Err(no_slot);
            }
            let until = no_slot.evictable_at.map_or(deadline, |at| at.min(deadline));
            tokio::select! {
                () = self.unauthenticated.freed() => {}
                () = tokio::time::sleep_until(until.into()) => {}
            }
        }
    }

    /// The refusal for a connection that was evicted from its slot.
    pub(crate) fn evicted(&self, by: Full) -> Refusal {
        let limits = self.limits();
        match by {
            Full::All => self.refused(
                "unauthenticated_connections",
                limits.unauthenticated_connections,
            ),
            Full::PerKey => self.refused(
                "unauthenticated_connections_per_address",
                limits.unauthenticated_connections_per_address,
            ),
        }
    }

    /// Whether an address has to prove itself before it gets a slot.
    pub(crate) fn is_crowded(&self, origin: &Origin) -> bool {
        let limits = self.limits();
        let (all, of_one) = self.unauthenticated.count(origin);
        all >= limits.unauthenticated_connections as usize / 2
            || of_one >= limits.unauthenticated_connections_per_address as usize / 2
    }

    /// A slot for a command line. Evicts one that has been silent for a while if necessary.
    ///
    /// # Errors
    ///
    /// No command line can be evicted now.
    pub(crate) fn control(&self) -> Result<Slot<()>, NoSlot> {
        let bounds = Bounds {
            all: self.limits().control_connections as usize,
            per_key: usize::MAX,
            min_age: CONTROL_MIN_AGE,
        };
        self.control.enter((), bounds, Instant::now())
    }

    /// The refusal for a command line without a slot.
    pub(crate) fn control_refused(&self) -> Refusal {
        self.refused("control_connections", self.limits().control_connections)
    }

    /// Counts a request of a member.
    ///
    /// # Errors
    ///
    /// The limit is reached.
    pub(crate) fn request(&self, peer: MachineId) -> Result<CountGuard<MachineId>, Refusal> {
        let most = self.limits().requests_per_peer;
        self.requests
            .enter(peer, 1, usize::MAX, most as usize)
            .map_err(|_| self.refused("requests_per_peer", most))
    }

    /// Counts a command of another machine.
    ///
    /// # Errors
    ///
    /// The limit is reached.
    pub(crate) fn session(&self, peer: MachineId) -> Result<CountGuard<MachineId>, Refusal> {
        let limits = self.limits();
        let (most, per_peer) = (limits.sessions, limits.sessions_per_peer);
        self.sessions
            .enter(peer, 1, most as usize, per_peer as usize)
            .map_err(|full| match full {
                Full::All => self.refused("sessions", most),
                Full::PerKey => self.refused("sessions_per_peer", per_peer),
            })
    }

    /// Counts a connection of another machine to a service here.
    ///
    /// # Errors
    ///
    /// The limit is reached.
    pub(crate) fn forward(&self, peer: MachineId) -> Result<CountGuard<MachineId>, Refusal> {
        let limits = self.limits();
        let (most, per_peer) = (limits.forwards, limits.forwards_per_peer);
        self.forwards
            .enter(peer, 1, most as usize, per_peer as usize)
            .map_err(|full| match full {
                Full::All => self.refused("forwards", most),
                Full::PerKey => self.refused("forwards_per_peer", per_peer),
            })
    }

    /// Counts a connection of this computer's own command lines to a service.
    ///
    /// # Errors
    ///
    /// The limit is reached.
    pub(crate) fn local_forward(&self) -> Result<CountGuard<()>, Refusal> {
        let most = self.limits().local_forwards;
        self.local_forwards
            .enter((), 1, most as usize, usize::MAX)
            .map_err(|_| self.refused("local_forwards", most))
    }

    /// Counts a connection of a browser of this computer.
    ///
    /// # Errors
    ///
    /// The limit is reached.
    pub(crate) fn browser(&self) -> Result<CountGuard<()>, Refusal> {
        let most = self.limits().browser_connections;
        self.browsers
            .enter((), 1, most as usize, usize::MAX)
            .map_err(|_| self.refused("browser_connections", most))
    }

    /// Waits until a member may begin its next request.
    pub(crate) async fn request_turn(&self, peer: MachineId) {
        let rate = self.limits().requests_per_second_per_peer;
        while let Err(next) = self.request_rate.enter(peer, rate, SECOND, Instant::now()) {
            self.log_throttled("requests_per_second_per_peer");
            tokio::time::sleep_until(next.into()).await;
        }
    }

    /// Counts a new connection of a key.
    ///
    /// # Errors
    ///
    /// The limit is reached.
    pub(crate) fn connection(&self, peer: MachineId) -> Result<(), Refusal> {
        let rate = self.limits().connections_per_second_per_peer;
        self.connection_rate
            .enter(peer, rate, SECOND, Instant::now())
            .map_err(|_| self.refused("connections_per_second_per_peer", rate))
    }

    /// Counts a connection of an unknown key that is kept for the configuration that it announces.
    ///
    /// # Errors
    ///
    /// The limit is reached.
    pub(crate) fn delivery(&self) -> Result<(), Refusal> {
        let rate = self.limits().deliveries_per_minute;
        self.delivery_rate
            .enter((), rate, MINUTE, Instant::now())
            .map_err(|_| self.refused("deliveries_per_minute", rate))
    }

    /// Counts an invitation that was not accepted. Returns whether it is to be recorded: so many a minute are.
    pub(crate) fn wrong_invitation(&self) -> bool {
        self.wrong_invitation_rate
            .enter((), RECORDED_PER_MINUTE, MINUTE, Instant::now())
            .is_ok()
    }

    /// What the inputs of a member's commands on one connection may have on their way here, unread; nothing yet.
    pub(crate) fn receive_buffer(&self, peer: MachineId) -> CountGuard<MachineId> {
        self.receive.nothing(peer)
    }

    /// Whether so many bytes more leave half of it to further commands.
    pub(crate) fn has_ample_receive_buffer(&self, peer: &MachineId, bytes: u64) -> bool {
        let limits = self.limits();
        let (all, of_peer) = self.receive.count(peer);
        let fits = |count: usize, most: u32| count as u64 + bytes <= u64::from(most / 2);
        fits(all, limits.receive_bytes) && fits(of_peer, limits.receive_bytes_per_peer)
    }

    /// Reserves so many bytes more of it.
    ///
    /// # Errors
    ///
    /// The limit is reached.
    pub(crate) fn grow_receive_buffer(
        &self,
        buffer: &mut CountGuard<MachineId>,
        bytes: u64,
    ) -> Result<(), Refusal> {
        let limits = self.limits();
        let (most, per_peer) = (limits.receive_bytes, limits.receive_bytes_per_peer);
        buffer
            .grow(bytes as usize, most as usize, per_peer as usize)
            .map_err(|full| match full {
                Full::All => self.refused("receive_bytes", most),
                Full::PerKey => self.refused("receive_bytes_per_peer", per_peer),
            })
    }

    /// Reserves what the output of a member's commands may have on its way on one connection, unacknowledged.
    ///
    /// # Errors
    ///
    /// The limit is reached.
    pub(crate) fn send_buffer(
        &self,
        peer: MachineId,
        bytes: u64,
    ) -> Result<CountGuard<MachineId>, Refusal> {
        let limits = self.limits();
        let (most, per_peer) = (limits.send_bytes, limits.send_bytes_per_peer);
        self.send
            .enter(peer, bytes as usize, most as usize, per_peer as usize)
            .map_err(|full| match full {
                Full::All => self.refused("send_bytes", most),
                Full::PerKey => self.refused("send_bytes_per_peer", per_peer),
            })
    }

    /// Counts a command of this computer's own command lines.
    ///
    /// # Errors
    ///
    /// The limit is reached.
    pub(crate) fn local_session(&self) -> Result<CountGuard<()>, Refusal> {
        let most = self.limits().local_sessions;
        self.local_sessions
            .enter((), 1, most as usize, usize::MAX)
            .map_err(|_| self.refused("local_sessions", most))
    }

    /// Waits for buffer space for a frame from a member. Small frames need none, because requests bound their number.
    ///
    /// # Errors
    ///
    /// No space became free before the deadline.
    pub(crate) async fn reserve(
        &self,
        peer: MachineId,
        length: usize,
        deadline: tokio::time::Instant,
    ) -> Result<BufferReservation, Refusal> {
        if length <= frame::SMALL {
            return Ok(BufferReservation::default());
        }
        let limits = self.limits();
        let budgets = self.inflight.lock().budgets(peer, &limits);
        let reserved = BufferReservation::wait(budgets, length, deadline).await;
        reserved.map_err(|full| match full {
            Full::All => self.refused("inflight_request_bytes", limits.inflight_request_bytes),
            Full::PerKey => self.refused(
                "inflight_request_bytes_per_peer",
                limits.inflight_request_bytes_per_peer,
            ),
        })
    }

    /// Waits for a permit to fetch a configuration from a member, or from a peer that is not known to be one.
    pub(crate) async fn fetch(&self, from_member: bool) -> Option<OwnedSemaphorePermit> {
        let turns = self.fetches.lock()[usize::from(from_member)].clone();
        turns.acquire_owned().await.ok()
    }

    /// Waits for the permit to check a configuration.
    pub(crate) async fn check(&self) -> Option<OwnedSemaphorePermit> {
        self.checks.clone().acquire_owned().await.ok()
    }

    /// The refusal when a limit is reached. The log names the limit, at most once per [`LOG_INTERVAL`].
    pub(crate) fn refused(&self, name: &'static str, value: u32) -> Refusal {
        self.log_throttled(name);
        busy(name, value)
    }

    fn log_throttled(&self, name: &'static str) {
        let mut logged = self.logged.lock();
        let (at, times) = logged.entry(name).or_insert((Instant::now(), 0));
        *times += 1;
        if *times == 1 || at.elapsed() > LOG_INTERVAL {
            tracing::warn!(limit = name, times = *times, "a limit is reached");
            *at = Instant::now();
        }
    }
}

fn fetches(limits: &Limits) -> [Arc<Semaphore>; 2] {
    [1, limits.fetches as usize].map(|turns| Arc::new(Semaphore::new(turns)))
}

#[cfg(test)]
mod tests;
