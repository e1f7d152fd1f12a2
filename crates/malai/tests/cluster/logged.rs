//! What the log says about commands and connections with `RUST_LOG=malai=debug`, and what a full disk loses.

use std::process::{Command, Stdio};

use crate::harness::{Cluster, until};

/// The lines of a log with all of these words.
fn lines<'a>(log: &'a str, words: &[&str]) -> Vec<&'a str> {
    let has_all = |line: &&str| words.iter().all(|word| line.contains(word));
    log.lines().filter(has_all).collect()
}

#[track_caller]
fn assert_logged(log: &str, words: &[&str]) {
    assert!(!lines(log, words).is_empty(), "no {words:?} in {log}");
}

#[test]
fn commands_dials_and_failed_dials_are_logged() {
    let cluster = Cluster::running(&["web01"]);
    let (manager, web01) = (&cluster.manager, cluster.machine("web01"));
    let output = manager.run(&["web01.company", "sh", "-c", "exit 3"]);
    assert_eq!(output.code, 3, "{}", output.shown());
    let log = manager.log();
    assert_logged(
        &log,
        &["DEBUG", "dialing", "machine=web01", "cluster=company"],
    );
    assert_logged(
        &log,
        &["DEBUG", "connected", "machine=web01", "address=127.0.0.1:"],
    );
    assert_logged(
        &log,
        &["DEBUG", "a command: sh -c exit 3", "target=web01.company"],
    );
    assert_logged(
        &log,
        &["DEBUG", "it ended", "code=3", "target=web01.company"],
    );
    let log = web01.log();
    assert_logged(&log, &["DEBUG", "session: started", "pid="]);
    assert_logged(&log, &["DEBUG", "session: ended: the command ended"]);
    web01.stop();
    let output = manager.run(&["web01.company", "true"]);
    assert_eq!(output.code, 255, "{}", output.shown());
    let log = manager.log();
    // It is one line, although the message has several.
    let failed = lines(
        &log,
        &["DEBUG", "cannot reach web01", "machine=web01", "tried: "],
    );
    assert!(
        !failed.is_empty() && !failed[0].contains("\\n"),
        "{failed:?}"
    );
    assert_logged(&log, &["DEBUG", "cannot reach web01", "code=255"]);
}

/// The full disk must belong to the test alone, so this needs a mount namespace.
#[test]
fn a_full_disk_is_told_once_and_the_gap_outlives_the_daemon() {
    let namespace = ["--mount", "--propagation", "private"];
    let can = Command::new("unshare").args(namespace).arg("true").output();
    if !can.is_ok_and(|output| output.status.success()) {
        eprintln!("this computer gives the test no mount namespace");
        return;
    }
    let cluster = Cluster::new(&[]);
    let manager = &cluster.manager;
    let script = r#"
set -e
mkdir "$MALAI_HOME-disk"
mount -t tmpfs -o size=2m none "$MALAI_HOME-disk"
cp -a "$MALAI_HOME/." "$MALAI_HOME-disk"
chmod 700 "$MALAI_HOME-disk"
MALAI_HOME="$MALAI_HOME-disk"
malai daemon
trap 'malai stop' EXIT
malai boss.company true
dd if=/dev/zero of="$MALAI_HOME/fill" bs=1k 2>/dev/null || true
for number in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do malai boss.company true; done
malai doctor || true
malai stop
rm "$MALAI_HOME/fill"
malai daemon
echo "--- record"
malai audit
"#;
    let program = env!("CARGO_BIN_EXE_malai");
    let folder = std::path::Path::new(program).parent().unwrap();
    let path = std::env::var("PATH").unwrap_or_default();
    let run = manager.command::<&str>(&[]);
    let environment: Vec<_> = run
        .get_envs()
        .filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned())))
        .collect();
    let output = Command::new("unshare")
        .args(namespace)
        .args(["sh", "-c", script])
        .env_clear()
        .envs(environment)
        .env("PATH", format!("{}:{path}", folder.display()))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{output:?}");
    let (doctor, record) = text.split_once("--- record").unwrap();
    let of_record = lines(doctor, &["audit.jsonl"]);
    assert_eq!(of_record.len(), 1, "one finding about the record: {doctor}");
    assert!(
        of_record[0].contains("cannot be written: No space left"),
        "{doctor}"
    );
    assert_eq!(
        lines(record, &["records could not be written", "No space left"]).len(),
        1,
        "{record}"
    );
    until("the daemon's end", || !manager.is_held());
}

#[test]
fn output_that_cannot_be_written_is_not_a_refusal() {
    let cluster = Cluster::with_routes();
    for route in cluster.routes() {
        for (stream, script) in [
            ("standard output", "echo hi"),
            ("standard error", "echo hi >&2"),
        ] {
            let full = || {
                std::fs::File::options()
                    .write(true)
                    .open("/dev/full")
                    .unwrap()
            };
            let mut command = route.home.command(&[route.target, "sh", "-c", script]);
            if stream == "standard output" {
                command.stdout(full());
            } else {
                // malai's own messages cannot be written either.
                command.stderr(full());
            }
            let output = command.spawn().unwrap().wait_with_output().unwrap();
            assert_eq!(output.status.code(), Some(255), "{} {stream}", route.name);
            let said = String::from_utf8_lossy(&output.stderr);
            if stream == "standard output" {
                assert!(
                    said.starts_with(
                        "malai: cannot write to standard output: No space left on device"
                    ),
                    "{}: {said}",
                    route.name
                );
            }
        }
    }
}
