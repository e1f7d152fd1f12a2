//! A named set of members, with the groups inside it flattened.

use crate::name::GroupName;

mod entry;

pub use entry::Entry;
pub(crate) use entry::{GroupIndex, Member};

/// A named set of members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    name: GroupName,
    entries: Box<[Entry]>,
    /// Sorted.
    direct: Box<[Member]>,
    /// In the order of the list.
    groups: Box<[GroupIndex]>,
    /// Everybody in it, through whatever groups; sorted.
    all: Box<[Member]>,
}

impl Group {
    pub(crate) fn new(
        name: GroupName,
        entries: Vec<Entry>,
        mut direct: Vec<Member>,
        groups: Vec<GroupIndex>,
    ) -> Self {
        direct.sort_unstable();
        direct.dedup();
        Group {
            name,
            entries: entries.into(),
            direct: direct.into(),
            groups: groups.into(),
            all: Box::default(),
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

    pub(crate) fn all(&self) -> &[Member] {
        &self.all
    }

    pub(crate) fn holds(&self, member: Member) -> bool {
        self.all.binary_search(&member).is_ok()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

/// A chain of groups, each within the one before, from a list's entry to the group that names
/// the member itself. Empty if the member is not in the group.
pub(crate) fn path_to(groups: &[Group], from: GroupIndex, member: Member) -> Vec<GroupName> {
    let mut path = Vec::new();
    let mut next = Some(from).filter(|group| groups[*group as usize].holds(member));
    while let Some(index) = next {
        let group = &groups[index as usize];
        path.push(group.name.clone());
        if group.direct.binary_search(&member).is_ok() {
            break;
        }
        // The member is in here and not by itself, so if no other inner group holds it the last does.
        next = group.groups.split_last().map(|(last, others)| {
            let holds = |inner: &&GroupIndex| groups[**inner as usize].holds(member);
            *others.iter().find(holds).unwrap_or(last)
        });
    }
    path
}

/// What flattening can fail with.
pub(crate) enum FlattenError {
    /// Groups that contain each other: each one's index, then the first again.
    Cycle(Vec<GroupIndex>),
    /// More memberships than [`MOST_MEMBERSHIPS`] in all.
    TooMany,
}

/// How many memberships flattening may go through. Ten thousand machines in five hundred groups
/// within each other stay below it; what a hostile file of 16 MiB could ask for does not.
const MOST_MEMBERSHIPS: usize = 8_000_000;

/// Fills in everybody who is in each group, through the groups inside it.
///
/// Finds every circle, each as the way round it. Needs no more stack for deep nesting.
pub(crate) fn flatten(groups: &mut [Group]) -> Vec<FlattenError> {
    let mut problems = Vec::new();
    let mut state = vec![State::New; groups.len()];
    let mut work = 0;
    for root in 0..groups.len() {
        if state[root] != State::New {
            continue;
        }
        state[root] = State::Open;
        let mut open = vec![(root, 0)];
        while let Some((group, next)) = open.last_mut() {
            let group = *group;
            if let Some(inner) = groups[group].groups.get(*next) {
                *next += 1;
                let inner = *inner as usize;
                match state[inner] {
                    State::Done => {}
                    State::New => {
                        state[inner] = State::Open;
                        open.push((inner, 0));
                    }
                    State::Open => {
                        let start = open.iter().position(|(group, _)| *group == inner);
                        let way = open[start.unwrap_or(0)..].iter().map(|(group, _)| *group);
                        let circle = way.chain([inner]).map(|group| group as GroupIndex);
                        problems.push(FlattenError::Cycle(circle.collect()));
                    }
                }
            } else {
                open.pop();
                state[group] = State::Done;
                let inner = groups[group].groups.iter();
                let sizes = inner.map(|inner| groups[*inner as usize].all.len());
                work += groups[group].direct.len() + sizes.sum::<usize>();
                if work > MOST_MEMBERSHIPS {
                    problems.push(FlattenError::TooMany);
                    return problems;
                }
                groups[group].all = union(groups, group);
            }
        }
    }
    problems
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    New,
    Open,
    Done,
}

fn union(groups: &[Group], group: usize) -> Box<[Member]> {
    let mut all = groups[group].direct.to_vec();
    for inner in &groups[group].groups {
        all.extend_from_slice(&groups[*inner as usize].all);
    }
    all.sort_unstable();
    all.dedup();
    all.into()
}
