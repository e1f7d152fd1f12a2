//! Keys that ask a manager to join: a short list that keeps the oldest.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use malai_cluster::MachineId;

use crate::settings::limits::Limits;

/// A key that has not asked again for this long is removed. Its daemon asks every minute.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);

/// The list.
#[derive(Debug, Default)]
pub(crate) struct PendingJoins(Vec<PendingJoin>);

/// A key that asks to be a member.
#[derive(Debug, Clone)]
pub(crate) struct PendingJoin {
    /// The key that the handshake proved.
    pub id: MachineId,
    /// Its last address, unless it came through a relay.
    pub address: Option<SocketAddr>,
    /// When it last asked.
    pub last: Instant,
}

impl PendingJoins {
    /// Adds or renews a key. A full list stays as it is: identities are free to create, so later keys are not listed.
    pub(crate) fn insert(
        &mut self,
        id: MachineId,
        address: Option<SocketAddr>,
        now: Instant,
        limits: &Limits,
    ) {
        self.0.retain(|waiting| waiting.is_recent(now));
        if let Some(known) = self.0.iter_mut().find(|waiting| waiting.id == id) {
            known.last = now;
            known.address = address.or(known.address);
            return;
        }
        let ip: Option<IpAddr> = address.map(|address| address.ip());
        let from_there = self
            .0
            .iter()
            .filter(|waiting| waiting.address.map(|address| address.ip()) == ip)
            .count();
        if self.0.len() < limits.pending_joins as usize
            && (from_there < limits.pending_joins_per_address as usize
                // Peers behind relays have no address of their own, so they share half of the list.
                || ip.is_none() && from_there < limits.pending_joins as usize / 2)
        {
            self.0.push(PendingJoin {
                id,
                address,
                last: now,
            });
        }
    }

    /// Removes a key that has become a member.
    pub(crate) fn remove(&mut self, id: &MachineId) -> Option<PendingJoin> {
        let at = self.0.iter().position(|waiting| waiting.id == *id)?;
        Some(self.0.remove(at))
    }

    /// The keys that have asked recently, oldest first.
    pub(crate) fn recent(&self, now: Instant) -> impl Iterator<Item = &PendingJoin> {
        self.0.iter().filter(move |waiting| waiting.is_recent(now))
    }
}

impl PendingJoin {
    fn is_recent(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last) < FORGOTTEN_AFTER
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use malai_cluster::{MachineId, SecretSeed};

    use super::{FORGOTTEN_AFTER, PendingJoins};
    use crate::settings::limits::Limits;

    fn id(n: u8) -> MachineId {
        SecretSeed::from_bytes([n; 32]).id()
    }

    #[test]
    fn the_oldest_are_kept_and_one_address_cannot_fill_the_list() {
        let now = Instant::now();
        let mut list = PendingJoins::default();
        let limits = Limits {
            pending_joins: 9,
            pending_joins_per_address: 3,
            ..Limits::default()
        };
        for n in 0..20 {
            list.insert(id(n), Some("10.0.0.1:1".parse().unwrap()), now, &limits);
        }
        assert_eq!(list.recent(now).count(), 3);
        for n in 20..120 {
            let address = format!("10.0.1.{n}:1").parse().unwrap();
            list.insert(id(n), Some(address), now, &limits);
        }
        assert_eq!(list.recent(now).count(), 9);
        assert_eq!(list.recent(now).next().unwrap().id, id(0));
        // They are gone when they have not asked for long, even if nobody else asks.
        assert_eq!(list.recent(now + FORGOTTEN_AFTER).count(), 0);
        let later = now + FORGOTTEN_AFTER;
        let address = Some("10.9.9.9:1".parse().unwrap());
        list.insert(id(200), address, later, &limits);
        assert_eq!(
            list.recent(later)
                .map(|waiting| waiting.id)
                .collect::<Vec<_>>(),
            [id(200)]
        );
    }
}
