//! The limits at work: who has which place, who waits for one, and who gives way.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use iroh::endpoint::IncomingAddr;
use malai_cluster::MachineId;
use malai_wire::{Refusal, frame};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::settings::limits::{Limits, busy};

/// Budgets of bytes are counted in pieces of this size.
const PIECE: usize = 1024;

/// How often it is logged that a limit is reached.
const SAID_EVERY: Duration = Duration::from_secs(10);

/// What counts for the limits, of all clusters of a process.
#[derive(Debug)]
pub struct Limiter {
    limits: Mutex<Arc<Limits>>,
    /// Connections whose peer is not known yet.
    pub unauthenticated: Arc<SlotPool<Origin>>,
    /// Command lines that have no command running.
    pub control: Arc<SlotPool<()>>,
    /// Commands of other machines that run here.
    pub sessions: Arc<KeyedCounter<MachineId>>,
    /// Commands of this computer's own command lines.
    pub own_sessions: Arc<KeyedCounter<()>>,
    requests: Arc<KeyedCounter<MachineId>>,
    arriving: Mutex<InboundBuffers>,
    fetches: [Arc<Semaphore>; 2],
    said: Mutex<HashMap<&'static str, (Instant, u64)>>,
}

/// Budgets for what is arriving, made anew when the limits change.
#[derive(Debug)]
struct InboundBuffers {
    all: Arc<Semaphore>,
    of_peer: HashMap<MachineId, Arc<Semaphore>>,
}

impl InboundBuffers {
    fn new(limits: &Limits) -> Self {
        Self {
            all: Arc::new(Semaphore::new(limits.arriving_bytes as usize / PIECE)),
            of_peer: HashMap::new(),
        }
    }
}

impl Limiter {
    /// Nothing counted yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            arriving: Mutex::new(InboundBuffers::new(&limits)),
            fetches: [
                Arc::new(Semaphore::new(1)),
                Arc::new(Semaphore::new(limits.fetches as usize)),
            ],
            limits: Mutex::new(Arc::new(limits)),
            unauthenticated: Arc::default(),
            control: Arc::default(),
            sessions: Arc::default(),
            own_sessions: Arc::default(),
            requests: Arc::default(),
            said: Mutex::default(),
        }
    }

    /// The limits in force.
    pub fn limits(&self) -> Arc<Limits> {
        self.limits.lock().clone()
    }

    /// Puts other limits in force, for whatever begins from now on. (The number of fetches is settled
    /// at the start.) Returns whether they are others.
    pub fn replace(&self, limits: Limits) -> bool {
        let mut current = self.limits.lock();
        if **current == limits {
            return false;
        }
        *self.arriving.lock() = InboundBuffers::new(&limits);
        *current = Arc::new(limits);
        true
    }

    /// A place for a connection whose peer is not known. There always is one: somebody gives way.
    pub fn stranger(&self, origin: Origin) -> Slot<Origin> {
        let limits = self.limits();
        let (most, most_of_one) = (limits.strangers, limits.strangers_per_address);
        let entered = self
            .unauthenticated
            .enter(origin, most as usize, most_of_one as usize);
        if entered.1 {
            self.say("strangers");
        }
        entered.0.expect("every stranger gives way")
    }

    /// Whether an address has to prove itself before it gets a place.
    pub fn is_crowded(&self, origin: &Origin) -> bool {
        let limits = self.limits();
        let (all, of_one) = self.unauthenticated.count(origin);
        all >= limits.strangers as usize / 2 || of_one >= limits.strangers_per_address as usize / 2
    }

    /// A place for a request of a member.
    ///
    /// # Errors
    ///
    /// The limit is reached.
    pub fn request(&self, peer: MachineId) -> Result<CountGuard<MachineId>, Refusal> {
        let most = self.limits().requests_per_peer;
        self.requests
            .enter(peer, usize::MAX, most as usize)
            .map_err(|_| self.refused("requests_per_peer", most))
    }

    /// A place for a command of another machine.
    ///
    /// # Errors
    ///
    /// The limit is reached.
    pub fn session(&self, peer: MachineId) -> Result<CountGuard<MachineId>, Refusal> {
        let limits = self.limits();
        let (most, most_of_one) = (limits.sessions, limits.sessions_per_peer);
        self.sessions
            .enter(peer, most as usize, most_of_one as usize)
            .map_err(|full| match full {
                Full::All => self.refused("sessions", most),
                Full::PerKey => self.refused("sessions_per_peer", most_of_one),
            })
    }

    /// A place for a command of this computer's own command lines.
    ///
    /// # Errors
    ///
    /// The limit is reached.
    pub fn own_session(&self) -> Result<CountGuard<()>, Refusal> {
        let most = self.limits().own_sessions;
        self.own_sessions
            .enter((), most as usize, usize::MAX)
            .map_err(|_| self.refused("own_sessions", most))
    }

    /// Room for a frame of a member that is about to arrive. Small ones need none: there are no more
    /// of them than requests.
    pub async fn room(&self, peer: MachineId, length: usize) -> BufferReservation {
        if length <= frame::SMALL {
            return BufferReservation::default();
        }
        let (all, of_peer) = {
            let mut arriving = self.arriving.lock();
            // One that nobody holds or waits for is as good as a new one.
            arriving
                .of_peer
                .retain(|_, budget| Arc::strong_count(budget) > 1);
            let of_peer = arriving.of_peer.entry(peer).or_insert_with(|| {
                let bytes = self.limits().arriving_bytes_per_peer as usize;
                Arc::new(Semaphore::new(bytes / PIECE))
            });
            let of_peer = of_peer.clone();
            (arriving.all.clone(), of_peer)
        };
        let pieces = u32::try_from(length.div_ceil(PIECE)).unwrap_or(u32::MAX);
        BufferReservation {
            _of_peer: of_peer.acquire_many_owned(pieces).await.ok(),
            _of_all: all.acquire_many_owned(pieces).await.ok(),
        }
    }

    /// The turn to fetch a configuration, from a member or from somebody who is none yet.
    pub async fn fetch(&self, from_member: bool) -> Option<OwnedSemaphorePermit> {
        let turns = self.fetches[usize::from(from_member)].clone();
        turns.acquire_owned().await.ok()
    }

    /// The refusal where a limit is reached, which is logged now and then.
    pub fn refused(&self, name: &'static str, value: u32) -> Refusal {
        self.say(name);
        busy(name, value)
    }

    fn say(&self, name: &'static str) {
        let mut said = self.said.lock();
        let (at, times) = said.entry(name).or_insert((Instant::now(), 0));
        *times += 1;
        if *times == 1 || at.elapsed() > SAID_EVERY {
            tracing::warn!(limit = name, times = *times, "a limit is reached");
            *at = Instant::now();
        }
    }
}

/// Room for a frame, until dropped.
#[derive(Debug, Default)]
pub struct BufferReservation {
    _of_peer: Option<OwnedSemaphorePermit>,
    _of_all: Option<OwnedSemaphorePermit>,
}

/// Where a connection comes from, as far as sharing places goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Origin {
    /// An IPv4 address, or the first half of an IPv6 one: whoever has one of these has all of them.
    Address(IpAddr),
    /// A relay, by its URL.
    Relay(String),
    /// Some other way.
    Other,
}

impl From<IncomingAddr> for Origin {
    fn from(address: IncomingAddr) -> Self {
        match address {
            IncomingAddr::Ip(address) => Origin::Address(match address.ip().to_canonical() {
                IpAddr::V6(v6) if !v6.is_loopback() => {
                    let [a, b, c, d, ..] = v6.segments();
                    Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
                }
                address => address,
            }),
            IncomingAddr::Relay { url, .. } => Origin::Relay(url.to_string()),
            _ => Origin::Other,
        }
    }
}

/// Places of which the oldest gives way when there are none left.
#[derive(Debug)]
pub struct SlotPool<K>(Mutex<Inner<K>>);

#[derive(Debug)]
struct Inner<K> {
    next: u64,
    slots: Vec<Taken<K>>,
}

#[derive(Debug)]
struct Taken<K> {
    number: u64,
    key: K,
    /// None for one that stays.
    gives_way: Option<CancellationToken>,
}

impl<K> Default for SlotPool<K> {
    fn default() -> Self {
        Self(Mutex::new(Inner {
            next: 0,
            slots: Vec::new(),
        }))
    }
}

/// A place in a crowd, until dropped.
#[derive(Debug)]
pub struct Slot<K> {
    crowd: Arc<SlotPool<K>>,
    number: u64,
    /// Cancelled when it has to give way.
    pub gives_way: CancellationToken,
}

impl<K: Eq + Hash + Clone> SlotPool<K> {
    /// Takes a place, and says whether a limit was reached. Where all are taken the oldest gives way:
    /// of the same key, if that one has its share, else of the key that has most. `None` if all of
    /// these stay.
    pub fn enter(
        self: &Arc<Self>,
        key: K,
        most: usize,
        most_of_one: usize,
    ) -> (Option<Slot<K>>, bool) {
        let mut inner = self.0.lock();
        let mut shares: HashMap<&K, usize> = HashMap::new();
        for taken in &inner.slots {
            *shares.entry(&taken.key).or_default() += 1;
        }
        let full_of = if shares.get(&key).is_some_and(|share| *share >= most_of_one) {
            Some(key.clone())
        } else if inner.slots.len() >= most {
            let largest = shares.iter().max_by_key(|(_, share)| **share);
            largest.map(|(key, _)| (*key).clone())
        } else {
            None
        };
        let full = full_of.is_some();
        if let Some(full_of) = full_of {
            let oldest = inner
                .slots
                .iter()
                .position(|taken| taken.key == full_of && taken.gives_way.is_some());
            let Some(oldest) = oldest else {
                return (None, true);
            };
            if let Some(gives_way) = inner.slots.remove(oldest).gives_way {
                gives_way.cancel();
            }
        }
        let gives_way = CancellationToken::new();
        let number = inner.next;
        inner.next += 1;
        inner.slots.push(Taken {
            number,
            key,
            gives_way: Some(gives_way.clone()),
        });
        let slot = Slot {
            crowd: self.clone(),
            number,
            gives_way,
        };
        (Some(slot), full)
    }

    /// How many places are taken, in all and of one key.
    pub fn count(&self, key: &K) -> (usize, usize) {
        let inner = self.0.lock();
        let of_key = inner.slots.iter().filter(|taken| taken.key == *key);
        (inner.slots.len(), of_key.count())
    }
}

impl<K> Slot<K> {
    /// From now on it gives way to nobody.
    pub fn stays(&self) {
        let mut inner = self.crowd.0.lock();
        let own = inner.slots.iter_mut();
        for taken in own.filter(|taken| taken.number == self.number) {
            taken.gives_way = None;
        }
    }
}

impl<K> Drop for Slot<K> {
    fn drop(&mut self) {
        let mut inner = self.crowd.0.lock();
        inner.slots.retain(|taken| taken.number != self.number);
    }
}

/// Things that are counted, in all and by key.
#[derive(Debug)]
pub struct KeyedCounter<K>(Mutex<(usize, HashMap<K, usize>)>);

impl<K> Default for KeyedCounter<K> {
    fn default() -> Self {
        Self(Mutex::new((0, HashMap::new())))
    }
}

/// Which limit is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// That of all together.
    All,
    /// That of one key.
    PerKey,
}

/// Something counted, until dropped.
#[derive(Debug)]
pub struct CountGuard<K: Eq + Hash> {
    counted: Arc<KeyedCounter<K>>,
    key: K,
}

impl<K: Eq + Hash + Clone> KeyedCounter<K> {
    /// Counts one more.
    ///
    /// # Errors
    ///
    /// A limit is reached.
    pub fn enter(
        self: &Arc<Self>,
        key: K,
        most: usize,
        most_of_one: usize,
    ) -> Result<CountGuard<K>, Full> {
        let mut inner = self.0.lock();
        let of_one = inner.1.get(&key).copied().unwrap_or_default();
        if of_one >= most_of_one {
            return Err(Full::PerKey);
        }
        if inner.0 >= most {
            return Err(Full::All);
        }
        inner.0 += 1;
        inner.1.insert(key.clone(), of_one + 1);
        Ok(CountGuard {
            counted: self.clone(),
            key,
        })
    }
}

impl<K: Eq + Hash> Drop for CountGuard<K> {
    fn drop(&mut self) {
        let mut inner = self.counted.0.lock();
        inner.0 -= 1;
        if let Some(of_one) = inner.1.get_mut(&self.key) {
            *of_one -= 1;
            if *of_one == 0 {
                inner.1.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests;
