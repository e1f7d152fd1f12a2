//! What malai depends on keeps to `deny.toml`: the licenses, the banned crates, the sources. `cargo deny check bans
//! licenses sources` reads the same file and knows more; this needs nothing that is not there.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn table(name: &str) -> toml::Table {
    let text = fs::read_to_string(root().join(name)).unwrap();
    text.parse().unwrap()
}

fn strings(value: &toml::Value) -> Vec<String> {
    let values = value.as_array().unwrap().iter();
    values.map(|v| v.as_str().unwrap().to_owned()).collect()
}

/// Every package of `Cargo.lock`, for all platforms: its name, and where it is from if it is not part of malai.
fn locked() -> Vec<(String, Option<String>)> {
    let lock = table("Cargo.lock");
    let packages = lock["package"].as_array().unwrap();
    let text = |package: &toml::Value, key: &str| Some(package.get(key)?.as_str()?.to_owned());
    packages
        .iter()
        .map(|package| (text(package, "name").unwrap(), text(package, "source")))
        .collect()
}

/// The license expression of each package that is built here. Those of other platforms need not be downloaded.
fn licenses() -> BTreeMap<String, Option<String>> {
    let rustc = Command::new("rustc").arg("-vV").output().unwrap();
    let version = String::from_utf8(rustc.stdout).unwrap();
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--offline", "--locked"])
        .args(["--filter-platform", host.unwrap()])
        .current_dir(root())
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    packages
        .iter()
        .map(|package| {
            let name = package["name"].as_str().unwrap().to_owned();
            (name, package["license"].as_str().map(str::to_owned))
        })
        .collect()
}

/// Whether an SPDX expression can be met with the allowed licenses alone. `AND` binds more tightly than `OR`; the
/// `/` of old manifests means `OR`; a license `WITH` an exception grants more than without.
fn is_met(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ");
    let spaced = spaced.replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = &words[..];
    let met = any_of(&mut rest, allowed);
    assert!(rest.is_empty(), "{expression}: {rest:?} was not understood");
    met
}

fn any_of(words: &mut &[&str], allowed: &[String]) -> bool {
    let mut met = all_of(words, allowed);
    while next_is(words, "OR") {
        met |= all_of(words, allowed);
    }
    met
}

fn all_of(words: &mut &[&str], allowed: &[String]) -> bool {
    let mut met = one(words, allowed);
    while next_is(words, "AND") {
        met &= one(words, allowed);
    }
    met
}

fn one(words: &mut &[&str], allowed: &[String]) -> bool {
    let (first, rest) = words.split_first().expect("a license");
    *words = rest;
    if *first == "(" {
        let met = any_of(words, allowed);
        assert!(next_is(words, ")"), "no closing parenthesis");
        return met;
    }
    if next_is(words, "WITH") {
        *words = &words[1..];
    }
    allowed.iter().any(|license| license == first)
}

fn next_is(words: &mut &[&str], word: &str) -> bool {
    let is = words.first() == Some(&word);
    if is {
        *words = &words[1..];
    }
    is
}

#[test]
fn license_expressions_are_read() {
    let allowed = ["MIT", "Apache-2.0"].map(str::to_owned);
    for good in [
        "MIT",
        "GPL-3.0 OR MIT",
        "MIT/GPL-3.0",
        "(GPL-3.0 OR MIT) AND Apache-2.0",
        "Apache-2.0 WITH LLVM-exception OR GPL-3.0",
        "GPL-3.0 AND ISC OR MIT",
    ] {
        assert!(is_met(good, &allowed), "{good}");
    }
    for bad in ["GPL-3.0", "MIT AND GPL-3.0", "MIT AND (ISC OR GPL-3.0)"] {
        assert!(!is_met(bad, &allowed), "{bad}");
    }
}

#[test]
fn licenses_are_allowed_ones() {
    let allowed = strings(&table("deny.toml")["licenses"]["allow"]);
    let found = licenses();
    assert!(found.len() > 100, "{found:?}");
    for (name, license) in found {
        let license = license.unwrap_or_else(|| panic!("{name} names no license"));
        assert!(
            is_met(&license, &allowed),
            "{name} is under {license}, which deny.toml does not allow"
        );
    }
}

#[test]
fn every_crate_is_from_crates_io_and_none_is_banned() {
    let banned = strings(&table("deny.toml")["bans"]["deny"]);
    for (name, source) in locked() {
        assert!(!banned.contains(&name), "deny.toml bans {name}");
        match source {
            Some(source) => assert_eq!(source, CRATES_IO, "{name}"),
            None => assert!(name.starts_with("malai"), "{name} is not from crates.io"),
        }
    }
}
