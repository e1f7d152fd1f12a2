//! Rules that no compiler keeps: the direction in which crates and modules import each other, how files are
//! written, and that DESIGN.md names only what is there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Which crates each crate may depend on.
const DIRECTION: [(&str, &[&str]); 4] = [
    ("malai-cluster", &[]),
    ("malai-wire", &["malai-cluster"]),
    ("malai-node", &["malai-cluster", "malai-wire"]),
    ("malai", &["malai-cluster", "malai-node", "malai-wire"]),
];

/// "About five hundred lines": longer files are hard to find one's way in.
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

/// A page that names a file which is gone leads newcomers astray.
#[test]
fn what_the_design_page_names_is_there() {
    let files: Vec<String> = files()
        .iter()
        .map(|path| path.to_string_lossy().into_owned())
        .collect();
    let page = fs::read_to_string(root().join("DESIGN.md")).unwrap();
    let named: Vec<_> = page
        .split('`')
        .filter(|word| word.ends_with(".rs") && !word.contains(char::is_whitespace))
        .collect();
    assert!(named.len() > 50, "{named:?}");
    for name in named {
        let end = format!("/{name}");
        assert!(
            files.iter().any(|file| file.ends_with(&end)),
            "DESIGN.md names {name}, which is not there"
        );
    }
}

/// The Markdown pages, from the workspace's root.
fn pages() -> Vec<PathBuf> {
    let folders = ["", "docs", "bench"];
    let entries = folders.iter().flat_map(|folder| {
        let folder = root().join(folder);
        fs::read_dir(folder).unwrap()
    });
    let paths = entries.map(|entry| entry.unwrap().path());
    let pages = paths.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    pages.collect()
}

/// The anchor that a heading of a page gets where pages are shown: lower case, words joined by `-`.
fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || [' ', '-', '_'].contains(c);
    let plain: String = heading.to_lowercase().chars().filter(kept).collect();
    plain.trim().replace(' ', "-")
}

#[test]
fn links_of_the_pages_lead_somewhere() {
    let mut seen = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split(')').next().unwrap();
            if target.contains("://") {
                continue;
            }
            seen += 1;
            let shown = format!("{} links {target}", page.display());
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let file = match file {
                "" => page.clone(),
                file => page.parent().unwrap().join(file),
            };
            assert!(file.exists(), "{shown}, which is not there");
            if !heading.is_empty() {
                let text = fs::read_to_string(&file).unwrap();
                let headings = text.lines().filter(|line| line.starts_with('#'));
                let found = headings
                    .map(|line| anchor(line.trim_start_matches('#')))
                    .any(|found| found == heading);
                assert!(found, "{shown}, a heading which is not there");
            }
        }
    }
    assert!(seen > 30, "{seen}");
}
