//! `malai doctor`: each thing that can be wrong is found, with the command that fixes it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use expect_test::expect;
use serde_json::Value;

use crate::world::World;

/// What was found about this.
fn found(world: &World, check: &str) -> Vec<Value> {
    let output = world.output(&["doctor", "--json"]);
    let diagnosis: Value = serde_json::from_slice(&output.stdout).unwrap();
    let code = output.status.code();
    assert_eq!(
        code,
        Some(if diagnosis["ok"] == true { 0 } else { 1 }),
        "{diagnosis:#}"
    );
    let findings = diagnosis["findings"].as_array().unwrap().clone();
    for finding in &findings {
        let state = finding["state"].as_str().unwrap();
        if matches!(state, "warning" | "error") {
            assert!(finding["remedy"].is_string(), "no remedy: {finding:#}");
        }
    }
    findings
        .into_iter()
        .filter(|finding| finding["check"] == check)
        .collect()
}

/// Asserts that this is found, and returns its remedy.
#[track_caller]
fn remedy(world: &World, check: &str, state: &str, words: &str) -> String {
    let all = found(world, check);
    let finding = all.iter().find(|finding| {
        finding["state"] == state && finding["what"].as_str().unwrap().contains(words)
    });
    let finding = finding.unwrap_or_else(|| panic!("no {state} {words:?} in {all:#?}"));
    finding["remedy"].as_str().unwrap_or_default().to_owned()
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_home_that_was_never_used_has_nothing_wrong() {
    let world = World::new();
    expect![[r#"
        exit code: 0
        ----- stdout -----
        🩺 malai doctor: [HOME]
        💡 home: there is no [HOME] yet
           why: this computer is in no cluster
           do:  malai cluster init <alias>   # or: malai machine init <manager-id52> <alias>

        no problems
    "#]]
    .assert_eq(&world.picture(&["doctor"]));
    assert!(!world.home().exists(), "looking makes nothing");
}

#[test]
fn modes_and_keys() {
    let world = World::new();
    world.succeed(&["cluster", "init", "company"]);
    let key = world.cluster_file("company/cluster.private-key");
    assert_eq!(found(&world, "keys")[0]["state"], "fine");

    mode(&key, 0o644);
    let remedy_of_key = remedy(&world, "keys", "error", "0644");
    assert_eq!(remedy_of_key, format!("chmod 600 {}", key.display()));
    mode(&key, 0o600);
    fs::rename(&key, world.home().join("aside")).unwrap();
    remedy(&world, "keys", "error", "is missing");
    fs::rename(world.home().join("aside"), &key).unwrap();

    mode(&world.home(), 0o755);
    let chmod = remedy(&world, "home", "warning", "0755");
    assert_eq!(chmod, format!("chmod 700 {}", world.home().display()));
}

#[test]
fn the_daemon_and_what_a_dead_one_left() {
    let world = World::new();
    world.succeed(&["cluster", "init", "company"]);
    assert_eq!(
        remedy(&world, "daemon", "warning", "none is running"),
        "malai daemon"
    );
    fs::write(world.home().join("malai.socket"), "").unwrap();
    remedy(&world, "daemon", "warning", "has died and left");

    // A daemon that holds its home and never answers.
    let home = malai_node::Home::at(world.home());
    fs::remove_file(world.home().join("malai.socket")).unwrap();
    let _silent = std::os::unix::net::UnixListener::bind(home.socket()).unwrap();
    let _lock = malai_node::HomeLock::acquire(&home).unwrap();
    let kill = remedy(&world, "daemon", "error", "does not respond");
    assert!(
        kill.starts_with(&format!("kill {}", std::process::id())),
        "{kill}"
    );
}

#[test]
fn configuration_record_and_clock() {
    let world = World::new();
    world.succeed(&["cluster", "init", "company"]);
    fs::write(world.home().join("malai.toml"), "netwrok = 1\n").unwrap();
    remedy(&world, "configuration", "error", "did you mean network?");
    fs::remove_file(world.home().join("malai.toml")).unwrap();
    fs::write(world.cluster_file("company/cluster.toml"), "[broken").unwrap();
    let check = remedy(&world, "configuration", "error", "cluster.toml:1");
    assert_eq!(check, "malai rescan --check company");

    let hostile = "ev\u{1b}[2Jil $(touch x)";
    fs::create_dir(world.cluster_file(hostile)).unwrap();
    let away = remedy(&world, "configuration", "warning", "ev\\x1b");
    let stray = "/clusters/ev\\x1b[2Jil $(touch x)' ";
    assert!(away.starts_with("mv $'") && away.contains(stray), "{away}");
    fs::remove_dir(world.cluster_file(hostile)).unwrap();

    fs::create_dir(world.home().join("audit.jsonl")).unwrap();
    remedy(&world, "audit", "warning", "cannot be written");
    fs::write(world.home().join("malai.toml"), "audit = \"required\"\n").unwrap();
    remedy(&world, "audit", "error", "cannot be written");

    let future = std::time::SystemTime::now() + std::time::Duration::from_secs(86_400);
    let file = fs::File::options()
        .append(true)
        .open(world.home().join("malai.toml"))
        .unwrap();
    file.set_modified(future).unwrap();
    remedy(&world, "clock", "warning", "is from the future");
}

/// In a diagnosis, in status, and in the log of a daemon that cannot write its record.
#[test]
fn system_errors_are_told_without_their_numbers() {
    let world = World::new();
    world.succeed(&["cluster", "init", "company"]);
    let home = world.home();
    fs::create_dir(home.join("audit.jsonl")).unwrap();
    world.start();
    let log = fs::read_to_string(home.join("malai.log")).unwrap();
    std::os::unix::fs::symlink("malai.toml", home.join("malai.toml")).unwrap();
    let printed = |args: &[&str]| String::from_utf8(world.output(args).stdout).unwrap();
    for text in [
        log,
        printed(&["status"]),
        printed(&["status", "--json"]),
        printed(&["doctor"]),
        printed(&["doctor", "--json"]),
    ] {
        let named = ["levels of symbolic links", "Is a directory"];
        assert!(named.iter().any(|name| text.contains(name)), "{text}");
        assert!(!text.contains("os error"), "{text}");
    }
}

#[test]
fn a_machine_that_waits_and_a_manager_that_is_not_there() {
    let world = World::new();
    let id = "i66fo538lfl5ombdf6tcdbrabp4hmp9asv7nrffuc2im13ct4q60";
    world.succeed(&["machine", "init", id, "work"]);
    let add = remedy(
        &world,
        "configuration",
        "warning",
        "waits for its first configuration",
    );
    assert!(
        add.starts_with("malai cluster add <alias> <name> "),
        "{add}"
    );
    remedy(
        &world,
        "peers",
        "warning",
        "not reached within 5 s: the manager",
    );
}
