//! Limits of a daemon and its command lines, set low in malai.toml and reached. Those of peers are tested in
//! `malai-node/tests/pair/limits.rs`.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::process::Child;

use crate::harness::{Cluster, Home, TEST_TIMEOUT, finish};

/// Puts limits in force while the daemon runs.
fn limit(home: &Home, limits: &str) {
    std::fs::write(home.path.join("malai.toml"), format!("[limits]\n{limits}")).unwrap();
    home.succeed(&["rescan"]);
}

/// Starts a command that runs until its input ends, and waits until it runs.
fn begun(home: &Home, target: &str) -> Child {
    let script = "echo begun; cat";
    let mut command = home.command(&[target, "sh", "-c", script]);
    let mut child = command.stdin(std::process::Stdio::piped()).spawn().unwrap();
    let mut first = [0; 6];
    let out = child.stdout.as_mut().unwrap();
    out.read_exact(&mut first).unwrap();
    child
}

#[test]
fn sessions_of_this_computers_own_command_lines() {
    let cluster = Cluster::running(&["web01"]);
    limit(&cluster.manager, "local_sessions = 1\n");
    let one = begun(&cluster.manager, "web01.company");
    let second = cluster.manager.run(&["web01.company", "true"]);
    assert_eq!(second.code, 255, "{}", second.shown());
    assert!(
        second.stderr.contains("local_sessions = 1"),
        "{}",
        second.shown()
    );
    assert_eq!(finish(one, Vec::new()).code, 0);
}

#[test]
fn command_lines_that_say_nothing_are_told_why_they_are_closed() {
    let cluster = Cluster::running(&[]);
    let home = &cluster.manager;
    limit(home, "control_connections = 4\n");
    let connect = || UnixStream::connect(home.path.join("malai.socket")).unwrap();
    let mut silent: Vec<_> = (0..5).map(|_| connect()).collect();
    let mut heard = Vec::new();
    let first = &mut silent[0];
    first.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    first.read_to_end(&mut heard).unwrap();
    let heard = String::from_utf8_lossy(&heard);
    assert!(heard.contains("control_connections = 4"), "{heard:?}");
    assert!(home.status().contains("RUNNING"));
}

/// The system passes on only as many descriptors as the daemon may have, which looks like a request with too few.
#[test]
fn a_daemon_without_free_descriptors_says_so() {
    let cluster = Cluster::running(&["web01"]);
    let home = &cluster.manager;
    home.stop();
    let binary = home.command::<&str>(&[]);
    let mut start = std::process::Command::new("sh");
    start.args(["-c", "ulimit -n 64 && exec \"$0\" daemon"]);
    start.arg(binary.get_program()).env_clear();
    for (name, value) in binary.get_envs() {
        start.env(name, value.unwrap());
    }
    let started = start.output().unwrap();
    home.started(&String::from_utf8(started.stdout).unwrap());
    let mut running = Vec::new();
    let refused = loop {
        assert!(running.len() < 64, "it has no limit");
        let script = "echo begun; cat";
        let mut command = home.command(&["web01.company", "sh", "-c", script]);
        let mut child = command.stdin(std::process::Stdio::piped()).spawn().unwrap();
        let out = child.stdout.as_mut().unwrap();
        match out.read_exact(&mut [0; 6]) {
            Ok(()) => running.push(child),
            Err(_) => break finish(child, Vec::new()),
        }
    };
    refused.refused("no file descriptors left for another command: its limit is 64");
    let status = home.status();
    assert!(status.contains("✅ RESPONSIVE"), "{status}");
    for child in running {
        assert_eq!(finish(child, Vec::new()).code, 0);
    }
    home.run(&["web01.company", "true"]).clean();
}

/// Many command lines on one computer at once wait for their turn.
#[test]
fn command_lines_wait_for_a_slot() {
    let cluster = Cluster::running(&["web01"]);
    let boss = &cluster.manager;
    limit(boss, "control_connections = 4\n");
    all_succeed(40, || boss.spawn(&["web01.company", "true"]));
}

/// A peer whose connection is closed during its handshake, to make room for another one, dials again.
#[test]
fn connections_that_come_all_at_once_from_one_address_all_get_in() {
    let cluster = Cluster::with_routes();
    let address = "unauthenticated_connections_per_address = 4\n";
    limit(cluster.machine("web01"), address);
    let laptop = cluster.machine("laptop");
    all_succeed(30, || laptop.spawn(&["web01.company", "true"]));
}

fn all_succeed(count: usize, start: impl Fn() -> Child) {
    let runs: Vec<_> = (0..count).map(|_| start()).collect();
    let ends = runs.into_iter().map(|run| finish(run, Vec::new()));
    let failed: Vec<_> = ends.filter(|end| end.code != 0).collect();
    let shown = failed.first().map(|end| end.shown());
    assert!(failed.is_empty(), "{} failed: {shown:?}", failed.len());
}
