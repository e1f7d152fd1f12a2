//! A named set of members, with the groups inside it flattened.

use std::collections::HashSet;

use crate::name::GroupName;

mod entry;
mod flatten;
mod member_set;

pub use entry::Entry;
pub(crate) use entry::{GroupIndex, Member};
pub(crate) use flatten::{FlattenError, flatten};
use member_set::MemberSet;

/// A named set of members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    name: GroupName,
    entries: Box<[Entry]>,
    /// Sorted.
    direct: Box<[Member]>,
    /// In the order of the list, each once.
    groups: Box<[GroupIndex]>,
    /// All members, including those of groups inside it.
    all: MemberSet,
}

impl Group {
    pub(crate) fn new(
        name: GroupName,
        entries: Vec<Entry>,
        mut direct: Vec<Member>,
        mut groups: Vec<GroupIndex>,
    ) -> Self {
        direct.sort_unstable();
        direct.dedup();
        let mut seen = HashSet::new();
        groups.retain(|group| seen.insert(*group));
        Group {
            name,
            entries: entries.into(),
            direct: direct.into(),
            groups: groups.into(),
            all: MemberSet::default(),
        }
    }

    /// The group's name.
    pub fn name(&self) -> &GroupName {
        &self.name
    }

    /// The members as written.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(crate) fn groups(&self) -> &[GroupIndex] {
        &self.groups
    }

    /// All members, in order.
    pub(crate) fn all(&self) -> impl Iterator<Item = Member> {
        self.all.iter()
    }

    pub(crate) fn holds(&self, member: Member) -> bool {
        self.all.holds(member)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.len() == 0
    }
}

/// The chain of groups, each inside the one before, from a list's entry to the group that names the member
/// itself. Empty if the member is not in the group.
pub(crate) fn path_to(groups: &[Group], from: GroupIndex, member: Member) -> Vec<GroupName> {
    let mut path = Vec::new();
    let mut next = Some(from).filter(|group| groups[*group as usize].holds(member));
    while let Some(index) = next {
        let group = &groups[index as usize];
        path.push(group.name.clone());
        if group.direct.binary_search(&member).is_ok() {
            break;
        }
        // The member is in this group but not listed itself, so if no other inner group contains it, the last one does.
        next = group.groups.split_last().map(|(last, others)| {
            let holds = |inner: &&GroupIndex| groups[**inner as usize].holds(member);
            *others.iter().find(holds).unwrap_or(last)
        });
    }
    path
}
