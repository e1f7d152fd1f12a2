//! The protocol's version number and its history.
//!
//! | version | since | changes |
//! |---|---|---|
//! | 1 | 0.1.0 | the first |

use serde::{Deserialize, Serialize};

/// The ALPN of connections between two malai processes.
pub const ALPN: &[u8] = b"malai/1";

/// The ALPN of a connection that only proves that an address belongs to a key and then closes.
pub const PROBE_ALPN: &[u8] = b"malai-probe/1";

/// The versions that one side supports, lowest and highest, inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// The oldest supported version: always the one before [`Versions::highest`], if there is one.
    pub lowest: u16,
    /// The newest supported version.
    pub highest: u16,
}

impl Versions {
    /// What this build supports.
    pub const OURS: Versions = Versions {
        lowest: 1,
        highest: 1,
    };

    /// The version to use: the highest that both sides support; `None` if there is none.
    pub fn common(self, other: Versions) -> Option<u16> {
        let highest = self.highest.min(other.highest);
        (highest >= self.lowest && highest >= other.lowest).then_some(highest)
    }
}

#[cfg(test)]
mod tests {
    use super::Versions;

    #[test]
    fn the_highest_common_version_is_used() {
        let range = |lowest, highest| Versions { lowest, highest };
        for (ours, theirs, common) in [
            (range(1, 1), range(1, 1), Some(1)),
            (range(1, 2), range(2, 3), Some(2)),
            (range(1, 3), range(1, 2), Some(2)),
            (range(3, 4), range(1, 2), None),
            (range(1, 2), range(3, 4), None),
        ] {
            assert_eq!(ours.common(theirs), common, "{ours:?} with {theirs:?}");
            assert_eq!(theirs.common(ours), common, "{theirs:?} with {ours:?}");
        }
    }
}
