//! Computes all members of each group, including those of groups inside it.

use std::collections::VecDeque;

use super::member_set::{MemberSet, Union};
use super::{Group, GroupIndex};
use crate::cluster::MAX_GROUP_DEPTH;

/// Why groups cannot be flattened.
#[derive(Debug, PartialEq)]
pub(crate) enum FlattenError {
    /// Groups that contain each other: the index of each, then the first again.
    Cycle(Vec<GroupIndex>),
    /// More than [`MAX_GROUP_DEPTH`] nested groups, of which this one is the outermost.
    TooDeep(GroupIndex),
    /// The memberships exceed [`MAX_STORED`] words or [`MAX_STEPS`] steps.
    TooMany,
}

/// How many words of 64 bits the members of all groups may take: 16 MiB. Sixty thousand machines in two thousand
/// nested groups stay below it.
const MAX_STORED: usize = 2 << 20;

/// How many steps merging the groups may take: a few tenths of a second.
const MAX_STEPS: usize = 64 << 20;

/// How many cycles are reported. Fixing that many calls for another check anyway.
const MAX_CYCLES: usize = 20;

/// Computes all members of each group, in a cluster with this many members.
///
/// Finding cycles and measuring depth takes time and memory in proportion to what is written, and so does the rest,
/// up to the bounds above. Nothing is recursive.
pub(crate) fn flatten(groups: &mut [Group], members: usize) -> Result<(), Vec<FlattenError>> {
    let order = match innermost_first(groups) {
        Ok(order) => order,
        Err(rest) => return Err(cycles(groups, &rest)),
    };
    let mut depths = vec![0; groups.len()];
    for &group in &order {
        let inner = groups[group].groups.iter();
        let deepest = inner.map(|inner| depths[*inner as usize]).max();
        depths[group] = 1 + deepest.unwrap_or(0);
        if depths[group] > MAX_GROUP_DEPTH {
            return Err(vec![FlattenError::TooDeep(group as GroupIndex)]);
        }
    }
    let mut union = Union::new(members);
    let (mut stored, mut steps) = (0, 0);
    for group in order {
        let this = &groups[group];
        let inner = this.groups.iter().map(|inner| &groups[*inner as usize].all);
        steps += this.direct.len() + inner.clone().map(MemberSet::words).sum::<usize>();
        if steps > MAX_STEPS {
            return Err(vec![FlattenError::TooMany]);
        }
        let all = union.of(&this.direct, inner);
        stored += all.words();
        steps += union.words();
        if stored > MAX_STORED {
            return Err(vec![FlattenError::TooMany]);
        }
        groups[group].all = all;
    }
    Ok(())
}

/// The groups in an order in which each one comes after those inside it; or, if there are cycles, which groups are
/// in a cycle or lead to one.
fn innermost_first(groups: &[Group]) -> Result<Vec<usize>, Vec<bool>> {
    let mut outer = vec![Vec::new(); groups.len()];
    for (index, group) in groups.iter().enumerate() {
        for inner in &group.groups {
            outer[*inner as usize].push(index as GroupIndex);
        }
    }
    let mut missing: Vec<usize> = groups.iter().map(|group| group.groups.len()).collect();
    let mut order: Vec<usize> = (0..groups.len())
        .filter(|group| missing[*group] == 0)
        .collect();
    let mut next = 0;
    while let Some(group) = order.get(next) {
        for group in &outer[*group] {
            let missing = &mut missing[*group as usize];
            *missing -= 1;
            if *missing == 0 {
                order.push(*group as usize);
            }
        }
        next += 1;
    }
    match order.len() == groups.len() {
        true => Ok(order),
        false => Err(missing.iter().map(|missing| *missing > 0).collect()),
    }
}

/// Some of the cycles, at least one, each as short as possible. `rest` marks the groups that are in a cycle or lead to
/// one.
fn cycles(groups: &[Group], rest: &[bool]) -> Vec<FlattenError> {
    let holds_itself = |group: &usize| groups[*group].groups.contains(&(*group as GroupIndex));
    let mut found: Vec<FlattenError> = (0..groups.len())
        .filter(|group| rest[*group] && holds_itself(group))
        .take(MAX_CYCLES)
        .map(|group| FlattenError::Cycle(vec![group as GroupIndex; 2]))
        .collect();
    // The number of the walk that visited a group.
    let mut walked = vec![0; groups.len()];
    let mut tries = 0;
    for start in 0..groups.len() {
        if !rest[start] || walked[start] != 0 {
            continue;
        }
        if found.len() == MAX_CYCLES || tries == 2 * MAX_CYCLES {
            break;
        }
        // Each of these groups contains another of them, or itself, so a walk inward ends at a group that was already
        // visited.
        let walk = start + 1;
        let mut here = start;
        while walked[here] == 0 {
            walked[here] = walk;
            let mut inner = groups[here].groups.iter().map(|inner| *inner as usize);
            let inner = inner.find(|inner| rest[*inner] && *inner != here);
            here = inner.unwrap_or(here);
        }
        // The walk has closed, or met an earlier walk: in that case its start may still be in another cycle.
        let from = if walked[here] == walk { here } else { start };
        tries += 1;
        if let Some(cycle) = shortest_cycle(groups, rest, from) {
            for group in &cycle {
                walked[*group as usize] = walk;
            }
            found.push(FlattenError::Cycle(cycle));
        }
    }
    found
}

/// The shortest path from a group back to itself, rotated to start with the group that is first by name.
fn shortest_cycle(groups: &[Group], rest: &[bool], from: usize) -> Option<Vec<GroupIndex>> {
    let mut came_from = vec![None; groups.len()];
    let mut open = VecDeque::from([from]);
    while let Some(group) = open.pop_front() {
        for inner in groups[group].groups.iter().map(|inner| *inner as usize) {
            if inner == from && group != from {
                let mut way = vec![group as GroupIndex];
                while let Some(before) = came_from[*way.last()? as usize] {
                    way.push(before);
                }
                way.reverse();
                let first = way.iter().enumerate().min_by_key(|(_, group)| **group)?.0;
                way.rotate_left(first);
                way.push(way[0]);
                return Some(way);
            }
            if rest[inner] && inner != from && came_from[inner].is_none() {
                came_from[inner] = Some(group as GroupIndex);
                open.push_back(inner);
            }
        }
    }
    None
}
