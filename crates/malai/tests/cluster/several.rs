//! One command on several machines at once.

use std::io::Read;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{Cluster, Home, finish, lives, signal, within};
use crate::measure::{hang, nothing_hangs};

/// Two machines that answer, and two computers that send commands: one with a daemon, and one without.
fn small() -> Cluster {
    let cluster = Cluster::running(&["web01", "web02", "laptop"]);
    cluster.edit(|text| {
        format!("{text}\n[group.web]\nmembers = \"web02, web01\"\n[group.all]\nmembers = \"web, boss\"\n")
    });
    cluster.rescan_everywhere();
    cluster.machine("laptop").stop();
    cluster
}

/// The computers that send commands.
fn ways(cluster: &Cluster) -> [&Home; 2] {
    [&cluster.manager, cluster.machine("laptop")]
}

/// The lines in sorted order, whichever machine was first.
fn sorted(text: &str) -> String {
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}

#[test]
fn groups_patterns_lists_and_their_sum() {
    let cluster = small();
    for home in ways(&cluster) {
        for target in [
            "@web.company",
            "web0?.company",
            "web[01-02].company",
            "web02.company,web01.company",
        ] {
            let output = home.run(&[target, "echo", "a b"]);
            assert_eq!(sorted(output.clean()), "web01: a b\nweb02: a b", "{target}");
        }
        let output = home.run(&["-x", "@all.company", "*.company", "true"]);
        // The laptop has no daemon, so only the laptop can run commands on itself.
        let expected = i32::from(std::ptr::eq(home, &cluster.manager)) * 255;
        assert_eq!(output.code, expected, "{}", output.shown());
        let output = home.run(&["@web.company", "sh", "-c", "echo no; echo why >&2; exit 3"]);
        assert_eq!(output.code, 3);
        assert_eq!(sorted(output.out()), "web01: no\nweb02: no");
        assert_eq!(
            sorted(&output.stderr),
            "malai: 0 of 2 machines succeeded; failed: web01 (exit 3), web02 (exit 3)\nweb01: why\nweb02: why"
        );
        // With a mistake in any target, nothing is run.
        let trace = cluster.folder().join("trace");
        let touch = [
            "@web.company,web03.company",
            "touch",
            trace.to_str().unwrap(),
        ];
        let output = home.run(&touch);
        assert_eq!((output.code, output.out()), (255, ""));
        assert!(
            output.stderr.contains("unknown machine `web03`"),
            "{}",
            output.stderr
        );
        assert!(!trace.exists());
    }
}

/// Where the system allows few descriptors, fewer commands run at once.
#[test]
fn few_descriptors_are_enough_for_many_machines() {
    let cluster = small();
    let binary = cluster.manager.command::<&str>(&[]);
    let mut limited = std::process::Command::new("sh");
    limited.args(["-c", "ulimit -n 24 && exec \"$0\" \"$1\" echo x"]);
    limited.arg(binary.get_program());
    limited.arg("web01.company,web02.company,boss.company,web01.company");
    limited.env_clear();
    for (name, value) in binary.get_envs() {
        limited.env(name, value.unwrap());
    }
    let output = limited.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(sorted(&lines), "boss: x\nweb01: x\nweb02: x");
}

#[test]
fn why_a_machine_failed_is_told_in_a_few_words() {
    let cluster = small();
    cluster.edit(|text| {
        text.replacen(
            "[machine.web02]",
            "[machine.web02.command.true]\nallow_from = []\n[machine.web02]",
            1,
        )
    });
    cluster.machine("web01").stop();
    cluster.rescan_except(&["web01", "laptop"]);
    for home in ways(&cluster) {
        let output = home.run(&["@all.company", "true"]);
        assert_eq!((output.code, output.out()), (255, ""));
        for part in [
            "1 of 3 machines succeeded",
            "web01 (unreachable: nothing answers",
            "web02 (refused: its command.true",
        ] {
            assert!(output.stderr.contains(part), "{part}: {}", output.stderr);
        }
    }
}

#[test]
fn each_reads_all_of_the_input_or_none() {
    let cluster = small();
    let input: Vec<u8> = (0..300_000u32).flat_map(u32::to_le_bytes).collect();
    let path = cluster.folder().join("input");
    std::fs::write(&path, &input).unwrap();
    for home in ways(&cluster) {
        let sum = home.run_with(&["web01.company", "md5sum"], &input);
        let sum = sum.clean().trim().to_owned();
        let expected = format!("web01: {sum}\nweb02: {sum}");
        // With 1, the machines run one after the other: the second reads what the first read long before.
        for parallel in ["1", "2"] {
            let output = home.run_with(&["--parallel", parallel, "@web.company", "md5sum"], &input);
            assert_eq!(sorted(output.clean()), expected);
        }
        let mut from_file = home.command(&["@web.company", "md5sum"]);
        let child = from_file.stdin(std::fs::File::open(&path).unwrap()).spawn();
        assert_eq!(sorted(finish(child.unwrap(), Vec::new()).clean()), expected);
        // A command that reads only a few bytes does not hold up the others.
        let words = ["sh", "-c", "test \"$HOME\" && head -c 4 | od -An -tx1"];
        let output = home.run_with(&[&["@web.company"], &words[..]].concat(), &input);
        assert_eq!(
            sorted(output.clean()),
            "web01:  00 00 00 00\nweb02:  00 00 00 00"
        );
        let output = home.run_with(&["-n", "@web.company", "wc", "-c"], &input);
        assert_eq!(sorted(output.clean()), "web01: 0\nweb02: 0");
        let output = home.run_with(&["-n", "web01.company", "wc", "-c"], &input);
        assert_eq!(output.clean(), "0\n");
    }
}

#[test]
fn one_object_a_machine() {
    let cluster = small();
    let script = "printf 'a\\377'; echo b >&2; exit 4";
    for home in ways(&cluster) {
        let output = home.run(&["--json", "@web.company", "sh", "-c", script]);
        assert_eq!(output.code, 4);
        let mut records: Vec<serde_json::Value> = output
            .out()
            .lines()
            .map(|line| serde_json::from_str(line).expect("an object"))
            .collect();
        records.sort_by_key(|record| record["machine"].to_string());
        for (record, name) in records.iter().zip(["web01", "web02"]) {
            assert_eq!(record["machine"], name);
            assert_eq!(record["cluster"], "company");
            assert_eq!(record["exit"], 4);
            assert_eq!(record["stdout_base64"], "Yf8=");
            assert_eq!(record["stderr"], "b\n");
        }
        assert_eq!(records.len(), 2);
        let one = home.run(&["--json", "web01.company", "echo", "hi"]);
        let one: serde_json::Value = serde_json::from_str(one.clean()).unwrap();
        assert_eq!(one["stdout"], "hi\n");
    }
}

/// Starts the command and waits for two lines of output.
fn begun(home: &Home, words: &[&str]) -> std::process::Child {
    let mut child = home
        .command(words)
        .stdin(Stdio::null())
        .spawn()
        .expect("malai starts");
    two_lines(&mut child);
    child
}

fn two_lines(child: &mut std::process::Child) {
    let out = child.stdout.as_mut().expect("its output");
    let mut said = Vec::new();
    while said.iter().filter(|byte| **byte == b'\n').count() < 2 {
        let mut byte = [0];
        out.read_exact(&mut byte).expect("a line");
        said.push(byte[0]);
    }
}

#[test]
fn signals_reach_all_and_a_second_one_leaves() {
    let cluster = small();
    for home in ways(&cluster) {
        let polite = "trap 'echo bye; exit 5' INT; echo there; while :; do sleep 0.02; done";
        let child = begun(home, &["@web.company", "sh", "-c", polite]);
        signal(child.id(), Signal::INT);
        let output = finish(child, Vec::new());
        assert_eq!(output.code, 5, "{}", output.shown());
        assert_eq!(sorted(output.out()), "web01: bye\nweb02: bye");
        // Commands not started yet are not started any more.
        let script = "echo there; echo there; while :; do sleep 0.02; done";
        let child = begun(
            home,
            &["--parallel", "1", "@web.company", "sh", "-c", script],
        );
        signal(child.id(), Signal::INT);
        let output = finish(child, Vec::new());
        assert_eq!((output.code, output.out()), (130, ""), "{}", output.shown());
        assert!(
            output.stderr.contains("(interrupted before it started)"),
            "{}",
            output.stderr
        );
        let stubborn = format!(
            "trap 'echo no' INT; echo there; while :; do {} & wait; done",
            hang()
        );
        let mut child = begun(home, &["@web.company", "sh", "-c", &stubborn]);
        signal(child.id(), Signal::INT);
        two_lines(&mut child);
        signal(child.id(), Signal::INT);
        let output = finish(child, Vec::new());
        assert_eq!(output.code, 130, "{}", output.shown());
        nothing_hangs();
    }
}

#[test]
fn time_is_up_for_one_and_for_several() {
    let cluster = small();
    let script = format!("echo there; printf half; {}", hang());
    for home in ways(&cluster) {
        let output = home.run(&["--timeout", "3s", "@web.company", "sh", "-c", &script]);
        assert_eq!(output.code, 255);
        assert_eq!(
            sorted(output.out()),
            "web01: half\nweb01: there\nweb02: half\nweb02: there"
        );
        assert!(
            output.stderr.contains("web01 (timed out after 3s)"),
            "{}",
            output.stderr
        );
        let one = home.run(&["--timeout", "3s", "web01.company", "sh", "-c", &script]);
        assert_eq!((one.code, one.out()), (255, "there\nhalf"));
        assert_eq!(
            one.stderr,
            "malai: web01.company timed out after 3s; the command was ended\n"
        );
        nothing_hangs();
        let in_time = home.run(&["--timeout", "30s", "@web.company", "true"]);
        in_time.clean();
    }
}

#[test]
fn a_reader_that_goes_ends_all() {
    let cluster = small();
    for home in ways(&cluster) {
        let script = format!("echo there; while echo more; do :; done; {}", hang());
        let mut child = begun(home, &["@web.company", "sh", "-c", &script]);
        drop(child.stdout.take());
        within(Duration::from_secs(20), "its end", || !lives(child.id()));
        let output = finish(child, Vec::new());
        assert_eq!((output.code, output.stderr.as_str()), (141, ""));
        nothing_hangs();
    }
}
