//! Signals to the client reach the remote process group; when the client dies, the group is ended.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{Cluster, Route, finish, lives, signal, until, within};

/// Waits for a complete line in a file and returns the file's text.
pub fn line(path: &PathBuf) -> String {
    let whole = || fs::read_to_string(path).is_ok_and(|text| text.ends_with('\n'));
    until("a line of the command", whole);
    fs::read_to_string(path).unwrap().trim().to_owned()
}

/// Starts a script that prints its process ids, and waits until the client has printed them: from then on it forwards
/// signals. Returns the client and the ids.
pub fn started(route: &Route<'_>, script: &str, marker: &Path) -> (Child, Vec<u32>) {
    let _ = fs::remove_file(marker);
    let words = ["sh", "-c", script, "sh", marker.to_str().unwrap()];
    let mut child = route.home.spawn(&route.args(&words));
    let mut ids = String::new();
    let mut byte = [0; 1];
    while !ids.ends_with('\n') {
        let out = child.stdout.as_mut().unwrap();
        out.read_exact(&mut byte).expect("its process ids");
        ids.push(byte[0].into());
    }
    let ids = ids.split_whitespace().map(|id| id.parse().unwrap());
    (child, ids.collect())
}

#[test]
fn signals_reach_the_whole_process_group() {
    let cluster = Cluster::with_routes();
    let marker = cluster.folder().join("marker");
    for route in cluster.routes() {
        for (kind, name, code) in [
            (Signal::INT, "INT", 42),
            (Signal::TERM, "TERM", 42),
            (Signal::HUP, "HUP", 42),
            (Signal::QUIT, "QUIT", 42),
            (Signal::USR1, "USR1", 42),
            (Signal::USR2, "USR2", 42),
        ] {
            // The sleep is in the same group. It starts before the trap, since a child that has just been forked
            // would run the trap.
            let script = format!(
                "sleep 321 & trap 'echo {name} >\"$1\"; exit 42' {name}; echo $$ $!; wait; exit 1"
            );
            let (child, ids) = started(&route, &script, &marker);
            signal(child.id(), kind);
            let output = finish(child, Vec::new());
            assert_eq!(
                (output.code, output.stderr.as_str()),
                (code, ""),
                "{}, {name}",
                route.name
            );
            assert_eq!(line(&marker), name);
            if kind == Signal::INT || kind == Signal::QUIT {
                // Background processes of a shell ignore these signals.
                signal(ids[1], Signal::KILL);
            }
            within(Duration::from_secs(20), "the end of the group", || {
                !ids.iter().any(|id| lives(*id))
            });
        }
    }
}

/// Whether a process catches a signal, according to the kernel: bit n − 1 is signal n.
fn catches(id: u32, signal: Signal) -> bool {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let mask = u64::from_str_radix(mask.unwrap().trim(), 16).unwrap();
    mask >> (signal.as_raw() - 1) & 1 == 1
}

/// Before a command runs, a signal ends the client, and the next command is served.
#[test]
fn a_signal_before_the_command_runs_ends_the_attempt() {
    let cluster = Cluster::with_routes();
    let [route, ..] = cluster.routes();
    let web01 = cluster.machine("web01");
    signal(web01.pid(), Signal::STOP);
    let child = route.home.spawn(&route.args(&["true"]));
    let id = child.id();
    until("the client to catch signals", || catches(id, Signal::TERM));
    signal(id, Signal::TERM);
    signal(id, Signal::USR1);
    let output = finish(child, Vec::new());
    assert!([138, 143].contains(&output.code), "{}", output.shown());
    assert!(output.stdout.is_empty());
    signal(web01.pid(), Signal::CONT);
    assert_eq!(route.run(&["echo", "next"]).clean(), "next\n");
}

/// A command that ends on HUP, and one that ends only on KILL. Both have a second process in their group.
pub const MEEK: &str = "sleep 323 & echo $$ $!; wait; sleep 323";
pub const STUBBORN: &str =
    "sleep 324 & trap 'echo HUP >\"$1\"' HUP; echo $$ $!; while :; do wait; sleep 1; done";

/// The client is killed outright: the group gets HUP, then KILL after the grace period.
fn killed(route: &Route<'_>, folder: &Path, scripts: &[&str], timeout: u64) {
    let marker = folder.join("marker");
    for script in scripts {
        let (child, ids) = started(route, script, &marker);
        signal(child.id(), Signal::KILL);
        assert_eq!(finish(child, Vec::new()).code, 1000 + 9);
        let limit = Duration::from_secs(timeout);
        within(limit, "the end of the group", || {
            !ids.iter().any(|id| lives(*id))
        });
        if *script == STUBBORN {
            assert_eq!(line(&marker), "HUP", "{}", route.name);
        }
    }
}

#[test]
fn a_client_that_is_killed_takes_its_command_along() {
    let cluster = Cluster::with_routes();
    let [daemon, _, here, _] = cluster.routes();
    killed(&daemon, cluster.folder(), &[MEEK, STUBBORN], 20);
    killed(&here, cluster.folder(), &[MEEK, STUBBORN], 20);
}
