//! What the crates may depend on, and where a permission can be created.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Crates that do IO, read the clock, or generate random numbers. (libc is not listed: some processors need it to query
/// their features.)
const IMPURE: [&str; 17] = [
    "tokio",
    "tokio-util",
    "mio",
    "iroh",
    "noq",
    "quinn",
    "rustix",
    "nix",
    "socket2",
    "hyper",
    "reqwest",
    "async-io",
    "polling",
    "rand",
    "getrandom",
    "chrono",
    "signal-hook",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// All runtime dependencies of a crate, direct or not, with the features that cargo enables.
fn dependencies(metadata: &Value, name: &str) -> BTreeSet<String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let packages = metadata["packages"].as_array().unwrap();
    let names: BTreeMap<String, String> = packages
        .iter()
        .map(|p| (text(&p["id"]), text(&p["name"])))
        .collect();
    let nodes = metadata["resolve"]["nodes"].as_array().unwrap();
    let needs: BTreeMap<String, Vec<String>> = nodes
        .iter()
        .map(|node| {
            let runs = |dep: &&Value| {
                dep["dep_kinds"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .any(|kind| kind["kind"].is_null())
            };
            let deps = node["deps"].as_array().unwrap().iter().filter(runs);
            (
                text(&node["id"]),
                deps.map(|dep| text(&dep["pkg"])).collect(),
            )
        })
        .collect();
    let start = names
        .iter()
        .find(|(_, other)| *other == name)
        .expect("the crate")
        .0;
    let (mut seen, mut left) = (BTreeSet::new(), vec![start.clone()]);
    while let Some(id) = left.pop() {
        if seen.insert(id.clone()) {
            left.extend(needs[&id].iter().cloned());
        }
    }
    seen.iter().map(|id| names[id].clone()).collect()
}

/// The build host, such as `x86_64-unknown-linux-gnu`.
fn host() -> String {
    let rustc = Command::new("rustc").arg("-vV").output().unwrap();
    let said = String::from_utf8(rustc.stdout).unwrap();
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    host.expect("the host").to_owned()
}

#[test]
fn decisions_and_bytes_do_no_io() {
    let cargo = option_env!("CARGO").unwrap_or("cargo");
    let output = Command::new(cargo)
        // Leaves out what only other systems need, which was never fetched.
        .args(["metadata", "--format-version", "1", "--offline", "--locked"])
        .args(["--filter-platform", &host()])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    for name in ["malai-cluster", "malai-wire"] {
        let found = dependencies(&metadata, name);
        assert!(found.contains("serde"), "{found:?}");
        let impure: Vec<_> = found
            .iter()
            .filter(|found| IMPURE.contains(&found.as_str()))
            .collect();
        assert!(impure.is_empty(), "{name} depends on {impure:?}");
    }
    // The same query finds an impure crate where there is one.
    assert!(dependencies(&metadata, "malai-node").contains("tokio"));
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.extension() {
            _ if path.is_dir() => sources(&path, found),
            Some(extension) if extension == "rs" => found.push(path),
            _ => {}
        }
    }
}

/// Neither `malai-cluster` nor `malai-wire` accesses the system through std.
#[test]
fn decisions_and_bytes_do_no_io_through_std_either() {
    for name in ["malai-cluster", "malai-wire"] {
        let mut files = Vec::new();
        sources(&root().join("crates").join(name).join("src"), &mut files);
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            for word in [
                "std::fs",
                "std::net",
                "std::process",
                "std::env",
                "std::thread",
                "SystemTime",
                "Instant",
                "std::io",
            ] {
                assert!(!text.contains(word), "{} has {word}", file.display());
            }
        }
    }
}

#[test]
fn only_the_gate_grants() {
    let mut files = Vec::new();
    sources(&root().join("crates"), &mut files);
    let own = Path::new(file!()).file_name().unwrap();
    let makes: Vec<_> = files
        .iter()
        .filter(|file| file.file_name() != Some(own))
        .filter(|file| {
            let text = fs::read_to_string(file).unwrap();
            // `Granted(…)` or `.map(Granted)`: the constructor in any position, not the type.
            ["Granted(", "(Granted)", "Granted {", ", Granted)"]
                .iter()
                .any(|word| text.contains(word))
        })
        .map(|file| file.strip_prefix(root()).unwrap().display().to_string())
        .collect();
    assert_eq!(makes, ["crates/malai-node/src/cluster/authorize.rs"]);
}
