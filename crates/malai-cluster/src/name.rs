//! The names of clusters, machines, groups, commands and users, as types that are valid by construction.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::identity::looks_like_id52;
use crate::sanitize::escape;

/// malai's own commands. None of them can be an alias in `[aliases]`.
pub const VERBS: &[&str] = &[
    "cluster",
    "machine",
    "join",
    "daemon",
    "stop",
    "status",
    "rescan",
    "exec",
    "shell",
    "why",
    "sessions",
    "audit",
    "logs",
    "doctor",
    "demo",
    "reaper",
    "completions",
    "man",
    "ssh",
    "sftp-server",
    "cp",
    "cp-server",
    "forward",
    "browse",
    "whois",
    "ping",
    "help",
    "list",
    "restart",
    "id",
    "version",
    "relay",
];

/// Declares a name type: validated text. It is shared (`Arc`), because every decision names the groups and the user
/// that it depends on.
macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $check:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Validates the text.
            ///
            /// # Errors
            ///
            /// A [`NameError`] that says what is wrong with it.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                match $check(text) {
                    Ok(()) => Ok($name(text.into())),
                    Err(problem) => Err(NameError::new($kind, text, problem)),
                }
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::parse(text)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

name_type!(
    /// The local name of a cluster and of its folder: a DNS label.
    ClusterAlias,
    "cluster alias",
    check_label
);
name_type!(
    /// The name of a machine within its cluster: a DNS label.
    MachineName,
    "machine name",
    check_label
);
name_type!(
    /// The name of a group within its cluster: a DNS label.
    GroupName,
    "group name",
    check_label
);
name_type!(
    /// The name of a service within its cluster: a DNS label.
    ServiceName,
    "service name",
    check_label
);
name_type!(
    /// The name of a folder within its cluster: a DNS label.
    FolderName,
    "folder name",
    check_label
);
name_type!(
    /// The name of a command entry: `[A-Za-z0-9][A-Za-z0-9._+-]*`.
    CommandName,
    "command name",
    check_command
);
name_type!(
    /// A local user name, as useradd(8) accepts it: `[a-z_][a-z0-9_.-]*$?`, at most 32 characters.
    UserName,
    "user name",
    check_user
);

/// Suggests a machine name from this computer's host name.
///
/// Takes the first label in lowercase, with `-` for characters that a name cannot contain; `machine` if nothing is
/// left.
pub fn sanitize_host(host: &str) -> MachineName {
    let first = host.split('.').next().unwrap_or_default();
    let label: String = first
        .chars()
        .map(|character| match character.to_ascii_lowercase() {
            kept @ ('a'..='z' | '0'..='9') => kept,
            _ => '-',
        })
        .take(LABEL_LENGTH)
        .collect();
    MachineName::parse(label.trim_matches('-')).unwrap_or_else(|_| MachineName("machine".into()))
}

/// The maximum length of a DNS label (RFC 1035 §2.3.4).
const LABEL_LENGTH: usize = 63;

fn check_label(text: &str) -> Result<(), Problem> {
    if text.is_empty() {
        return Err(Problem::Empty);
    }
    if let Some(bad) = text
        .chars()
        .find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '-'))
    {
        return Err(Problem::LabelCharacter(bad));
    }
    if text.starts_with('-') || text.ends_with('-') {
        return Err(Problem::Dash);
    }
    if text.len() > LABEL_LENGTH {
        return Err(Problem::TooLong {
            found: text.len(),
            most: LABEL_LENGTH,
        });
    }
    if looks_like_id52(text) {
        return Err(Problem::LooksLikeId);
    }
    Ok(())
}

fn check_command(text: &str) -> Result<(), Problem> {
    let mut characters = text.chars();
    match characters.next() {
        None => return Err(Problem::Empty),
        Some('A'..='Z' | 'a'..='z' | '0'..='9') => {}
        Some(first) => return Err(Problem::CommandStart(first)),
    }
    if let Some(bad) =
        characters.find(|c| !matches!(c, 'A'..='Z' | 'a'..='z' | '0'..='9' | '.' | '_' | '+' | '-'))
    {
        return Err(Problem::CommandCharacter(bad));
    }
    // The name is in every refusal, log line and audit record about the command. 255 is the longest file name on Linux.
    const MOST: usize = 255;
    if text.len() > MOST {
        return Err(Problem::TooLong {
            found: text.len(),
            most: MOST,
        });
    }
    Ok(())
}

fn check_user(text: &str) -> Result<(), Problem> {
    const MOST: usize = 32;
    let stem = text.strip_suffix('$').unwrap_or(text);
    let mut characters = stem.chars();
    match characters.next() {
        None => return Err(Problem::Empty),
        Some('a'..='z' | '_') => {}
        // This also rules out a bare number, which some tools would take for a user id.
        Some(first) => return Err(Problem::UserStart(first)),
    }
    if let Some(bad) = characters.find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '_' | '.' | '-')) {
        return Err(Problem::UserCharacter(bad));
    }
    if text.len() > MOST {
        return Err(Problem::TooLong {
            found: text.len(),
            most: MOST,
        });
    }
    Ok(())
}

/// Why a text is not a valid name. Safe to show: the text in it is escaped and cut.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{value}\" cannot be a {kind}: {problem}")]
pub struct NameError {
    kind: &'static str,
    value: String,
    problem: Problem,
}

impl NameError {
    fn new(kind: &'static str, text: &str, problem: Problem) -> Self {
        const SHOWN: usize = 80;
        let mut value: String = escape(text).chars().take(SHOWN).collect();
        if text.chars().nth(SHOWN).is_some() {
            value.push('…');
        }
        NameError {
            kind,
            value,
            problem,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Problem {
    #[error("it is empty")]
    Empty,
    #[error("it contains \"{}\"; use only a-z, 0-9 and \"-\"", escape(&.0.to_string()))]
    LabelCharacter(char),
    #[error("it may not start or end with \"-\"")]
    Dash,
    #[error("it has {found} characters, the maximum is {most}")]
    TooLong { found: usize, most: usize },
    #[error("it could be mistaken for an id52")]
    LooksLikeId,
    #[error("it must start with a letter or a digit, not \"{}\"", escape(&.0.to_string()))]
    CommandStart(char),
    #[error(
        "it contains \"{}\"; use only letters, digits and \"._+-\"",
        escape(&.0.to_string())
    )]
    CommandCharacter(char),
    #[error("it must start with a-z or \"_\", not \"{}\"", escape(&.0.to_string()))]
    UserStart(char),
    #[error("it contains \"{}\"; use only a-z, 0-9 and \"_.-\"", escape(&.0.to_string()))]
    UserCharacter(char),
}

#[cfg(test)]
mod tests;
