//! A connection to a service, or to what a machine reaches. Its raw bytes follow the frames on the same stream, in both directions.
//!
//! Allowed from the client: one `Open`, then raw bytes, once it has been answered with `Accepted`. Allowed from the
//! server: `Accepted` or `Refused`; after `Accepted` raw bytes. The end of a direction is the end of the stream. A
//! connection that is reset, or ended by one of the sides, is a stream that is reset and stopped with a code:
//! [`RESET`], or that of a refusal.

use serde::{Deserialize, Serialize};

use crate::refusal::Refusal;

/// The code of a stream whose connection was reset at its end.
pub const RESET: u32 = 0;

/// How much of a destination is shown, in characters: as much as the path of a Unix socket may have.
const SHOWN: usize = 108;

/// Where a connection leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Destination {
    /// A service of this machine, by its name in the configuration.
    Service(String),
    /// An address and a port, as the machine sees it: `localhost:5432`.
    Tcp(String),
    /// A Unix socket of the machine.
    Unix {
        /// Its absolute path.
        path: String,
        /// The user to open it as, if the caller names one.
        user: Option<String>,
    },
}

impl Destination {
    /// The destination as the policy sees it.
    pub fn asked(&self) -> malai_cluster::Action<'_> {
        match self {
            Destination::Service(name) => malai_cluster::Action::Service(name),
            Destination::Tcp(address) => malai_cluster::Action::Tcp(address),
            Destination::Unix { path, .. } => malai_cluster::Action::Unix(path),
        }
    }

    /// The user that the caller names.
    pub fn user(&self) -> Option<&str> {
        match self {
            Destination::Unix { user, .. } => user.as_deref(),
            Destination::Service(_) | Destination::Tcp(_) => None,
        }
    }

    /// The destination as text, safe to show and cut to a few words.
    pub fn shown(&self) -> String {
        match self {
            Destination::Service(text)
            | Destination::Tcp(text)
            | Destination::Unix { path: text, .. } => {
                malai_cluster::escape(text).chars().take(SHOWN).collect()
            }
        }
    }
}

/// A message from the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromClient {
    /// Connect to this.
    Open(Destination),
}

crate::tagged!(FromClient { 1 => Open(Destination) });

/// A message from the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromServer {
    /// The policy allows it, and the service has accepted the connection.
    Accepted,
    /// Not allowed, or the service cannot be reached.
    Refused(Refusal),
}

crate::tagged!(FromServer { 1 => Accepted, 2 => Refused(Refusal) });
