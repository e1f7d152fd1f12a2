//! Entries of lists and of groups, and the numbers that stand for members and groups.

use std::fmt;

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
