//! A list of who may do something: as written, and resolved for fast decisions.

use crate::group::{Entry, Group, GroupIndex, Member};

/// Who may do something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowList {
    entries: Box<[Entry]>,
    resolved: Resolved,
}

/// The members in a list, each with the index of the entry that matches it.
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

    /// The entry that matches this member, and the group that it names, if any.
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

    /// Whether the list contains no member at all.
    pub(crate) fn is_nobody(&self, groups: &[Group]) -> bool {
        self.everyone.is_none()
            && self.direct.is_empty()
            && self
                .groups
                .iter()
                .all(|(group, _)| groups[*group as usize].is_empty())
    }
}
