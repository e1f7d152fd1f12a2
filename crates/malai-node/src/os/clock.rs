//! Instants for proofs: intervals between them are never measured too short or too long.
//!
//! The usual clock stops while a computer sleeps, and its rate is adjusted to other clocks.

use std::time::Duration;

use rustix::time::ClockId;

/// An instant on this computer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BoundedInstant {
    /// Runs at the hardware's rate; stops during sleep.
    monotonic_raw: Duration,
    /// Runs during sleep; its rate may be adjusted.
    boottime: Duration,
}

impl BoundedInstant {
    /// The current instant.
    pub fn now() -> Self {
        Self {
            monotonic_raw: read(STEADY),
            boottime: read(SLEEPLESS),
        }
    }

    /// The most time that can have passed since `earlier`, apart from the hardware's own error.
    pub fn max_elapsed_since(&self, earlier: &Self) -> Duration {
        let monotonic_raw = self.monotonic_raw.saturating_sub(earlier.monotonic_raw);
        monotonic_raw.max(self.boottime.saturating_sub(earlier.boottime))
    }

    /// The least time that has passed since then, apart from the hardware's own error.
    pub fn min_elapsed(&self) -> Duration {
        let now = Self::now();
        let monotonic_raw = now.monotonic_raw.saturating_sub(self.monotonic_raw);
        monotonic_raw.min(now.boottime.saturating_sub(self.boottime))
    }
}

#[cfg(target_os = "linux")]
const STEADY: ClockId = ClockId::MonotonicRaw;
#[cfg(target_os = "linux")]
const SLEEPLESS: ClockId = ClockId::Boottime;
// On this system it runs during sleep.
#[cfg(not(target_os = "linux"))]
const STEADY: ClockId = ClockId::Monotonic;
#[cfg(not(target_os = "linux"))]
const SLEEPLESS: ClockId = ClockId::Monotonic;

fn read(clock: ClockId) -> Duration {
    let time = rustix::time::clock_gettime(clock);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::BoundedInstant;
    use std::time::Duration;

    #[test]
    fn the_longer_interval_bounds_from_above() {
        let at = |monotonic_raw, boottime| BoundedInstant {
            monotonic_raw: Duration::from_secs(monotonic_raw),
            boottime: Duration::from_secs(boottime),
        };
        // It slept for ten minutes in between.
        let passed = at(11, 700).max_elapsed_since(&at(10, 99));
        assert_eq!(passed, Duration::from_secs(601));
        // Its clock was slowed down.
        let passed = at(20, 108).max_elapsed_since(&at(10, 99));
        assert_eq!(passed, Duration::from_secs(10));
        assert!(BoundedInstant::now().min_elapsed() < Duration::from_secs(60));
    }
}
