//! Addresses as people type them: `web01.company`, by name or by id52; also several machines at once.

mod lookup;
mod range;
mod resolve;
mod targets;

use std::fmt;
use std::str::FromStr;

use crate::diagnostic::quoted;
use crate::identity::{ClusterId, IdError, MachineId, looks_like_id52};
use crate::name::{ClusterAlias, MachineName, NameError};

pub use lookup::unknown_cluster;
pub use range::compress_names;
pub use resolve::{ResolveError, Resolved, ResolvedMachine};
pub use targets::Targets;
pub(crate) use targets::matches;

/// One machine of one cluster: `<machine>.<cluster>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// Which machine.
    pub machine: MachineRef,
    /// Of which cluster.
    pub cluster: ClusterRef,
}

/// A machine as typed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum MachineRef {
    /// By its name in the cluster.
    Name(MachineName),
    /// By its key.
    Id(MachineId),
}

/// A cluster as typed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ClusterRef {
    /// By its alias, which is the name of its folder here.
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

/// Why a text is not a valid target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It is empty.
    #[error("the target is empty: a target is <machine>.<cluster>, as in web01.company")]
    Empty,
    /// No dot, so no cluster.
    #[error("{text} lacks its cluster: a target is <machine>.<cluster>, as in web01.company")]
    NoDot {
        /// The text, escaped.
        text: String,
    },
    /// More than one dot.
    #[error("{text} has too many dots: a target is <machine>.<cluster>, as in web01.company")]
    Dots {
        /// The text, escaped.
        text: String,
    },
    /// A group, a pattern or a list, where a single machine is required.
    #[error("{text} may match several machines: name one machine here, as in web01.company")]
    Several {
        /// The text, escaped.
        text: String,
    },
    /// An empty entry between two commas.
    #[error("{text} has an empty entry: separate targets with a single comma")]
    EmptyPart {
        /// The text, escaped.
        text: String,
    },
    /// Only exclusions.
    #[error(
        "{text} only excludes machines: first say which machines to select, as in '@web.company,!web03.company'"
    )]
    OnlyExcluded {
        /// The text, escaped.
        text: String,
    },
    /// A pattern for the name of a cluster.
    #[error(
        "{text} has a pattern for its cluster: only machine names may be patterns; list a target for each cluster, separated by commas"
    )]
    PatternOfClusters {
        /// The text, escaped.
        text: String,
    },
    /// A pattern that cannot match any name.
    #[error(
        "{text} is not a valid pattern: it contains \"{bad}\"; use only a-z, 0-9, \"-\", \"*\" and \"?\""
    )]
    PatternCharacter {
        /// The text, escaped.
        text: String,
        /// The invalid character, escaped.
        bad: String,
    },
    /// Invalid brackets.
    #[error(
        "{text} has invalid brackets: write numbers and letters as in web[01-20,25] and db[a-c]"
    )]
    Range {
        /// The text, escaped.
        text: String,
    },
    /// Brackets that expand to more machines than any cluster has.
    #[error("{text} expands to more machines than a list may have")]
    RangeTooLong {
        /// The text, escaped.
        text: String,
    },
    /// The name of the machine or the cluster is not valid.
    #[error(transparent)]
    Name(NameError),
    /// It looks like an id52 but is not valid.
    #[error(transparent)]
    Id(IdError),
}

#[cfg(test)]
mod tests;
