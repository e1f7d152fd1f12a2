//! A hostile machine attacks the caller of its commands: false byte counts, exits too early or too late, endless
//! streams, and text with terminal control sequences.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use malai_cluster::SecretSeed;

use crate::harness::{ALIAS, Cluster, Output};
use crate::hostile::{LIES, Lie, serve};

/// Asserts that the text contains no terminal control sequences, and is short enough to read.
#[track_caller]
fn is_tame(text: &str, what: &str) {
    let bad = text
        .chars()
        .find(|c| *c != '\n' && malai_cluster::is_unsafe(*c));
    assert_eq!(bad, None, "{what}: {text}");
    assert!(!text.contains("\nmalai: all is well"), "{what}: {text}");
    assert!(text.len() < 10_000, "{what}: {} bytes", text.len());
}

#[track_caller]
fn failed(output: &Output, what: &str) {
    assert_eq!(output.code, 255, "{what}: {}", output.shown());
    assert!(
        output.stderr.contains("malai: "),
        "{what}: {}",
        output.shown()
    );
    is_tame(&output.stderr, what);
    assert!(
        output.stdout.len() < 64 << 20,
        "{what}: {}",
        output.stdout.len()
    );
    assert!(
        output.took < Duration::from_secs(20),
        "{what}: {}",
        output.shown()
    );
}

#[test]
fn nothing_that_a_machine_says_is_believed_or_obeyed() {
    let cluster = Cluster::running(&["web01", "laptop"]);
    cluster.machine("laptop").stop();
    cluster.machine("web01").stop();
    let seed = cluster.machine("web01").read("machine.private-key");
    let seed = SecretSeed::parse_file(&seed).unwrap();
    let lie = Arc::new(Mutex::new(Lie::Refusal));
    serve(seed, None, lie.clone(), Duration::ZERO);
    let laptop = cluster.machine("laptop");
    for what in LIES {
        *lie.lock().unwrap() = *what;
        for (route, home) in [("through the daemon", &cluster.manager), ("direct", laptop)] {
            let shown = format!("{what:?} {route}");
            let output = home.run(&["web01.company", "true"]);
            if *what == Lie::Strays && output.code == 0 {
                is_tame(&output.stderr, &shown);
                assert!(output.stdout.is_empty(), "{shown}");
                continue;
            }
            failed(&output, &shown);
        }
        // With several machines, this holds for each line and the summary.
        let output = cluster
            .manager
            .run(&["web01.company,boss.company", "echo", "on"]);
        let shown = format!("{what:?} of several");
        is_tame(&output.stderr, &shown);
        let lines = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            lines.contains("boss: on\n") || lines.contains("boss.company: on\n"),
            "{shown}: {}",
            output.shown()
        );
    }
    // Other commands that print its words.
    let rescanned = cluster.manager.run(&["rescan", ALIAS]);
    assert!(
        rescanned.out().contains("refused: "),
        "{}",
        rescanned.shown()
    );
    is_tame(rescanned.out(), "rescan");
    is_tame(&cluster.manager.status(), "status");
    is_tame(cluster.manager.run(&["doctor"]).out(), "doctor");
    let log = cluster.manager.log();
    let bad = log
        .chars()
        .find(|c| *c != '\n' && malai_cluster::is_unsafe(*c));
    assert_eq!(bad, None);
    // Everything else still works.
    assert_eq!(
        cluster.manager.run(&["boss.company", "echo", "on"]).clean(),
        "on\n"
    );
}

/// A machine that is slow is not one that is silent: closing its connection would lose the command.
#[test]
fn a_machine_that_greets_late_is_waited_for() {
    let cluster = Cluster::running(&["web01"]);
    cluster.machine("web01").stop();
    let seed = cluster.machine("web01").read("machine.private-key");
    let seed = SecretSeed::parse_file(&seed).unwrap();
    // Longer than strangers have (`greeting_seconds`).
    let delay = Duration::from_secs(4);
    serve(seed, None, Arc::new(Mutex::new(Lie::Refusal)), delay);
    let said = cluster.manager.run(&["web01.company", "true"]);
    assert!(said.stderr.contains("all is well"), "{}", said.shown());
}
