//! Addresses as people write them: `web01.company`, by name or by id52; and several machines at once.

mod lookup;
mod range;
mod resolve;
mod targets;

use std::fmt;
use std::str::FromStr;

use crate::diagnostic::quoted;
use crate::identity::{ClusterId, IdError, MachineId, looks_like_id52};
use crate::name::{ClusterAlias, MachineName, NameError};

pub use lookup::{resolve_target, unknown_cluster};
pub use range::compress_names;
pub use resolve::{ResolveError, Resolved, ResolvedMachine};
pub use targets::Targets;

/// One machine of one cluster: `<machine>.<cluster>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// Which machine.
    pub machine: MachineRef,
    /// Of which cluster.
    pub cluster: ClusterRef,
}

/// A machine as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum MachineRef {
    /// By its name in the cluster.
    Name(MachineName),
    /// By its key.
    Id(MachineId),
}

/// A cluster as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ClusterRef {
    /// By the name of its folder here.
    Alias(ClusterAlias),
    /// By its manager's key.
    Id(ClusterId),
}

impl Target {
    /// Reads `<machine>.<cluster>`.
    ///
    /// # Errors
    ///
    /// An [`AddressError`] that says what is wrong and what a target looks like.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if text.is_empty() {
            return Err(AddressError::Empty);
        }
        if text.starts_with('@') || text.contains([',', '*', '?', '[', '!']) {
            return Err(AddressError::Several { text: quoted(text) });
        }
        let Some((machine, cluster)) = text.split_once('.') else {
            return Err(AddressError::NoDot { text: quoted(text) });
        };
        if cluster.contains('.') {
            return Err(AddressError::Dots { text: quoted(text) });
        }
        Ok(Target {
            machine: machine.parse()?,
            cluster: cluster.parse()?,
        })
    }
}

impl FromStr for Target {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::parse(text)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.machine, self.cluster)
    }
}

impl FromStr for MachineRef {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if looks_like_id52(text) {
            let id = MachineId::parse(text).map_err(AddressError::Id)?;
            Ok(MachineRef::Id(id))
        } else {
            let name = MachineName::parse(text).map_err(AddressError::Name)?;
            Ok(MachineRef::Name(name))
        }
    }
}

impl fmt::Display for MachineRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MachineRef::Name(name) => name.fmt(f),
            MachineRef::Id(id) => id.fmt(f),
        }
    }
}

impl FromStr for ClusterRef {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if looks_like_id52(text) {
            let id = ClusterId::parse(text).map_err(AddressError::Id)?;
            Ok(ClusterRef::Id(id))
        } else {
            let alias = ClusterAlias::parse(text).map_err(AddressError::Name)?;
            Ok(ClusterRef::Alias(alias))
        }
    }
}

impl fmt::Display for ClusterRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClusterRef::Alias(alias) => alias.fmt(f),
            ClusterRef::Id(id) => id.fmt(f),
        }
    }
}

/// Why a text is no target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Nothing was written.
    #[error("the target is empty: a target is <machine>.<cluster>, as in web01.company")]
    Empty,
    /// No dot, so no cluster.
    #[error("{text} has no cluster: a target is <machine>.<cluster>, as in web01.company")]
    NoDot {
        /// What was written, escaped.
        text: String,
    },
    /// More than one dot.
    #[error("{text} has too many dots: a target is <machine>.<cluster>, as in web01.company")]
    Dots {
        /// What was written, escaped.
        text: String,
    },
    /// A group, a pattern or a list, where one machine is asked for.
    #[error("{text} may mean several machines: one is asked for here, as in web01.company")]
    Several {
        /// What was written, escaped.
        text: String,
    },
    /// Nothing between two commas.
    #[error("{text} has an empty part: targets are written with one comma between them")]
    EmptyPart {
        /// What was written, escaped.
        text: String,
    },
    /// Only what is to be left out.
    #[error(
        "{text} only says what is left out: write first what it is left out of, as in '@web.company,!web03.company'"
    )]
    OnlyExcluded {
        /// What was written, escaped.
        text: String,
    },
    /// A pattern in the place of a cluster.
    #[error(
        "{text} has a pattern for its cluster: only machines can be written so; write a target for each cluster, with commas between them"
    )]
    PatternOfClusters {
        /// What was written, escaped.
        text: String,
    },
    /// A pattern that no name can be like.
    #[error(
        "{text} cannot be a pattern: only a-z, 0-9, \"-\", \"*\" and \"?\" may be in it, not \"{bad}\""
    )]
    PatternCharacter {
        /// What was written, escaped.
        text: String,
        /// What may not be in it, escaped.
        bad: String,
    },
    /// Brackets that are not in order.
    #[error(
        "{text} has brackets that cannot be read: numbers and letters are written as in web[01-20,25] and db[a-c]"
    )]
    Range {
        /// What was written, escaped.
        text: String,
    },
    /// Brackets that mean more than any cluster has.
    #[error("{text} means more machines than a list may have")]
    RangeTooLong {
        /// What was written, escaped.
        text: String,
    },
    /// The machine's or the cluster's name cannot be one.
    #[error(transparent)]
    Name(NameError),
    /// What has the shape of an id52 is none.
    #[error(transparent)]
    Id(IdError),
}

#[cfg(test)]
mod tests;
