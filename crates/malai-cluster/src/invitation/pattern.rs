//! Which names an invitation is for.

use std::fmt;

use crate::address::matches;
use crate::name::MachineName;
use crate::sanitize::escape;

/// The maximum length of a pattern in characters: that of a name.
const MAX_LENGTH: usize = 63;

/// A machine's name, or a pattern of names: `*` is any characters, `?` is one.
#[derive(Clone, PartialEq, Eq)]
pub struct NamePattern(String);

/// A text that is not a pattern of names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{}\" can be no machine's name: names have a-z, 0-9 and -; in a pattern * is any characters, and ? is one", escape(.0))]
pub struct PatternError(String);

/// Why a machine gets no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoName {
    /// The invitation is for other names.
    #[error("the invitation is for {}, not for {name}: choose a name with --name", match pattern.only() {
        Some(only) => format!("the name {only}"),
        None => format!("names like {pattern}"),
    })]
    Other {
        /// The invitation's pattern.
        pattern: NamePattern,
        /// The name.
        name: MachineName,
    },
    /// Another machine has the name.
    #[error(
        "the cluster already has a machine {name}: {}",
        if *is_only { "ask its administrator for another invitation" } else { "choose another name with --name" }
    )]
    Taken {
        /// The name.
        name: MachineName,
        /// Whether the invitation is for no other.
        is_only: bool,
    },
}

impl NamePattern {
    /// Parses a name or a pattern.
    ///
    /// # Errors
    ///
    /// No machine can have such a name.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let fits = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '-' | '*' | '?');
        let is_pattern = text.contains(['*', '?']);
        let is_valid = match is_pattern {
            true => text.len() <= MAX_LENGTH && text.chars().all(fits),
            false => MachineName::parse(text).is_ok(),
        };
        match is_valid {
            true => Ok(NamePattern(text.to_owned())),
            false => Err(PatternError(text.to_owned())),
        }
    }

    /// Whether a machine may have this name.
    pub fn matches(&self, name: &MachineName) -> bool {
        matches(&self.0, name.as_str())
    }

    /// The only name that it matches.
    pub fn only(&self) -> Option<MachineName> {
        MachineName::parse(&self.0).ok()
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}
