//! Which connections to close to keep to a limit.

use std::cmp::Reverse;
use std::time::Duration;

/// An open connection to a member that counts toward a limit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    /// How long it has been unused.
    pub idle: Duration,
    /// Whether a request is running on it, or a session uses it.
    pub is_occupied: bool,
    /// Whether it was just opened. It is never closed to make room for itself.
    pub is_new: bool,
}

/// What to close to keep to the limit.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Eviction {
    /// The connections to close, as indices into the list of candidates.
    pub close: Vec<usize>,
    /// Whether that suffices. If not, the others are in use.
    pub is_enough: bool,
}

/// Over the limit, the connections unused for longest are closed. One in use is not, because it may carry requests
/// that were received but not answered.
pub(super) fn evict(candidates: &[Candidate], most: usize) -> Eviction {
    let too_many = candidates.len().saturating_sub(most);
    if too_many == 0 {
        return Eviction {
            close: Vec::new(),
            is_enough: true,
        };
    }
    let mut idle: Vec<usize> = (0..candidates.len())
        .filter(|place| !candidates[*place].is_occupied && !candidates[*place].is_new)
        .collect();
    idle.sort_by_key(|place| Reverse(candidates[*place].idle));
    idle.truncate(too_many);
    Eviction {
        is_enough: idle.len() >= too_many,
        close: idle,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Candidate, Eviction, evict};

    fn candidate(idle: u64, is_occupied: bool, is_new: bool) -> Candidate {
        Candidate {
            idle: Duration::from_secs(idle),
            is_occupied,
            is_new,
        }
    }

    #[test]
    fn the_longest_unused_are_closed_and_never_one_in_use_or_the_new_one() {
        let candidates = [
            candidate(5, false, false),
            candidate(90, true, false),
            candidate(30, false, false),
            candidate(99, false, true),
            candidate(20, false, false),
        ];
        let expected: [(usize, &[usize], bool); 7] = [
            (9, &[], true),
            (5, &[], true),
            (4, &[2], true),
            (3, &[2, 4], true),
            (2, &[2, 4, 0], true),
            (1, &[2, 4, 0], false),
            (0, &[2, 4, 0], false),
        ];
        for (most, close, is_enough) in expected {
            let close = close.to_vec();
            assert_eq!(
                evict(&candidates, most),
                Eviction { close, is_enough },
                "{most}"
            );
        }
    }
}
