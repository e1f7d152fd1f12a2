//! Daemons that end without cleaning up, files removed under running daemons, and daemons that hang.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{Cluster, Home, TEST_TIMEOUT, alone, finish, lives, signal, until};

fn crashed(home: &Home) {
    let status = home.run(&["status"]);
    assert_eq!(status.code, 1, "{}", status.shown());
    assert!(
        status.out().contains("Daemon: CRASHED ❌"),
        "{}",
        status.shown()
    );
}

/// After a crash of either daemon, the next command works within two seconds of the restart.
#[test]
fn a_crashed_daemon_starts_again_without_help() {
    let _alone = alone();
    let cluster = Cluster::running(&["web01"]);
    let web01 = cluster.machine("web01");
    let works = || cluster.manager.run(&["web01.company", "echo", "on"]);
    assert_eq!(works().clean(), "on\n");
    for home in [web01, &cluster.manager, web01] {
        home.kill();
        crashed(home);
        assert!(home.path.join("malai.socket").exists());
        home.start();
        assert_eq!(home.run(&["status"]).code, 0);
        let started = Instant::now();
        assert_eq!(works().clean(), "on\n");
        assert!(
            started.elapsed() < Duration::from_secs(2),
            "{:?}",
            started.elapsed()
        );
    }
    // Both at once.
    web01.kill();
    cluster.manager.kill();
    web01.start();
    cluster.manager.start();
    assert_eq!(works().clean(), "on\n");
    cluster.manager.stop();
    let status = cluster.manager.run(&["status"]);
    assert_eq!(status.code, 1);
    assert!(
        status.out().contains("NOT RUNNING 💤"),
        "{}",
        status.shown()
    );
}

/// If the pooled connection is in use when the far daemon crashes, the command fails in bounded time.
#[test]
fn a_command_whose_far_daemon_crashes_fails() {
    let cluster = Cluster::with_routes();
    let web01 = cluster.machine("web01");
    let started = || web01.log().matches("session: started").count();
    for route in &cluster.routes()[..3] {
        let before = started();
        let marker = cluster.folder().join("begun");
        let script = "echo $$ >\"$1\"; exec sleep 333";
        let child =
            route
                .home
                .spawn(&route.args(&["sh", "-c", script, "sh", marker.to_str().unwrap()]));
        until("the command", || {
            fs::read_to_string(&marker).is_ok_and(|text| text.ends_with('\n'))
        });
        let pid: u32 = fs::read_to_string(&marker).unwrap().trim().parse().unwrap();
        fs::remove_file(&marker).unwrap();
        // Before this, for some ten microseconds, the reaper may not know of it.
        until("the command to be registered", || started() > before);
        web01.kill();
        web01.start();
        let output = finish(child, Vec::new());
        assert_eq!(output.code, 255, "{}: {}", route.name, output.shown());
        assert!(output.stderr.starts_with("malai: "), "{}", output.shown());
        // The killed daemon could not end its command, but its reaper does.
        until("the command's end", || !lives(pid));
    }
}

#[test]
fn files_removed_under_a_live_daemon_come_back() {
    let cluster = Cluster::running(&["web01"]);
    let manager = &cluster.manager;
    let lock = manager.path.join("malai.lock");
    let socket = manager.path.join("malai.socket");
    let works = || manager.run(&["web01.company", "echo", "on"]);

    fs::remove_file(&lock).unwrap();
    let second = manager.run(&["daemon"]);
    assert_eq!(second.code, 1, "{}", second.shown());
    assert!(
        second.stderr.contains("already running"),
        "{}",
        second.shown()
    );
    assert_eq!(works().clean(), "on\n");
    until("malai.lock to come back", || lock.exists());
    assert_eq!(
        fs::read_to_string(&lock).unwrap(),
        format!("{}\n", manager.pid())
    );

    fs::remove_file(&socket).unwrap();
    // A command waits for the socket instead of bypassing the daemon.
    assert_eq!(works().clean(), "on\n");
    until("malai.socket to come back", || socket.exists());
    assert_eq!(manager.run(&["status"]).code, 0);
    assert_eq!(manager.run(&["daemon"]).code, 1);
    manager.stop();
    assert!(!lock.exists() && !socket.exists());
}

/// The lock is held and nobody answers.
#[test]
fn a_daemon_that_hangs_is_not_gone_around() {
    let cluster = Cluster::running(&["web01"]);
    let manager = &cluster.manager;
    signal(manager.pid(), Signal::STOP);
    let command = manager.run(&["web01.company", "echo", "wrong"]);
    command.refused("did not respond within 5 s");
    assert!(
        command.took >= Duration::from_secs(4),
        "{}",
        command.shown()
    );
    assert!(
        command.took < Duration::from_secs(15),
        "{}",
        command.shown()
    );
    let status = manager.run(&["status"]);
    assert_eq!(status.code, 1, "{}", status.shown());
    assert!(
        status.out().contains("Daemon: RUNNING ⚠️"),
        "{}",
        status.shown()
    );
    assert!(
        status.out().contains("NOT RESPONSIVE"),
        "{}",
        status.shown()
    );
    assert!(!status.out().contains("RUNNING ✅"));
    assert_eq!(manager.run(&["daemon"]).code, 1);
    signal(manager.pid(), Signal::CONT);
    assert_eq!(
        manager.run(&["web01.company", "echo", "on"]).clean(),
        "on\n"
    );
    assert_eq!(manager.run(&["status"]).code, 0);
}

/// Callers are told that a far daemon hangs, and it recovers by itself.
#[test]
fn a_far_daemon_that_hangs_for_a_while() {
    let cluster = Cluster::running(&["web01"]);
    let web01 = cluster.machine("web01");
    let works = || cluster.manager.run(&["web01.company", "echo", "on"]);
    assert_eq!(works().clean(), "on\n");
    signal(web01.pid(), Signal::STOP);
    let child = cluster.manager.spawn(&["web01.company", "echo", "on"]);
    // It answers as soon as it continues: the command was sent once and runs once.
    std::thread::sleep(Duration::from_secs(2));
    signal(web01.pid(), Signal::CONT);
    let output = finish(child, Vec::new());
    assert_eq!(output.clean(), "on\n");
    assert!(output.took < TEST_TIMEOUT / 4, "{}", output.shown());
    assert_eq!(works().clean(), "on\n");
}

/// `malai status | grep -q …` and `malai status | head -1`, with pipefail.
#[test]
fn status_in_a_pipe() {
    let cluster = Cluster::running(&["web01"]);
    let pipe = |script: &str| {
        let malai = cluster.manager.command(&[] as &[&str]);
        let mut shell = Command::new("bash");
        shell.args(["-c", script]).env("MALAI", malai.get_program());
        for (name, value) in malai.get_envs() {
            shell.env(name, value.unwrap());
        }
        let child = shell.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        finish(child.unwrap(), Vec::new())
    };
    for _ in 0..10 {
        let quiet = pipe("set -o pipefail; \"$MALAI\" status | grep -q 'RUNNING ✅'");
        assert_eq!(quiet.clean(), "");
        let first = pipe("\"$MALAI\" status | head -1; echo \"${PIPESTATUS[*]}\"");
        assert_eq!(first.clean(), "📊 malai Status\n0 0\n");
    }
    cluster.manager.stop();
    let quiet = pipe("\"$MALAI\" status | grep -q 'RUNNING ✅'");
    assert_eq!((quiet.code, quiet.stderr.as_str()), (1, ""));
}
