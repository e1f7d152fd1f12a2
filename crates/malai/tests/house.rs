//! Rules of the house that no compiler keeps: what each crate may touch, and how files are written.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the pure crates may depend on: nothing here does IO, tells the time or draws random numbers.
const PURE: [(&str, &[&str]); 2] = [
    (
        "malai-cluster",
        &[
            "blake3",
            "data-encoding",
            "ed25519-dalek",
            "serde",
            "strsim",
            "thiserror",
            "toml",
            "toml_edit",
        ],
    ),
    (
        "malai-wire",
        &["malai-cluster", "postcard", "serde", "thiserror"],
    ),
];

/// The one direction in which the crates look.
const DIRECTION: [(&str, &[&str]); 4] = [
    ("malai-cluster", &[]),
    ("malai-wire", &["malai-cluster"]),
    ("malai-node", &["malai-cluster", "malai-wire"]),
    ("malai", &["malai-cluster", "malai-node", "malai-wire"]),
];

/// "About five hundred lines": nobody finds a line in a longer file.
const LINES: usize = 600;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The dependencies of each crate of the workspace, those of its tests left out.
fn dependencies() -> Vec<(String, BTreeSet<String>)> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version=1"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{output:?}");
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    packages
        .iter()
        .map(|package| {
            let of_package = package["dependencies"].as_array().unwrap();
            let names = of_package
                .iter()
                .filter(|dependency| dependency["kind"].is_null())
                .map(|dependency| dependency["name"].as_str().unwrap().to_owned());
            (
                package["name"].as_str().unwrap().to_owned(),
                names.collect(),
            )
        })
        .collect()
}

#[test]
fn decisions_and_bytes_touch_nothing() {
    let dependencies = dependencies();
    for (name, allowed) in PURE {
        let (_, found) = dependencies
            .iter()
            .find(|(found, _)| found == name)
            .unwrap();
        let more: Vec<_> = found
            .iter()
            .filter(|found| !allowed.contains(&found.as_str()))
            .collect();
        assert!(more.is_empty(), "{name} is pure and depends on {more:?}");
    }
}

#[test]
fn the_crates_look_in_one_direction() {
    for (name, found) in dependencies() {
        let (_, allowed) = DIRECTION
            .iter()
            .find(|(known, _)| *known == name)
            .unwrap_or_else(|| panic!("{name} has no place in the house"));
        let own: Vec<_> = found
            .iter()
            .filter(|found| found.starts_with("malai"))
            .collect();
        assert_eq!(own, allowed.iter().collect::<Vec<_>>(), "{name}");
    }
}

/// Every Rust file of the workspace.
fn files() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join("crates")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    assert!(found.len() > 50, "{found:?}");
    found
}

#[test]
fn every_file_says_what_it_is_and_is_short_and_no_test_is_ignored() {
    let ignored = ["#[", "ignore"].concat();
    for path in files() {
        let text = fs::read_to_string(&path).unwrap();
        let shown = path.display();
        assert!(
            text.starts_with("//! "),
            "{shown} does not begin with what it is"
        );
        let lines = text.lines().count();
        assert!(lines <= LINES, "{shown} has {lines} lines");
        assert!(!text.contains(&ignored), "{shown} ignores a test");
    }
}
