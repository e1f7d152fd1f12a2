//! Which members need the current revision.

use std::collections::BTreeMap;

use crate::identity::MachineId;
use crate::snapshot::Header;

/// The members that need the current revision: all except this computer (`me`) and those known to have it or a
/// later one, in the order of `members`.
///
/// `known` maps members to the revision they have; 0 or no entry means none or unknown.
pub fn members_needing_update(
    current: &Header,
    known: &BTreeMap<MachineId, u64>,
    members: impl Iterator<Item = MachineId>,
    me: MachineId,
) -> Vec<MachineId> {
    let has = |member: &MachineId| known.get(member).copied().unwrap_or(0);
    members
        .filter(|member| *member != me && has(member) < current.revision)
        .collect()
}

#[cfg(test)]
mod tests;
