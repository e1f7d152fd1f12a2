//! Any text as a snapshot file, and damage to a valid one: never a panic, never accepted.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use malai_cluster::{ClusterId, SecretSeed, Snapshot, check, initial_document};

static SOUND: LazyLock<(ClusterId, String)> = LazyLock::new(|| {
    let seed = SecretSeed::from_bytes([7; 32]);
    let document = initial_document(&seed.id(), "fuzz");
    let cluster = check("cluster.toml", &document).cluster;
    let cluster = cluster.unwrap_or_else(|| unreachable!("the initial document checks"));
    (ClusterId::new(seed.id()), Snapshot::seal(&seed, 42, &cluster).to_file())
});

fuzz_target!(|input: (u16, &[u8])| {
    let (position, damage) = input;
    let (cluster, sound) = &*SOUND;
    if let Ok(text) = std::str::from_utf8(damage) {
        assert!(text == sound || Snapshot::from_file(cluster, text).is_err());
    }
    let mut bytes = sound.clone().into_bytes();
    let start = usize::from(position) % bytes.len();
    let end = (start + damage.len()).min(bytes.len());
    bytes.splice(start..end, damage.iter().copied());
    if let Ok(text) = std::str::from_utf8(&bytes) {
        // The comment line may be written in other ways that mean the same; the content may not.
        if let Ok(snapshot) = Snapshot::from_file(cluster, text) {
            assert_eq!((snapshot.revision(), snapshot.to_file()), (42, sound.clone()));
        }
    }
});
