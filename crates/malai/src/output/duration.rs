//! Lengths of time as text.

use std::time::Duration;

/// A length of time, for people: `1.5 s`.
pub fn shown(time: Duration) -> String {
    format!("{} s", time.as_secs_f64())
}
