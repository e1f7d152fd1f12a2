//! Moments that prove something: intervals between them are never measured too short or too long.
//!
//! The usual clock stands still while a computer sleeps, and its speed is adjusted to that of others.

use std::time::Duration;

use rustix::time::ClockId;

/// A moment on this computer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Runs at the hardware's speed; stands still in sleep.
    steady: Duration,
    /// Goes on in sleep; its speed may be adjusted.
    sleepless: Duration,
}

impl Moment {
    /// This moment.
    pub fn now() -> Self {
        Self {
            steady: read(STEADY),
            sleepless: read(SLEEPLESS),
        }
    }

    /// At most this much time has passed since `earlier`, but for the hardware's own error.
    pub fn at_most_since(&self, earlier: &Self) -> Duration {
        let steady = self.steady.saturating_sub(earlier.steady);
        steady.max(self.sleepless.saturating_sub(earlier.sleepless))
    }

    /// At least this much time has passed since then, but for the hardware's own error.
    pub fn at_least_elapsed(&self) -> Duration {
        let now = Self::now();
        let steady = now.steady.saturating_sub(self.steady);
        steady.min(now.sleepless.saturating_sub(self.sleepless))
    }
}

#[cfg(target_os = "linux")]
const STEADY: ClockId = ClockId::MonotonicRaw;
#[cfg(target_os = "linux")]
const SLEEPLESS: ClockId = ClockId::Boottime;
// There it goes on in sleep.
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
    use super::Moment;
    use std::time::Duration;

    #[test]
    fn the_longer_interval_bounds_from_above() {
        let at = |steady, sleepless| Moment {
            steady: Duration::from_secs(steady),
            sleepless: Duration::from_secs(sleepless),
        };
        // It slept for ten minutes in between.
        let passed = at(11, 700).at_most_since(&at(10, 99));
        assert_eq!(passed, Duration::from_secs(601));
        // Its clock was slowed down.
        let passed = at(20, 108).at_most_since(&at(10, 99));
        assert_eq!(passed, Duration::from_secs(10));
        assert!(Moment::now().at_least_elapsed() < Duration::from_secs(60));
    }
}
