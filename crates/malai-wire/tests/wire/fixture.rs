//! One real snapshot to speak of, from the first test vector, so that every byte of it can be made again.

use malai_cluster::{Header, SecretSeed, Snapshot, check};

/// The seed of the first test vector. Never a key of anything.
pub const SEED: &str = "100d7e23f222267ba0be43855a262461b8a7718572edf58c56db912156d2bc25";

/// The revision of [`snapshot`].
pub const REVISION: u64 = 1_700_000_000;

pub fn seed() -> SecretSeed {
    SecretSeed::parse_file(SEED).unwrap()
}

/// A cluster of its manager and one machine, which has the second test vector's key.
pub fn snapshot() -> Snapshot {
    let text = format!(
        r#"
[cluster_manager]
id52 = "{}"
cluster_name = "company"

[machine.web01]
id52 = "e87aeds2fajaeu10tjdio5ppcdha410n6tu4665u7el9as9b7v80"
allow_from = "*"
"#,
        seed().id()
    );
    let checked = check("cluster.toml", &text);
    let cluster = checked
        .cluster
        .unwrap_or_else(|| panic!("{:?}", checked.diagnostics));
    Snapshot::seal(&seed(), REVISION, &cluster)
}

pub fn header() -> Header {
    snapshot().header().clone()
}
