//! malai's decisions: identities, configuration, policy, snapshots.
//!
//! Everything here is a pure function of its arguments: no IO, no clock, no randomness.

pub mod identity;
pub mod name;
pub mod words;

pub use identity::{ClusterId, IdError, MachineId, SecretSeed, SeedError, looks_like_id52};
pub use name::{
    ClusterAlias, CommandName, GroupName, MachineName, NameError, UserName, VERBS, sanitize_host,
};
pub use words::{NotPlain, escape, escape_bytes, split_command, split_sole};
