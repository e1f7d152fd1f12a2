//! Keys and files that the tests share.

/// Real keys, of seeds that repeat one byte: 1 the manager, 2 web01, 3 laptop, 4 a stranger.
pub(crate) const MANAGER: &str = "";
pub(crate) const WEB01: &str = "";
pub(crate) const LAPTOP: &str = "";
pub(crate) const STRANGER: &str = "";

use crate::{Cluster, MachineId, SecretSeed, check};

#[test]
fn print() {
    for b in 1..=4u8 {
        println!("{}", SecretSeed::from_bytes([b; 32]).id());
    }
}
