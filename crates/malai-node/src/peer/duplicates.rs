//! Decides which of several connections to a peer is closed.

use std::sync::Arc;
use std::time::Duration;

use malai_cluster::MachineId;

use crate::peer::connection::PeerConnection;

/// How recently the peer must have been heard over the connection that stays.
const HEARD_WINDOW: Duration = Duration::from_secs(5);

/// The keys that decide.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keys {
    /// This side's.
    pub local: MachineId,
    /// The other side's.
    pub peer: MachineId,
    /// The manager's of their cluster, who may be one of them.
    pub manager: MachineId,
}

/// What matters about one of the connections to the same run of a peer.
#[derive(Debug, Clone, Copy)]
struct Seen {
    is_dialed: bool,
    had_sessions: bool,
}

/// Whether `connection` is the one to close among those to its peer, which are in the order of their creation.
pub(super) fn is_duplicate(
    connection: &Arc<PeerConnection>,
    connections: &[Arc<PeerConnection>],
    keys: Keys,
) -> bool {
    let (Some(run), Some(slot)) = (
        connection.instance(),
        connections
            .iter()
            .position(|other| Arc::ptr_eq(other, connection)),
    ) else {
        return false;
    };
    let seen = |connection: &Arc<PeerConnection>| Seen {
        is_dialed: connection.is_dialed(),
        had_sessions: connection.activity().had_sessions(),
    };
    let mut others = connections.iter().enumerate().filter(|(at, other)| {
        *at != slot
            && other.is_usable()
            && other.is_admitted()
            && other.instance() == Some(run)
            // A silent connection may be dead, however it was used.
            && other.silent_for() < HEARD_WINDOW
    });
    others.any(|(at, other)| should_close(seen(connection), seen(other), at > slot, keys))
}

/// Two machines that dial each other at the same time end up with two connections, and a slow connection is dialed
/// again. Only the dialer closes a connection, and never one that a session has used (a new one would cost the next
/// session a handshake). Both sides agree on which one stays: the one dialed by a machine to its manager, because it
/// would dial again, or else the one dialed by the lesser key; among those of one side, the later one. While sessions
/// run there are two, because sessions use their own: a side that changed its address is found again by what it
/// dials itself.
fn should_close(connection: Seen, other: Seen, is_later: bool, keys: Keys) -> bool {
    let Keys {
        local,
        peer,
        manager,
    } = keys;
    let theirs_stays = local == manager || peer != manager && peer < local;
    connection.is_dialed
        && !connection.had_sessions
        && if other.is_dialed {
            other.had_sessions || is_later
        } else {
            theirs_stays
        }
}

#[cfg(test)]
mod tests {
    use malai_cluster::SecretSeed;

    use super::{Keys, Seen, should_close};

    #[test]
    fn of_two_connections_both_sides_keep_the_same_one() {
        let mut keys = [1, 2, 3].map(|n| SecretSeed::from_bytes([n; 32]).id());
        keys.sort();
        let [a, b, c] = keys;
        let connection = |is_dialed, had_sessions| Seen {
            is_dialed,
            had_sessions,
        };
        let (own, theirs) = (connection(true, false), connection(false, false));
        // Whichever side dialed: one closes its own, the other nothing.
        for (manager, closes) in [(a, a), (b, b), (c, b)] {
            for (local, peer) in [(a, b), (b, a)] {
                let keys = Keys {
                    local,
                    peer,
                    manager,
                };
                assert_eq!(should_close(own, theirs, true, keys), local == closes);
                assert_eq!(should_close(own, theirs, false, keys), local == closes);
                assert!(!should_close(theirs, own, true, keys));
                // A session's connection stays for the next one.
                assert!(!should_close(connection(true, true), theirs, true, keys));
                // Of its own it keeps the later, or the one of its sessions.
                assert!(should_close(own, own, true, keys));
                assert!(!should_close(own, own, false, keys));
                assert!(should_close(own, connection(true, true), false, keys));
                assert!(!should_close(connection(true, true), own, true, keys));
            }
        }
    }
}
