//! `malai demo`: all of it works, and nothing of it stays, however it ends.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// A demo with a folder for temporary files of its own.
fn demo(temporary: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_malai"));
    command
        .arg("demo")
        .args(arguments)
        .env("TMPDIR", temporary)
        // The demo's own settings win over whatever is set around it.
        .env("MALAI_HOME", temporary.join("not-this"))
        .env("MALAI_NETWORK", "public")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn temporary() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn shown(output: &Output) -> String {
    format!(
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Nothing in the folder, and nobody who works in it.
#[track_caller]
fn assert_nothing_is_left(temporary: &Path) {
    let left: Vec<_> = fs::read_dir(temporary).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(processes_of(temporary), Vec::<String>::new());
}

/// Processes that were given this folder to work in. A process that has ended and was not yet reaped
/// has no environment any more.
fn processes_of(temporary: &Path) -> Vec<String> {
    let folder = temporary.to_str().unwrap();
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    processes
        .flatten()
        .filter(|process| {
            fs::read(process.path().join("environ"))
                .is_ok_and(|environment| String::from_utf8_lossy(&environment).contains(folder))
        })
        .map(|process| fs::read_to_string(process.path().join("cmdline")).unwrap_or_default())
        .collect()
}

#[test]
fn every_step_does_what_it_says_and_nothing_stays() {
    let temporary = temporary();
    let output = demo(temporary.path(), &[]).output().unwrap();
    let text = shown(&output);
    assert!(output.status.success(), "{text}");
    let mut rest = &*text;
    for expected in [
        "laptop$ malai cluster init demo\n",
        "web01$ malai machine init ",
        "db01$ malai daemon\n",
        "laptop$ malai rescan demo\n  ✅ demo: published revision",
        "laptop$ malai web01.demo whoami\n",
        "| malai web01.demo tr a-z A-Z\n  FROM THE LAPTOP",
        "[exit code 7]",
        "db01 asks, in demo",
        "web01$ malai db01.demo disk-space\n  Filesystem",
        "web01$ malai db01.demo whoami\n  malai: db01.demo refused",
        "+ allow_from = \"laptop\"\n",
        "db01$ malai web01.demo whoami\n  malai: web01.demo refused",
        "+ allow_from = \"laptop,db01\"\n",
        "db01 asks, in demo",
        "laptop$ malai stop\n",
        "db01 asks, in demo",
        "laptop asks, in demo",
        "through the daemon",
        "without a daemon",
        "✅ Every step did what it says",
    ] {
        let at = rest.find(expected);
        let at =
            at.unwrap_or_else(|| panic!("{expected:?} is missing, or out of order, in:\n{text}"));
        rest = &rest[at + expected.len()..];
    }
    assert_nothing_is_left(temporary.path());
}

/// Starts a demo and waits until its first daemon runs.
fn begun(temporary: &Path) -> (Child, BufReader<impl Read>) {
    let mut child = demo(temporary, &[]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("malai daemon is running") {
        line.clear();
        assert_ne!(lines.read_line(&mut line).unwrap(), 0, "it ended early");
    }
    (child, lines)
}

#[test]
fn an_interrupted_demo_clears_up() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let temporary = temporary();
        let (mut child, mut lines) = begun(temporary.path());
        kill_process(Pid::from_child(&child), signal).unwrap();
        lines.read_to_string(&mut String::new()).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code));
        assert_nothing_is_left(temporary.path());
    }
}

#[test]
fn a_failed_step_is_named_and_clears_up() {
    let temporary = temporary();
    let (mut child, mut lines) = begun(temporary.path());
    // Somebody ends the manager's daemon in the middle of it.
    let homes = fs::read_dir(temporary.path())
        .unwrap()
        .flatten()
        .next()
        .unwrap();
    let lock = fs::read_to_string(homes.path().join("laptop/malai.lock")).unwrap();
    let daemon = Pid::from_raw(lock.trim().parse().unwrap()).unwrap();
    kill_process(daemon, Signal::KILL).unwrap();
    lines.read_to_string(&mut String::new()).unwrap();
    let mut said = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1), "{said}");
    assert!(said.starts_with("malai: step "), "{said}");
    assert_nothing_is_left(temporary.path());
}

#[test]
fn a_kept_demo_runs_on_and_ends_as_it_says() {
    let temporary = temporary();
    let output = demo(temporary.path(), &["--keep"]).output().unwrap();
    let text = shown(&output);
    assert!(output.status.success(), "{text}");
    let running = processes_of(temporary.path());
    let daemons = running.iter().filter(|line| line.contains("\0daemon\0"));
    // Beside each there is a reaper, which ends what a killed one leaves.
    assert_eq!(daemons.count(), 3, "{running:?}");
    let (_, by_hand) = text
        .split_once("Continue by hand:\n")
        .expect("how to go on");
    let (go_on, end) = by_hand.split_once("End it:\n").expect("how to end it");
    for line in go_on.lines().map(str::trim) {
        if !line.starts_with("$EDITOR") {
            let output = Command::new("sh").args(["-c", line]).output().unwrap();
            assert!(output.status.success(), "{line}: {}", shown(&output));
        }
    }
    let output = Command::new("sh").args(["-ec", end]).output().unwrap();
    assert!(output.status.success(), "{}", shown(&output));
    assert_nothing_is_left(temporary.path());
}
