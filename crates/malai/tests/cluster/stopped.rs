//! A daemon stops or is killed while commands of others run on it: their output and exit codes arrive, and their
//! clients learn of the end.

use std::io::Read;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::harness::{Cluster, Route, finish, until};

/// Starts a command and waits until it runs.
fn start(route: &Route<'_>, script: &str) -> Child {
    let mut command =
        route
            .home
            .command(&route.args(&["sh", "-c", &format!("echo started; {script}")]));
    let mut child = command.stdin(Stdio::null()).spawn().unwrap();
    let mut first = [0; 8];
    let out = child.stdout.as_mut().unwrap();
    out.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"started\n");
    child
}

#[test]
fn a_command_that_ends_within_the_grace_of_a_stop_loses_nothing() {
    let cluster = Cluster::with_routes();
    let web01 = cluster.machine("web01");
    let script = "sleep 0.3; head -c 3000000 /dev/zero; echo last >&2; exit 7";
    for round in 0..3 {
        for route in &cluster.routes()[..2] {
            let run = start(route, script);
            let stop = web01.spawn(&["stop"]);
            let end = finish(run, Vec::new());
            assert_eq!(finish(stop, Vec::new()).code, 0);
            assert_eq!(
                (end.code, end.stdout.len(), end.stderr.as_str()),
                (7, 3_000_000, "last\n"),
                "{}, round {round}",
                route.name
            );
            web01.wait_for_end();
            web01.start();
        }
    }
}

/// Received output is passed on even after the connection has closed.
#[test]
fn a_reader_that_is_slower_than_the_stop_reads_everything() {
    let cluster = Cluster::with_routes();
    let web01 = cluster.machine("web01");
    for route in &cluster.routes()[..2] {
        // More than the pipe to the reader holds.
        let run = start(route, "head -c 1000000 /dev/zero; exit 7");
        until("the record of the end", || {
            let record = std::fs::read_to_string(web01.path.join("audit.jsonl"));
            record.unwrap().contains("\"exit\":7")
        });
        web01.stop();
        let end = finish(run, Vec::new());
        assert_eq!(
            (end.code, end.stdout.len()),
            (7, 1_000_000),
            "{}",
            route.name
        );
        std::fs::remove_file(web01.path.join("audit.jsonl")).unwrap();
        web01.start();
    }
}

#[test]
fn a_daemon_that_is_killed_is_missed_within_seconds() {
    let cluster = Cluster::with_routes();
    let web01 = cluster.machine("web01");
    for route in &cluster.routes()[..2] {
        let run = start(route, "exec sleep 1000");
        let killed = Instant::now();
        web01.kill();
        let end = finish(run, Vec::new());
        assert!(
            end.code == 255 && end.stderr.contains("daemon has ended: nothing listens on"),
            "{}",
            end.shown()
        );
        // QUIC's own timeout is 30 s.
        assert!(
            killed.elapsed() < Duration::from_secs(20),
            "{}",
            end.shown()
        );
        web01.start();
    }
}
