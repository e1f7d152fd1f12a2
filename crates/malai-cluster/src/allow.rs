//! A list of who may do something: as it was written, and resolved for quick decisions.

use std::fmt;

use crate::group::Group;
use crate::identity::MachineId;
use crate::name::{GroupName, MachineName};

/// One entry of a list, as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Entry {
    /// `*`: every member of the cluster.
    Everyone,
    /// A machine by its name.
    Machine(MachineName),
    /// A key by its id52. One that is no member of the cluster has no effect.
    Id(MachineId),
    /// A group.
    Group(GroupName),
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Entry::Everyone => f.write_str("*"),
            Entry::Machine(name) => name.fmt(f),
            Entry::Id(id) => id.fmt(f),
            Entry::Group(name) => name.fmt(f),
        }
    }
}

/// Position of a member in the cluster: a machine's place in the order of names, then the
/// manager's if no machine has its key.
pub(crate) type Member = u32;

/// Position of a group in the cluster, in the order of names.
pub(crate) type GroupIndex = u32;

/// Who may do something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowList {
    entries: Box<[Entry]>,
    resolved: Resolved,
}

/// The members that a list names, each with the index of the entry that does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Resolved {
    pub(crate) everyone: Option<u32>,
    /// Sorted by member.
    pub(crate) direct: Box<[(Member, u32)]>,
    /// In the order of the list.
    pub(crate) groups: Box<[(GroupIndex, u32)]>,
}

impl AllowList {
    pub(crate) fn new(entries: Vec<Entry>, resolved: Resolved) -> Self {
        AllowList {
            entries: entries.into(),
            resolved,
        }
    }

    /// The entries as written.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(crate) fn resolved(&self) -> &Resolved {
        &self.resolved
    }

    /// The entry that lets this member in, and the group it names, if it names one.
    pub(crate) fn matching(
        &self,
        member: Member,
        groups: &[Group],
    ) -> Option<(&Entry, Option<GroupIndex>)> {
        let (entry, group) = self.resolved.matching(member, groups)?;
        Some((&self.entries[entry as usize], group))
    }
}

impl Resolved {
    pub(crate) fn matching(
        &self,
        member: Member,
        groups: &[Group],
    ) -> Option<(u32, Option<GroupIndex>)> {
        if let Ok(found) = self.direct.binary_search_by_key(&member, |(who, _)| *who) {
            return Some((self.direct[found].1, None));
        }
        if let Some(entry) = self.everyone {
            return Some((entry, None));
        }
        self.groups
            .iter()
            .find(|(group, _)| groups[*group as usize].holds(member))
            .map(|(group, entry)| (*entry, Some(*group)))
    }

    /// Whether no member at all is in the list.
    pub(crate) fn is_nobody(&self, groups: &[Group]) -> bool {
        self.everyone.is_none()
            && self.direct.is_empty()
            && self
                .groups
                .iter()
                .all(|(group, _)| groups[*group as usize].is_empty())
    }
}
