//! One command on two hundred machines over real QUIC: services in one process, some of them dead and some hanging.

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use malai_testing::machines;

use crate::harness::{Cluster, Output, alone, until};
use crate::measure::{hang, nothing_hangs};

/// The number of machines, and how many of them are dead or hang.
const ALL: usize = 200;
const DEAD: usize = 10;
const HANGING: usize = 10;

/// The lines that each machine prints on each stream.
const LINES: usize = 20;

/// A machine's script: prints long lines, each with its name and in several writes.
fn script(name: &str, exit: usize) -> String {
    format!(
        "n={name}; i=0; while [ $i -lt {LINES} ]; do printf \"$n says \"; printf \"%03000d $i\\n\" 0; \
         printf \"$n wa\" >&2; echo \"rns $i\" >&2; i=$((i+1)); done; exit {exit}"
    )
}

/// Two hundred machines, each with a command `job` of its own.
fn two_hundred(
    cluster: &Cluster,
    end: tokio::sync::oneshot::Receiver<()>,
) -> (mpsc::Receiver<String>, JoinHandle<()>) {
    let (say, said) = mpsc::channel();
    let (folder, id) = (cluster.folder().join("machines"), cluster.id.clone());
    let serving = thread::spawn(move || {
        let say = move |news| drop(say.send(news));
        machines::serve(&folder, ALL, DEAD, &id, say, end);
    });
    let limit = Duration::from_secs(120);
    let ready = said.recv_timeout(limit).expect("machines");
    assert_eq!(ready, format!("ready {} machines", ALL - DEAD));
    let sections = std::fs::read_to_string(cluster.folder().join("machines/sections.toml"));
    cluster.edit(|text| text + &sections.unwrap());
    let mut jobs = String::new();
    for number in 1..=ALL {
        let name = format!("m{number:03}");
        let line = match number {
            number if number <= HANGING => hang(),
            20 => format!("sh -c '{}'", script(&name, 7)),
            _ => format!("sh -c '{}'", script(&name, 0)),
        };
        jobs += &format!("[machine.{name}.command.job]\ncommand = {line:?}\nallow_from = \"*\"\n");
    }
    cluster.edit(|text| text + "\n" + &jobs);
    (said, serving)
}

#[test]
fn two_hundred_machines_of_which_ten_are_dead_and_ten_hang() {
    let _alone = alone();
    let mut cluster = Cluster::new(&[]);
    let laptop = cluster.join("laptop");
    cluster.edit(|text| format!("{text}\n{laptop}"));
    let (end, ended) = tokio::sync::oneshot::channel();
    let (said, serving) = two_hundred(&cluster, ended);
    cluster.machine("laptop").start();
    cluster.manager.start();
    let limit = Duration::from_secs(120);
    said.recv_timeout(limit)
        .expect("the configuration everywhere");
    until("the configuration on the laptop", || {
        cluster.machine("laptop").revision() > 0
    });
    cluster.machine("laptop").stop();
    for (way, home) in [
        ("daemon", &cluster.manager),
        ("direct", cluster.machine("laptop")),
    ] {
        eprintln!("[{way}]");
        let output = home.run(&["--timeout", "8s", "m*.company", "job"]);
        check(&output);
        eprintln!("[{way}] {:?}", output.took);
        // In sequence, the dead and hanging ones alone would take far longer.
        assert!(output.took < Duration::from_secs(60), "{:?}", output.took);
        nothing_hangs();
    }
    // The services write into their homes until they have ended.
    drop(end);
    serving.join().unwrap();
}

fn check(output: &Output) {
    assert_eq!(output.code, 255, "{}", output.stderr);
    let (mut out, mut err) = (BTreeMap::new(), BTreeMap::new());
    for line in output.out().lines() {
        let (name, text) = line.split_once(": ").expect("a name");
        let next: &mut usize = out.entry(name.to_owned()).or_default();
        assert_eq!(text, format!("{name} says {} {next}", "0".repeat(3000)));
        *next += 1;
    }
    let (errors, summary) = output.stderr.split_once("malai: ").expect("a summary");
    for line in errors.lines() {
        let (name, text) = line.split_once(": ").expect("a name");
        let next: &mut usize = err.entry(name.to_owned()).or_default();
        assert_eq!(text, format!("{name} warns {next}"));
        *next += 1;
    }
    let answering = (HANGING + 1..=ALL - DEAD).map(|number| (format!("m{number:03}"), LINES));
    let answering: BTreeMap<_, _> = answering.collect();
    assert_eq!(out, answering, "{summary}");
    assert_eq!(err, answering, "{summary}");
    let first = summary.lines().next().unwrap();
    assert_eq!(first, "179 of 200 machines succeeded, 21 failed:");
    assert!(summary.contains("m[001-010"), "{summary}");
    assert!(summary.contains("timed out after 8s"), "{summary}");
    assert!(summary.contains("m[191-200] (unreachable: "), "{summary}");
    assert!(summary.contains("m020 (exit 7)"), "{summary}");
}
