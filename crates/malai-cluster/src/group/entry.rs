//! Entries of lists and groups, and the indices of members and groups.

use std::fmt;

use crate::identity::MachineId;
use crate::name::{GroupName, MachineName};

/// One entry of a list, as written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Entry {
    /// `*`: every member of the cluster.
    Everyone,
    /// A machine by its name.
    Machine(MachineName),
    /// A key by its id52. It has no effect unless it belongs to a member of the cluster.
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

/// The position of a member in the cluster: a machine's place by name, or for a manager whose key no machine has,
/// the place after all machines.
pub(crate) type Member = u32;

/// The position of a group in the cluster, by name.
pub(crate) type GroupIndex = u32;
