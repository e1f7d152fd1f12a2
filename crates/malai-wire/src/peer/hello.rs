//! The hello: each side's first words on a connection, on a stream of their own.

use malai_cluster::Header;
use serde::{Deserialize, Serialize};

use crate::version::Versions;

/// A number drawn at random when a process starts serving. Two processes with one key differ in it.
pub type InstanceId = [u8; 16];

/// What each side says first. Nothing in it says who the sender is: the handshake has proved that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The protocol versions spoken.
    pub versions: Versions,
    /// Which run of the program this is.
    pub instance: InstanceId,
    /// How long that run has served, in milliseconds. With it a dialer can prove that a request
    /// which got no answer was never received by this run, nor by the one before.
    pub age_ms: u64,
    /// Whether requests are served, or this side only dials (a command without a daemon).
    pub serves: bool,
    /// The configuration that this side has, to be compared before anything is decided.
    pub header: Option<Header>,
}

/// The one message of a hello stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Greeting {
    /// The hello.
    Hello(Hello),
}

crate::tagged!(Greeting { 1 => Hello(Hello) });
