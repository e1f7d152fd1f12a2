//! Signals to the client reach the remote process group, and a client that dies takes it along.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{Cluster, Route, finish, lives, signal, until, within};

/// Waits for a whole line in a file and returns the file's text.
fn line(path: &PathBuf) -> String {
    let whole = || fs::read_to_string(path).is_ok_and(|text| text.ends_with('\n'));
    until("a line of the command", whole);
    fs::read_to_string(path).unwrap().trim().to_owned()
}

/// Starts a script that says its process ids in a file; returns its client, and the ids.
fn started(
    route: &Route<'_>,
    script: &str,
    said: &PathBuf,
    marker: &PathBuf,
) -> (std::process::Child, Vec<u32>) {
    let _ = (fs::remove_file(said), fs::remove_file(marker));
    let files = [said.to_str().unwrap(), marker.to_str().unwrap()];
    let words = ["sh", "-c", script, "sh", files[0], files[1]];
    let child = route.home.spawn(&route.args(&words));
    let ids = line(said)
        .split(' ')
        .map(|id| id.parse().unwrap())
        .collect();
    (child, ids)
}

#[test]
fn signals_reach_the_whole_process_group() {
    let cluster = Cluster::with_routes();
    let (said, marker) = (
        cluster.folder().join("said"),
        cluster.folder().join("marker"),
    );
    for route in cluster.routes() {
        for (kind, name, code) in [
            (Signal::INT, "INT", 42),
            (Signal::TERM, "TERM", 42),
            (Signal::HUP, "HUP", 42),
            (Signal::QUIT, "QUIT", 42),
            (Signal::USR1, "USR1", 42),
            (Signal::USR2, "USR2", 42),
        ] {
            // The sleep is of the same group: were it not reached, the shell would wait for it.
            let script = format!(
                "trap 'echo {name} >\"$2\"; exit 42' {name}; sleep 321 & echo $$ $! >\"$1\"; wait; exit 1"
            );
            let (child, ids) = started(&route, &script, &said, &marker);
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
                // A shell starts background processes so that they ignore these.
                signal(ids[1], Signal::KILL);
            }
            within(Duration::from_secs(20), "the end of the group", || {
                !ids.iter().any(|id| lives(*id))
            });
        }
    }
}

#[test]
fn a_command_that_a_signal_ends_says_so() {
    let cluster = Cluster::with_routes();
    let (said, marker) = (
        cluster.folder().join("said"),
        cluster.folder().join("marker"),
    );
    for route in cluster.routes() {
        for (kind, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
            let (child, _) = started(&route, "echo $$ >\"$1\"; exec sleep 322", &said, &marker);
            signal(child.id(), kind);
            let output = finish(child, Vec::new());
            assert_eq!(
                (output.code, output.stderr.as_str()),
                (code, ""),
                "{}",
                route.name
            );
        }
    }
}

/// A command that HUP ends, and one that only KILL ends. Both have a second process in their group.
const MEEK: &str = "sleep 323 & echo $$ $! >\"$1\"; wait; sleep 323";
const STUBBORN: &str =
    "trap 'echo HUP >\"$2\"' HUP; sleep 324 & echo $$ $! >\"$1\"; while :; do wait; sleep 1; done";

/// The client is killed outright: the group gets HUP, then KILL after the grace period.
fn killed(route: &Route<'_>, folder: &Path, scripts: &[&str], patience: u64) {
    let (said, marker) = (folder.join("said"), folder.join("marker"));
    for script in scripts {
        let (child, ids) = started(route, script, &said, &marker);
        signal(child.id(), Signal::KILL);
        assert_eq!(finish(child, Vec::new()).code, 1000 + 9);
        let limit = Duration::from_secs(patience);
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

/// Without a daemon nobody can say goodbye: the machine gives the client up after 30 seconds of silence.
#[test]
fn a_client_without_a_daemon_that_is_killed_takes_its_command_along() {
    let cluster = Cluster::with_routes();
    killed(&cluster.routes()[1], cluster.folder(), &[STUBBORN], 60);
}
