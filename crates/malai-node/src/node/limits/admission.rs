//! Admission: slots for connections whose peer or request is not known yet.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use iroh::endpoint::IncomingAddr;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::quota::Full;

/// The origin of a connection, which slots are shared by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Origin {
    /// An IPv4 address, or the first half of an IPv6 address, because one host has all addresses with the same half.
    Address(IpAddr),
    /// A relay, by its URL.
    Relay(String),
    /// Another transport.
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

/// How many slots there are, and how long each is protected.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// The number of slots.
    pub(crate) all: usize,
    /// The number of slots per key.
    pub(crate) per_key: usize,
    /// A slot is not evicted before it is this old, so that new connections can complete.
    pub(crate) min_age: Duration,
}

/// No slot is free, and none can be evicted now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoSlot {
    /// The limit that is reached.
    pub(crate) by: Full,
    /// When the oldest evictable slot reaches its minimum age; `None` if all are pinned.
    pub(crate) evictable_at: Option<Instant>,
}

/// A pool of slots. When it is full, the oldest slot is evicted.
#[derive(Debug)]
pub(crate) struct SlotPool<K>(Mutex<Inner<K>>, Notify);

#[derive(Debug)]
struct Inner<K> {
    next: u64,
    /// Oldest first.
    slots: Vec<Taken<K>>,
}

#[derive(Debug)]
struct Taken<K> {
    number: u64,
    key: K,
    since: Instant,
    /// `None` if the slot is pinned.
    eviction: Option<Arc<Eviction>>,
}

#[derive(Debug, Default)]
struct Eviction {
    token: CancellationToken,
    by: OnceLock<Full>,
}

impl<K> Default for SlotPool<K> {
    fn default() -> Self {
        let inner = Inner {
            next: 0,
            slots: Vec::new(),
        };
        Self(Mutex::new(inner), Notify::new())
    }
}

/// A slot in a pool, until dropped.
#[derive(Debug)]
pub(crate) struct Slot<K> {
    pool: Arc<SlotPool<K>>,
    number: u64,
    eviction: Arc<Eviction>,
}

impl<K: Eq + Hash + Clone> SlotPool<K> {
    /// Takes a slot. When all are taken, the oldest is evicted: of the same key if that key has its share, else of the key
    /// that has the most.
    ///
    /// # Errors
    ///
    /// All slots that could be evicted are pinned or too young.
    pub(crate) fn enter(
        self: &Arc<Self>,
        key: K,
        bounds: Bounds,
        now: Instant,
    ) -> Result<Slot<K>, NoSlot> {
        let mut inner = self.0.lock();
        let mut shares: HashMap<&K, usize> = HashMap::new();
        for taken in &inner.slots {
            *shares.entry(&taken.key).or_default() += 1;
        }
        let full = if shares
            .get(&key)
            .is_some_and(|share| *share >= bounds.per_key)
        {
            Some((Full::PerKey, key.clone()))
        } else if inner.slots.len() >= bounds.all {
            let largest = shares.iter().max_by_key(|(_, share)| **share);
            largest.map(|(key, _)| (Full::All, (*key).clone()))
        } else {
            None
        };
        if let Some((by, of)) = full {
            inner.evict(by, &of, bounds.min_age, now)?;
        }
        let number = inner.next;
        inner.next += 1;
        let eviction = Arc::<Eviction>::default();
        inner.slots.push(Taken {
            number,
            key,
            since: now,
            eviction: Some(eviction.clone()),
        });
        Ok(Slot {
            pool: self.clone(),
            number,
            eviction,
        })
    }

    /// How many slots are taken, in total and by one key.
    pub(crate) fn count(&self, key: &K) -> (usize, usize) {
        let inner = self.0.lock();
        let of_key = inner.slots.iter().filter(|taken| taken.key == *key);
        (inner.slots.len(), of_key.count())
    }
}

impl<K> SlotPool<K> {
    /// Waits until a slot is released that was taken when this was called, or since.
    pub(crate) async fn freed(&self) {
        self.1.notified().await;
    }
}

impl<K: Eq> Inner<K> {
    fn evict(&mut self, by: Full, of: &K, min_age: Duration, now: Instant) -> Result<(), NoSlot> {
        let mut candidates = self.slots.iter().enumerate();
        let oldest = candidates.find(|(_, taken)| taken.key == *of && taken.eviction.is_some());
        let Some((at, taken)) = oldest else {
            return Err(NoSlot {
                by,
                evictable_at: None,
            });
        };
        let evictable_at = taken.since + min_age;
        if evictable_at > now {
            return Err(NoSlot {
                by,
                evictable_at: Some(evictable_at),
            });
        }
        if let Some(eviction) = self.slots.remove(at).eviction {
            let _ = eviction.by.set(by);
            eviction.token.cancel();
        }
        Ok(())
    }
}

impl<K> Slot<K> {
    /// Protects the slot from eviction.
    pub(crate) fn pin(&self) {
        let mut inner = self.pool.0.lock();
        let own = inner.slots.iter_mut();
        for taken in own.filter(|taken| taken.number == self.number) {
            taken.eviction = None;
        }
    }

    /// Waits until the slot is evicted; returns the limit that was reached.
    pub(crate) async fn evicted(&self) -> Full {
        self.eviction.token.cancelled().await;
        self.evicted_by().unwrap_or(Full::All)
    }

    /// The limit that was reached when the slot was evicted, if it was.
    pub(crate) fn evicted_by(&self) -> Option<Full> {
        self.eviction.by.get().copied()
    }
}

impl<K> Drop for Slot<K> {
    fn drop(&mut self) {
        let mut inner = self.pool.0.lock();
        inner.slots.retain(|taken| taken.number != self.number);
        drop(inner);
        self.pool.1.notify_one();
    }
}
