//! Rates: how often something may be done, by key.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Keys that are remembered before those are dropped that have done nothing for a period.
const KEYS: usize = 1024;

/// How often each key may do something: so many times in a period, after as many at once. It is the generic cell rate
/// algorithm (ITU-T I.371): of each key, when it will have paid for what it did.
#[derive(Debug)]
pub(super) struct KeyedRate<K>(Mutex<HashMap<K, Instant>>);

impl<K> Default for KeyedRate<K> {
    fn default() -> Self {
        Self(Mutex::new(HashMap::new()))
    }
}

impl<K: Eq + Hash> KeyedRate<K> {
    /// Counts one more of a key.
    ///
    /// # Errors
    ///
    /// It has had its share. Says when it may try again.
    pub(super) fn enter(
        &self,
        key: K,
        times: u32,
        period: Duration,
        now: Instant,
    ) -> Result<(), Instant> {
        let one = period / times.max(1);
        let mut paid = self.0.lock();
        if paid.len() >= KEYS {
            // One that has paid is as good as a new one.
            paid.retain(|_, paid_at| *paid_at > now);
        }
        let paid_at = paid.get(&key).copied().unwrap_or(now).max(now) + one;
        if paid_at > now + period {
            return Err(paid_at - period);
        }
        paid.insert(key, paid_at);
        Ok(())
    }

    #[cfg(test)]
    fn keys(&self) -> usize {
        self.0.lock().len()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{KEYS, KeyedRate};

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_key_has_its_share_at_once_and_then_at_its_rate() {
        let (rate, start) = (KeyedRate::default(), Instant::now());
        for _ in 0..10 {
            assert_eq!(rate.enter("one", 10, SECOND, start), Ok(()));
        }
        let next = rate.enter("one", 10, SECOND, start).unwrap_err();
        assert_eq!(next - start, Duration::from_millis(100));
        // Another key is not held up.
        assert_eq!(rate.enter("two", 10, SECOND, start), Ok(()));
        assert_eq!(rate.enter("one", 10, SECOND, next), Ok(()));
        assert!(rate.enter("one", 10, SECOND, next).is_err());
        let later = next + Duration::from_secs(5);
        let at_once = (0..20).filter(|_| rate.enter("one", 10, SECOND, later).is_ok());
        assert_eq!(at_once.count(), 10);
    }

    #[test]
    fn keys_that_have_paid_are_forgotten() {
        let (rate, mut now) = (KeyedRate::default(), Instant::now());
        for key in 0..100_000 {
            now += Duration::from_millis(10);
            assert_eq!(rate.enter(key, 5, SECOND, now), Ok(()));
        }
        assert!(rate.keys() <= KEYS, "{}", rate.keys());
    }
}
