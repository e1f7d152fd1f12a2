//! Quotas: how much of something may exist, in total and per member.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use malai_cluster::MachineId;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::settings::limits::Limits;

/// Budgets of bytes are counted in units of this size.
const UNIT: usize = 1024;

/// The limit that is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// The total.
    All,
    /// The limit per key.
    PerKey,
}

/// Counts things, in total and per key.
#[derive(Debug)]
pub(crate) struct KeyedCounter<K>(Mutex<(usize, HashMap<K, usize>)>);

impl<K> Default for KeyedCounter<K> {
    fn default() -> Self {
        Self(Mutex::new((0, HashMap::new())))
    }
}

/// Counted things, until dropped.
#[derive(Debug)]
pub(crate) struct CountGuard<K: Eq + Hash> {
    counter: Arc<KeyedCounter<K>>,
    key: K,
    count: usize,
}

impl<K: Eq + Hash + Clone> KeyedCounter<K> {
    /// Counts `count` things.
    ///
    /// # Errors
    ///
    /// A limit is reached.
    pub(crate) fn enter(
        self: &Arc<Self>,
        key: K,
        count: usize,
        all: usize,
        per_key: usize,
    ) -> Result<CountGuard<K>, Full> {
        let mut guard = self.nothing(key);
        guard.grow(count, all, per_key)?;
        Ok(guard)
    }

    /// A guard that counts nothing yet.
    pub(crate) fn nothing(self: &Arc<Self>, key: K) -> CountGuard<K> {
        CountGuard {
            counter: self.clone(),
            key,
            count: 0,
        }
    }

    /// How many are counted, in total and of a key.
    pub(super) fn count(&self, key: &K) -> (usize, usize) {
        let inner = self.0.lock();
        (inner.0, inner.1.get(key).copied().unwrap_or_default())
    }
}

impl<K: Eq + Hash + Clone> CountGuard<K> {
    /// Counts `count` more.
    ///
    /// # Errors
    ///
    /// A limit is reached; then nothing has changed.
    pub(crate) fn grow(&mut self, count: usize, all: usize, per_key: usize) -> Result<(), Full> {
        let mut inner = self.counter.0.lock();
        let of_key = inner.1.get(&self.key).copied().unwrap_or_default();
        if of_key.saturating_add(count) > per_key {
            return Err(Full::PerKey);
        }
        if inner.0.saturating_add(count) > all {
            return Err(Full::All);
        }
        inner.0 += count;
        inner.1.insert(self.key.clone(), of_key + count);
        self.count += count;
        Ok(())
    }
}

impl<K: Eq + Hash> CountGuard<K> {
    /// How many it counts.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Counts `count` from now on, if that is less.
    pub(crate) fn shrink_to(&mut self, count: usize) {
        let less = self.count.saturating_sub(count);
        let mut inner = self.counter.0.lock();
        inner.0 -= less;
        if let Some(of_key) = inner.1.get_mut(&self.key) {
            *of_key -= less;
            if *of_key == 0 {
                inner.1.remove(&self.key);
            }
        }
        self.count -= less;
    }
}

impl<K: Eq + Hash> Drop for CountGuard<K> {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

/// Buffer space for requests that are being received. It is recreated when the limits change.
#[derive(Debug)]
pub(super) struct InboundBuffers {
    all: Arc<Semaphore>,
    per_peer: HashMap<MachineId, Arc<Semaphore>>,
}

/// Reserved buffer space for a frame, until dropped.
#[derive(Debug, Default)]
pub(crate) struct BufferReservation {
    _per_peer: Option<OwnedSemaphorePermit>,
    _all: Option<OwnedSemaphorePermit>,
}

impl InboundBuffers {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            all: Arc::new(Semaphore::new(
                limits.inflight_request_bytes as usize / UNIT,
            )),
            per_peer: HashMap::new(),
        }
    }

    /// The budgets for a frame of this peer: the peer's own, and the total.
    pub(super) fn budgets(&mut self, peer: MachineId, limits: &Limits) -> [Arc<Semaphore>; 2] {
        // A budget that is neither held nor awaited is equivalent to a new one.
        self.per_peer
            .retain(|_, budget| Arc::strong_count(budget) > 1);
        let per_peer = self.per_peer.entry(peer).or_insert_with(|| {
            let bytes = limits.inflight_request_bytes_per_peer as usize;
            Arc::new(Semaphore::new(bytes / UNIT))
        });
        [per_peer.clone(), self.all.clone()]
    }

    #[cfg(test)]
    pub(super) fn peers(&self) -> usize {
        self.per_peer.len()
    }
}

impl BufferReservation {
    /// Waits for `length` bytes in both budgets.
    ///
    /// # Errors
    ///
    /// The budget that did not have enough before the deadline.
    pub(super) async fn wait(
        [per_peer, all]: [Arc<Semaphore>; 2],
        length: usize,
        deadline: Instant,
    ) -> Result<Self, Full> {
        let units = u32::try_from(length.div_ceil(UNIT)).unwrap_or(u32::MAX);
        let acquire = |budget: Arc<Semaphore>, full| async move {
            let permit = timeout_at(deadline, budget.acquire_many_owned(units)).await;
            // These semaphores are never closed.
            permit.map(Result::ok).map_err(|_| full)
        };
        Ok(Self {
            _per_peer: acquire(per_peer, Full::PerKey).await?,
            _all: acquire(all, Full::All).await?,
        })
    }
}
