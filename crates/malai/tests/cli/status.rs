//! `malai status` where no daemon runs, and what malai makes of words it does not know.

use std::fs::{self, File};
use std::process::Stdio;

use expect_test::expect;

use crate::world::World;

const ID: &str = "i66fo538lfl5ombdf6tcdbrabp4hmp9asv7nrffuc2im13ct4q60";

#[test]
fn an_empty_home_says_how_to_begin() {
    let world = World::new();
    expect![[r#"
        exit code: 1
        ----- stdout -----
        📊 malai Status
        ═══════════════════════════════════════
        📁 MALAI_HOME: [HOME]
        🔒 Daemon: NOT RUNNING 💤

        🏗️  Cluster Configurations:
           none yet
           💡 Create a cluster: malai cluster init <alias>
           💡 Or join one: malai machine init <manager-id52> <alias>
           💡 Then start the daemon: malai daemon
    "#]]
    .assert_eq(&world.picture(&["status"]));
    assert!(!world.home().exists(), "looking makes nothing");
}

#[test]
fn clusters_are_shown_without_a_daemon() {
    let world = World::new();
    world.succeed(&["cluster", "init", "company"]);
    world.succeed(&["machine", "init", ID, "production"]);
    expect![[r#"
        exit code: 1
        ----- stdout -----
        📊 malai Status
        ═══════════════════════════════════════
        📁 MALAI_HOME: [HOME]
        🔒 Daemon: NOT RUNNING 💤
           💡 Start it: malai daemon

        🏗️  Cluster Configurations:
           👑 company (Cluster Manager)
              📄 Config: [HOME]/clusters/company/cluster.toml
              📊 Machines: 0
              🆔 Manager: [ID52]

        🖥️  Machine Configurations:
           💻 production (Machine)
              📄 Config: [HOME]/clusters/production/machine.toml
              🆔 Manager: [ID52]
              🔑 This machine: [ID52]
              ⏳ Waiting for the first configuration: the manager has to add this machine
    "#]]
    .assert_eq(&world.picture(&["status"]));
}

#[test]
fn the_lock_alone_says_whether_a_daemon_lives() {
    let world = World::new();
    world.succeed(&["cluster", "init", "company"]);
    let socket = world.home().join("malai.socket");
    let third_line = || {
        let output = world.output(&["status"]);
        assert_eq!(output.status.code(), Some(1));
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().nth(3).unwrap().to_owned()
    };
    assert_eq!(third_line(), "🔒 Daemon: NOT RUNNING 💤");
    fs::write(world.home().join("malai.lock"), "1\n").unwrap();
    assert_eq!(third_line(), "🔒 Daemon: NOT RUNNING 💤");
    fs::write(&socket, "").unwrap();
    assert_eq!(third_line(), "🔒 Daemon: CRASHED ❌");
    let lock = File::open(world.home()).unwrap();
    lock.lock().unwrap();
    assert_eq!(third_line(), "🔒 Daemon: RUNNING ⚠️");
    fs::remove_file(&socket).unwrap();
    assert_eq!(third_line(), "🔒 Daemon: STARTING ⚠️");
}

#[test]
fn the_facts_come_as_json_too() {
    let world = World::new();
    world.succeed(&["cluster", "init", "company"]);
    let output = world.output(&["status", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let facts: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(facts["state"], "not-running");
    assert_eq!(facts["clusters"][0]["role"], "manager");
    assert_eq!(facts["clusters"][0]["machines"], 0);
    assert!(facts["daemon"].is_null());
}

#[test]
fn a_reader_that_went_away_is_no_error_and_a_full_disk_is() {
    let world = World::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut gone = world.command(&["rescan", "--check"]);
    let output = gone.stdout(writer).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(world.show(&output), "exit code: 0\n");

    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut full_disk = world.command(&["rescan", "--check"]);
    let output = full_disk
        .stdout(full)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    expect![[r#"
        exit code: 1
        ----- stderr -----
        malai: cannot write to standard output: No space left on device
    "#]]
    .assert_eq(&world.show(&output));
}

#[test]
fn mistyped_commands_are_told_from_targets() {
    let world = World::new();
    expect![[r#"
        exit code: 2
        ----- stderr -----
        malai: no such command: staus; did you mean `malai status`?
    "#]]
    .assert_eq(&world.picture(&["staus"]));
    expect![[r#"
        exit code: 2
        ----- stderr -----
        malai: no such command: frobnicate; see: malai --help. For a command on a machine write <machine>.<cluster>; there is no cluster yet in [HOME]
    "#]]
    .assert_eq(&world.picture(&["frobnicate", "--help"]));
    expect![[r#"
        exit code: 255
        ----- stderr -----
        malai: no machine given; usage: malai ssh [options] [user@]<machine>.<cluster> [command...]
    "#]]
    .assert_eq(&world.picture(&["ssh"]));
    expect![[r#"
        exit code: 2
        ----- stderr -----
        malai: unexpected argument '--jsn' found

          tip: a similar argument exists: '--json'

        Usage: malai status --json [CLUSTER]

        For more information, try '--help'.
    "#]]
    .assert_eq(&world.picture(&["status", "--jsn"]));
    expect![[r#"
        exit code: 2
        ----- stderr -----
        malai: the following required arguments were not provided:
          <ALIAS>

        Usage: malai cluster init <ALIAS>

        For more information, try '--help'.
    "#]]
    .assert_eq(&world.picture(&["cluster", "init"]));
}

#[test]
fn version_and_help_are_answers() {
    let world = World::new();
    expect![[r#"
        exit code: 0
        ----- stdout -----
        malai 0.1.0
        peer protocol 1, control socket 1, configuration format 2
    "#]]
    .assert_eq(&world.picture(&["--version"]));
    let help = world.succeed(&["--help"]);
    assert!(help.contains("malai web01.company ps aux"), "{help}");
    let nothing = world.output(&[]);
    assert_eq!(nothing.status.code(), Some(2));
}
