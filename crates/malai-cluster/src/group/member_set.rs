//! The members of a group: a sorted list, or a bitmap of the cluster if that is smaller.

use super::Member;

/// A set of members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum MemberSet {
    /// Sorted.
    Few(Box<[Member]>),
    /// A bit for each member of the cluster, and the number of bits set.
    Many(Box<[u64]>, usize),
}

impl Default for MemberSet {
    fn default() -> Self {
        MemberSet::Few(Box::default())
    }
}

/// The number of bits per word.
const WORD: usize = u64::BITS as usize;

impl MemberSet {
    pub(super) fn holds(&self, member: Member) -> bool {
        match self {
            MemberSet::Few(members) => members.binary_search(&member).is_ok(),
            MemberSet::Many(bits, _) => {
                let word = bits.get(member as usize / WORD);
                word.is_some_and(|word| word >> (member as usize % WORD) & 1 == 1)
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            MemberSet::Few(members) => members.len(),
            MemberSet::Many(_, count) => *count,
        }
    }

    /// In ascending order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Member> {
        let (few, many) = match self {
            MemberSet::Few(members) => (&**members, &[][..]),
            MemberSet::Many(bits, _) => (&[][..], &**bits),
        };
        few.iter().copied().chain(members_of(many))
    }

    /// The number of 64-bit words it takes, which is also the number of steps to add it to another set.
    pub(super) fn words(&self) -> usize {
        match self {
            MemberSet::Few(members) => members.len(),
            MemberSet::Many(bits, _) => bits.len(),
        }
    }
}

fn members_of(bits: &[u64]) -> impl Iterator<Item = Member> {
    bits.iter().enumerate().flat_map(|(index, word)| {
        let mut rest = *word;
        std::iter::from_fn(move || {
            let bit = (rest != 0).then(|| rest.trailing_zeros())?;
            rest &= rest - 1;
            Some((index * WORD) as Member + bit)
        })
    })
}

/// Merges sets.
pub(super) struct Union {
    /// A bit for each member of the cluster; all are clear between two merges.
    bits: Vec<u64>,
    few: Vec<Member>,
}

impl Union {
    /// For a cluster with this many members.
    pub(super) fn new(members: usize) -> Self {
        Union {
            bits: vec![0; members.div_ceil(WORD)],
            few: Vec::new(),
        }
    }

    /// The number of words of a bitmap.
    pub(super) fn words(&self) -> usize {
        self.bits.len()
    }

    /// The union of `direct`, which is sorted, and the other sets.
    pub(super) fn of<'s>(
        &mut self,
        direct: &[Member],
        others: impl Iterator<Item = &'s MemberSet> + Clone,
    ) -> MemberSet {
        let few = direct.len() + others.clone().map(MemberSet::len).sum::<usize>();
        if few <= self.bits.len() {
            self.few.clear();
            self.few.extend_from_slice(direct);
            self.few.extend(others.flat_map(MemberSet::iter));
            self.few.sort_unstable();
            self.few.dedup();
            return MemberSet::Few(self.few.as_slice().into());
        }
        let mut set =
            |member: Member| self.bits[member as usize / WORD] |= 1 << (member as usize % WORD);
        direct.iter().copied().for_each(&mut set);
        for other in others {
            match other {
                MemberSet::Few(members) => {
                    for member in members {
                        self.bits[*member as usize / WORD] |= 1 << (*member as usize % WORD);
                    }
                }
                MemberSet::Many(bits, _) => {
                    for (into, from) in self.bits.iter_mut().zip(bits) {
                        *into |= from;
                    }
                }
            }
        }
        let count = self
            .bits
            .iter()
            .map(|word| word.count_ones() as usize)
            .sum();
        // A list needs half a word per member.
        let all = match count <= 2 * self.bits.len() {
            true => MemberSet::Few(members_of(&self.bits).collect()),
            false => MemberSet::Many(self.bits.as_slice().into(), count),
        };
        self.bits.fill(0);
        all
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn members() -> impl Strategy<Value = BTreeSet<Member>> {
        prop_oneof![
            prop::collection::btree_set(0u32..1_000, 0..5),
            prop::collection::btree_set(0u32..1_000, 0..500),
        ]
    }

    proptest! {
        #[test]
        fn a_union_holds_what_its_sets_hold(sets in prop::collection::vec(members(), 1..5), direct in members()) {
            let mut union = Union::new(1_000);
            let direct: Vec<Member> = direct.into_iter().collect();
            let parts: Vec<MemberSet> = sets
                .iter()
                .map(|set| union.of(&set.iter().copied().collect::<Vec<_>>(), [].iter()))
                .collect();
            let whole = union.of(&direct, parts.iter());
            let expected: BTreeSet<Member> = sets.iter().flatten().copied().chain(direct).collect();
            prop_assert_eq!(whole.len(), expected.len());
            prop_assert!(whole.iter().eq(expected.iter().copied()));
            for member in 0..1_000 {
                prop_assert_eq!(whole.holds(member), expected.contains(&member));
            }
            prop_assert!(whole.words() <= 2 * union.words());
        }
    }
}
