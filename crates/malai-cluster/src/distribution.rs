//! What each member has and needs.

use std::collections::BTreeMap;

use crate::identity::MachineId;
use crate::snapshot::Header;

/// The members that need the current revision: all but this computer (`me`) and those known to
/// have it or a later one. In the order of `members`.
///
/// `known` holds the revision each one has; 0, like no entry, is none or unknown.
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
