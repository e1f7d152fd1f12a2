//! The tutorial's Troubleshooting, situation by situation: what malai says, and that its remedies work.

use std::fs;
use std::os::unix::net::UnixListener;

use malai_node::{Home, HomeLock};
use rustix::process::Signal;

use expect_test::expect;

use crate::harness;
use crate::world::World;

const WEB01: &str = "e87aeds2fajaeu10tjdio5ppcdha410n6tu4665u7el9as9b7v80";

/// A cluster with a machine whose daemon does not run.
fn company() -> World {
    let world = World::new();
    world.succeed(&["cluster", "init", "company"]);
    let path = world.cluster_file("company/cluster.toml");
    let text = fs::read_to_string(&path).unwrap();
    let web01 = format!("[machine.web01]\nid52 = \"{WEB01}\"\nallow_from = \"*\"\n");
    fs::write(&path, format!("{text}\n{web01}")).unwrap();
    world
}

/// A daemon, ended with the test's world.
struct Running<'a>(&'a World, u32);

impl<'a> Running<'a> {
    fn start(world: &'a World) -> Self {
        Self(world, world.start())
    }

    fn signal(&self, signal: Signal) {
        harness::signal(self.1, signal);
    }

    /// A picture without this daemon's process id.
    fn picture(&self, args: &[&str]) -> String {
        let pid = self.1.to_string();
        let picture = self.0.picture(args).replace(&pid, "[PID]");
        // A revision is the time, which differs from run to run.
        let mut pieces = picture.split("revision ");
        let first = pieces.next().unwrap_or_default().to_owned();
        pieces.fold(first, |text, piece| {
            let rest = piece.trim_start_matches(|c: char| c.is_ascii_digit());
            let number = if rest.len() < piece.len() {
                "[NUMBER]"
            } else {
                ""
            };
            text + "revision " + number + rest
        })
    }
}

/// "Daemon won't start", "Remove stale lock".
#[test]
fn a_stale_lock_keeps_no_daemon_from_starting() {
    let world = company();
    let lock = world.home().join("malai.lock");
    fs::write(&lock, "4194304\n").unwrap();
    expect![[r#"
        exit code: 1
        ----- stdout -----
        📊 malai Status
        ═══════════════════════════════════════
        📁 MALAI_HOME: [HOME]
        🔒 Daemon: NOT RUNNING 💤
           📁 Lock: [HOME]/malai.lock (no daemon holds it)
           💡 Start it: malai daemon

        🏗️  Cluster Configurations:
           👑 company (Cluster Manager)
              📄 Config: [HOME]/clusters/company/cluster.toml
              📊 Machines: 1
              🆔 Manager: [ID52]
    "#]]
    .assert_eq(&world.picture(&["status"]));
    let daemon = Running::start(&world);
    expect![[r#"
        exit code: 1
        ----- stderr -----
        malai: a malai daemon is already running for [HOME] (pid [PID]); see `malai status`, or stop it with `malai stop`
    "#]].assert_eq(&daemon.picture(&["daemon"]));
    // The tutorial's `rm` does no harm to a daemon that lives.
    fs::remove_file(&lock).unwrap();
    expect![[r#"
        exit code: 1
        ----- stderr -----
        malai: a malai daemon is already running for [HOME] (pid [PID]); see `malai status`, or stop it with `malai stop`
    "#]].assert_eq(&daemon.picture(&["daemon"]));
}

/// "Daemon won't start", "Validate configurations".
#[test]
fn an_invalid_configuration_is_said_by_every_command_that_needs_it() {
    let world = company();
    let path = world.cluster_file("company/cluster.toml");
    let text = fs::read_to_string(&path).unwrap();
    let text = text.replace(
        "\"\nallow_from = \"*\"",
        "\"\nalow_from = \"*\"\nusername = \"\"",
    );
    fs::write(&path, text).unwrap();
    fs::write(world.home().join("malai.toml"), "[limits]\nsesions = 3\n").unwrap();
    expect![[r#"
        exit code: 1
        ----- stderr -----
        malai: error: unknown key "sesions" in [limits]
          --> [HOME]/malai.toml:2:1
           |
         2 | sesions = 3
           | ^^^^^^^
           = help: did you mean sessions?
        error: unknown key `alow_from`
           --> [HOME]/clusters/company/cluster.toml:19:1
            |
         19 | alow_from = "*"
            | ^^^^^^^^^
            = help: did you mean `allow_from`?
        error: `username` is empty
           --> [HOME]/clusters/company/cluster.toml:20:12
            |
         20 | username = ""
            |            ^^
            = help: write the user that commands run as, or remove the key
        the daemon does not start: while malai.toml has errors, it is not known what this computer accepts; `malai rescan --check` shows this list again
    "#]].assert_eq(&world.picture(&["daemon"]));
    let output = world.output(&["daemon", "--foreground"]);
    let said = world.show(&output);
    assert_eq!(said, world.picture(&["daemon"]), "both say the same");
    expect![[r#"
        exit code: 1
        ----- stdout -----
        error: unknown key "sesions" in [limits]
          --> [HOME]/malai.toml:2:1
           |
         2 | sesions = 3
           | ^^^^^^^
           = help: did you mean sessions?

        error: unknown key `alow_from`
           --> [HOME]/clusters/company/cluster.toml:19:1
            |
         19 | alow_from = "*"
            | ^^^^^^^^^
            = help: did you mean `allow_from`?

        error: `username` is empty
           --> [HOME]/clusters/company/cluster.toml:20:12
            |
         20 | username = ""
            |            ^^
            = help: write the user that commands run as, or remove the key

        ❌ malai.toml: 1 error
        ❌ company: 1 machine, 2 errors
    "#]]
    .assert_eq(&world.picture(&["rescan", "--check"]));
    expect![[r#"
        exit code: 1
        ----- stdout -----
        📊 malai Status
        ═══════════════════════════════════════
        📁 MALAI_HOME: [HOME]
        🔒 Daemon: NOT RUNNING 💤
           💡 Start it: malai daemon
        ⚠️  malai.toml has 1 error: `malai rescan --check` shows where

        🏗️  Cluster Configurations:
           👑 company (Cluster Manager)
              📄 Config: [HOME]/clusters/company/cluster.toml
              📊 Machines: 1
              🆔 Manager: [ID52]
              ❌ 2 errors: malai rescan --check company
    "#]]
    .assert_eq(&world.picture(&["status"]));
}

/// "Configuration errors", "Fix TOML syntax errors shown in output".
#[test]
fn syntax_errors_are_shown_in_their_line() {
    let world = company();
    let path = world.cluster_file("company/cluster.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("[machine.web01]", "[machine.web01")).unwrap();
    expect![[r#"
        exit code: 1
        ----- stdout -----
        error: unclosed table, expected `]`
           --> [HOME]/clusters/company/cluster.toml:17:15
            |
         17 | [machine.web01
            |               ^

        ❌ company: 1 error
    "#]]
    .assert_eq(&world.picture(&["rescan", "--check", "company"]));
    expect![[r#"
        exit code: 1
        ----- stderr -----
        malai: there is no cluster `compnay` in [HOME]/clusters; did you mean `company`?
    "#]]
    .assert_eq(&world.picture(&["rescan", "--check", "compnay"]));
    expect![[r#"
        exit code: 1
        ----- stderr -----
        malai: no daemon is running here, so there is nothing to rescan: `malai daemon` starts it and reads the files (`malai rescan --check` only checks them)
    "#]].assert_eq(&world.picture(&["rescan"]));
}

/// "Commands hang or timeout".
#[test]
fn a_target_that_cannot_be_reached_or_is_not_there() {
    let world = company();
    expect![[r#"
        exit code: 255
        ----- stderr -----
        malai: cannot reach web01: nothing answers with its key at any known address
          tried: this computer (ports 30044, 20178, 22362, 31601); the reach here is `loopback`
          if it is another computer, set reach to "lan" or "public" in [network] of malai.toml on both; otherwise start its daemon: malai daemon
    "#]]
    .assert_eq(&world.picture(&["web01.company", "echo", "test"]));
    let daemon = Running::start(&world);
    expect![[r#"
        exit code: 255
        ----- stderr -----
        malai: cannot reach web01: nothing answers with its key at any known address
          tried: this computer (ports 30044, 20178, 22362, 31601); the reach here is `loopback`
          if it is another computer, set reach to "lan" or "public" in [network] of malai.toml on both; otherwise start its daemon: malai daemon
    "#]]
    .assert_eq(&daemon.picture(&["web01.company", "echo", "test"]));
    expect![[r#"
        exit code: 255
        ----- stderr -----
        malai: unknown machine `web1` in cluster `company`; did you mean `web01.company`?
    "#]]
    .assert_eq(&daemon.picture(&["web1.company", "echo", "test"]));
    expect![[r#"
        exit code: 255
        ----- stderr -----
        malai: unknown cluster `compny`; this home ([HOME]) knows: company; did you mean `web01.company`?
    "#]]
    .assert_eq(&daemon.picture(&["web01.compny", "echo", "test"]));
    expect![[r#"
        exit code: 2
        ----- stderr -----
        malai: no such command: web01; did you mean web01.company?
    "#]]
    .assert_eq(&daemon.picture(&["web01", "echo", "test"]));
    expect![[r#"
        exit code: 255
        ----- stderr -----
        malai: `|` outside quotes is special to a shell, and no shell is involved
          to use a shell: malai web01.company sh -c 'echo test | wc'
    "#]]
    .assert_eq(&daemon.picture(&["web01.company", "echo test | wc"]));
}

/// "Commands hang or timeout": on the machine itself, which nobody has added yet.
#[test]
fn a_machine_that_was_not_added() {
    let world = World::new();
    world.succeed(&["machine", "init", WEB01, "company"]);
    expect![[r#"
        exit code: 255
        ----- stderr -----
        malai: cluster `company` has not sent its configuration yet: on the manager, add this machine ([ID52]) to cluster.toml and run `malai rescan`
    "#]].assert_eq(&world.picture(&["web01.company", "echo", "test"]));
    let daemon = Running::start(&world);
    expect![[r#"
        exit code: 0
        ----- stdout -----
        📊 malai Status
        ═══════════════════════════════════════
        📁 MALAI_HOME: [HOME]
        🔒 Daemon: RUNNING ✅
           📁 Lock: [HOME]/malai.lock
           🔌 Socket: [HOME]/malai.socket (CLI communication active)
        🔍 Testing daemon responsiveness... ✅ RESPONSIVE

        🖥️  Machine Configurations:
           💻 company (Machine)
              📄 Config: [HOME]/clusters/company/machine.toml
              🆔 Manager: [ID52]
              🔑 This machine: [ID52]
              ⏳ Waiting for the first configuration: the manager has to add this machine
              🔖 Revision: none yet
              📡 Manager last reached: not since the daemon started
              🖥️  (manager) e87aeds2…  revision unknown · never heard from
    "#]]
    .assert_eq(&daemon.picture(&["status"]));
}

/// "Socket communication errors", "Remove stale socket".
#[test]
fn a_stale_socket_and_a_removed_one() {
    let world = company();
    let socket = world.home().join("malai.socket");
    drop(UnixListener::bind(&socket).unwrap());
    expect![[r#"
        exit code: 1
        ----- stdout -----
        📊 malai Status
        ═══════════════════════════════════════
        📁 MALAI_HOME: [HOME]
        🔒 Daemon: CRASHED ❌
           🔌 Socket: [HOME]/malai.socket (left behind by a daemon that did not exit cleanly)
           💡 See why: malai logs
           💡 Start it again: malai daemon

        🏗️  Cluster Configurations:
           👑 company (Cluster Manager)
              📄 Config: [HOME]/clusters/company/cluster.toml
              📊 Machines: 1
              🆔 Manager: [ID52]
    "#]]
    .assert_eq(&world.picture(&["status"]));
    expect![[r#"
        exit code: 1
        ----- stderr -----
        malai: no daemon is running here, so there is nothing to rescan: `malai daemon` starts it and reads the files (`malai rescan --check` only checks them)
    "#]].assert_eq(&world.picture(&["rescan"]));
    let daemon = Running::start(&world);
    fs::remove_file(&socket).unwrap();
    // The client waits until it is there again.
    expect![[r#"
        exit code: 0
        ----- stdout -----
        ✅ company: unchanged, revision [NUMBER]
           web01: unreachable (it will get it later)
    "#]]
    .assert_eq(&daemon.picture(&["rescan"]));
}

/// "Socket communication errors", "Test daemon responsiveness".
#[test]
fn a_daemon_that_hangs() {
    let world = company();
    let daemon = Running::start(&world);
    daemon.signal(Signal::STOP);
    expect![[r#"
        exit code: 1
        ----- stdout -----
        📊 malai Status
        ═══════════════════════════════════════
        📁 MALAI_HOME: [HOME]
        🔒 Daemon: RUNNING ⚠️
           📁 Lock: [HOME]/malai.lock
           🔌 Socket: [HOME]/malai.socket (no CLI communication)
        🔍 Testing daemon responsiveness... ❌ NOT RESPONSIVE
           ⚠️  no answer within 5 s
           💡 A daemon (pid [PID]) holds the lock but does not respond. Check [HOME]/malai.log, end it (kill [PID], or kill -9 [PID] if that does nothing), and start a new one: malai daemon

        🏗️  Cluster Configurations:
           👑 company (Cluster Manager)
              📄 Config: [HOME]/clusters/company/cluster.toml
              📊 Machines: 1
              🆔 Manager: [ID52]
    "#]].assert_eq(&daemon.picture(&["status"]));
    expect![[r#"
        exit code: 255
        ----- stderr -----
        malai: a daemon (pid [PID]) holds [HOME], but its socket did not respond within 5 s; run `malai doctor`
    "#]].assert_eq(&daemon.picture(&["web01.company", "echo", "test"]));
    expect![[r#"
        exit code: 1
        ----- stderr -----
        malai: a daemon (pid [PID]) holds [HOME], but its socket did not respond within 5 s; run `malai doctor`
    "#]].assert_eq(&daemon.picture(&["stop"]));
}

/// A daemon that is just starting has its lock and no socket yet.
#[test]
fn a_daemon_that_is_starting() {
    let world = company();
    let home = Home::at(world.home());
    let _lock = HomeLock::acquire(&home).unwrap();
    let picture = world.picture(&["status"]);
    let picture = picture.replace(&std::process::id().to_string(), "[PID]");
    expect![[r#"
        exit code: 1
        ----- stdout -----
        📊 malai Status
        ═══════════════════════════════════════
        📁 MALAI_HOME: [HOME]
        🔒 Daemon: STARTING ⚠️
           📁 Lock: [HOME]/malai.lock
           🔌 Socket: [HOME]/malai.socket (not there yet)
           💡 A daemon (pid [PID]) holds the lock but is not ready yet; try again shortly: malai status

        🏗️  Cluster Configurations:
           👑 company (Cluster Manager)
              📄 Config: [HOME]/clusters/company/cluster.toml
              📊 Machines: 1
              🆔 Manager: [ID52]
    "#]].assert_eq(&picture);
}
