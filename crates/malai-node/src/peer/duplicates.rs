//! Which of several links to one peer is one too many.

use std::sync::Arc;
use std::time::Duration;

use malai_cluster::MachineId;

use crate::peer::connection::PeerConnection;

/// How lately the peer must have been heard of over the connection that stays.
const HEARD: Duration = Duration::from_secs(5);

/// Two ends of a link, as keys.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends {
    /// This side.
    pub local_id: MachineId,
    /// The other.
    pub peer: MachineId,
    /// The manager of their cluster, who may be one of them.
    pub manager: MachineId,
}

/// What matters of a link that leads to the same run of the peer.
#[derive(Debug, Clone, Copy)]
struct Seen {
    is_dialled: bool,
    had_sessions: bool,
}

/// Whether `connection` is one too many of those to its peer, which are in the order of their making.
pub(super) fn is_spare(
    connection: &Arc<PeerConnection>,
    connections: &[Arc<PeerConnection>],
    ends: Ends,
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
        is_dialled: connection.is_dialled(),
        had_sessions: connection.activity().had_sessions(),
    };
    let mut others = connections.iter().enumerate().filter(|(at, other)| {
        *at != slot
            && other.is_usable()
            && other.is_admitted()
            && other.instance() == Some(run)
            // One that has fallen silent may be dead, whatever it was used for.
            && other.silent_for() < HEARD
    });
    others.any(|(at, other)| gives_way(seen(connection), seen(other), at > slot, ends))
}

/// Two machines that look for each other at the same time find each other twice, and a slow one is
/// dialled again. Only the dialler closes a link, and never one that a session has used (a new
/// one would cost the next session a handshake). Both sides agree on which stays: the one over which a
/// machine asks the manager, which it would dial again, or else that of the lesser key; of one side's own
/// the later. While sessions run there are two, as they have one of their own: a side that has moved is
/// found again by what it dials itself.
fn gives_way(connection: Seen, other: Seen, is_later: bool, ends: Ends) -> bool {
    let Ends {
        local_id,
        peer,
        manager,
    } = ends;
    let theirs_stays = local_id == manager || peer != manager && peer < local_id;
    connection.is_dialled
        && !connection.had_sessions
        && if other.is_dialled {
            other.had_sessions || is_later
        } else {
            theirs_stays
        }
}

#[cfg(test)]
mod tests {
    use malai_cluster::SecretSeed;

    use super::{Ends, Seen, gives_way};

    #[test]
    fn of_two_links_both_sides_keep_the_same_one() {
        let mut keys = [1, 2, 3].map(|n| SecretSeed::from_bytes([n; 32]).id());
        keys.sort();
        let [a, b, c] = keys;
        let connection = |is_dialled, had_sessions| Seen {
            is_dialled,
            had_sessions,
        };
        let (own, theirs) = (connection(true, false), connection(false, false));
        // Whoever dialled: one closes its own, the other nothing.
        for (manager, closes) in [(a, a), (b, b), (c, b)] {
            for (local_id, peer) in [(a, b), (b, a)] {
                let ends = Ends {
                    local_id,
                    peer,
                    manager,
                };
                assert_eq!(gives_way(own, theirs, true, ends), local_id == closes);
                assert_eq!(gives_way(own, theirs, false, ends), local_id == closes);
                assert!(!gives_way(theirs, own, true, ends));
                // A session's link stays for the next one.
                assert!(!gives_way(connection(true, true), theirs, true, ends));
                // Of its own it keeps the later, or the one of its sessions.
                assert!(gives_way(own, own, true, ends));
                assert!(!gives_way(own, own, false, ends));
                assert!(gives_way(own, connection(true, true), false, ends));
                assert!(!gives_way(connection(true, true), own, true, ends));
            }
        }
    }
}
