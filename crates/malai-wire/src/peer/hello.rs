//! The hello: the first message of each side on a connection, on its own stream.

use malai_cluster::{Claim, Header};
use serde::{Deserialize, Serialize};

use crate::version::Versions;

/// A random number chosen when a process starts serving. Two processes with one key differ in it.
pub type InstanceId = [u8; 16];

/// The first message of each side. It does not name its sender: the handshake has proved that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The supported protocol versions.
    pub versions: Versions,
    /// Identifies the run of the program.
    pub instance: InstanceId,
    /// How long that run has been serving, in milliseconds. It lets a dialer prove that neither this run nor an
    /// earlier one received a request that got no answer.
    pub age_ms: u64,
    /// Whether this side serves requests; otherwise it only dials (a command without a daemon).
    pub serves: bool,
    /// This side's configuration. It is compared before anything is decided.
    pub header: Option<Header>,
    /// The invitation of a machine that asks its manager to join.
    pub claim: Option<Box<Claim>>,
}

/// The one message of a hello stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Greeting {
    /// The hello.
    Hello(Hello),
}

crate::tagged!(Greeting { 1 => Hello(Hello) });
