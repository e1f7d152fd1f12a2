//! Quotas: how much of something there may be, in all and of one member.

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

/// Which limit is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// That of all together.
    All,
    /// That of one key.
    PerKey,
}

/// Things that are counted, in all and by key.
#[derive(Debug)]
pub(crate) struct KeyedCounter<K>(Mutex<(usize, HashMap<K, usize>)>);

impl<K> Default for KeyedCounter<K> {
    fn default() -> Self {
        Self(Mutex::new((0, HashMap::new())))
    }
}

/// A number of things, counted until dropped.
#[derive(Debug)]
pub(crate) struct CountGuard<K: Eq + Hash> {
    counter: Arc<KeyedCounter<K>>,
    key: K,
    count: usize,
}

impl<K: Eq + Hash + Clone> KeyedCounter<K> {
    /// Counts `count` more.
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
        let mut inner = self.0.lock();
        let of_key = inner.1.get(&key).copied().unwrap_or_default();
        if of_key.saturating_add(count) > per_key {
            return Err(Full::PerKey);
        }
        if inner.0.saturating_add(count) > all {
            return Err(Full::All);
        }
        inner.0 += count;
        inner.1.insert(key.clone(), of_key + count);
        Ok(CountGuard {
            counter: self.clone(),
            key,
            count,
        })
    }

    #[cfg(test)]
    pub(super) fn count(&self, key: &K) -> (usize, usize) {
        let inner = self.0.lock();
        (inner.0, inner.1.get(key).copied().unwrap_or_default())
    }
}

impl<K: Eq + Hash> Drop for CountGuard<K> {
    fn drop(&mut self) {
        let mut inner = self.counter.0.lock();
        inner.0 -= self.count;
        if let Some(of_key) = inner.1.get_mut(&self.key) {
            *of_key -= self.count;
            if *of_key == 0 {
                inner.1.remove(&self.key);
            }
        }
    }
}

/// Budgets for what is arriving. They are made again when the limits change.
#[derive(Debug)]
pub(super) struct InboundBuffers {
    all: Arc<Semaphore>,
    per_peer: HashMap<MachineId, Arc<Semaphore>>,
}

/// Buffer space for a frame, until dropped.
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

    /// The budgets that a frame of this peer counts against: the peer's, and that of all.
    pub(super) fn budgets(&mut self, peer: MachineId, limits: &Limits) -> [Arc<Semaphore>; 2] {
        // One that is not held or waited for is as good as a new one.
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
    /// Waits for `length` bytes of both budgets.
    ///
    /// # Errors
    ///
    /// The budget that does not have them before the deadline.
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
