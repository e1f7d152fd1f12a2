//! The cost of the check, a decision and a snapshot, with 10, 1,000 and 10,000 machines.

use std::fmt::Write;
use std::hint::black_box;
use std::time::{Duration, Instant};

use malai_cluster::{Action, Cluster, MachineId, Request, SecretSeed, Snapshot, check, decide};

/// How deep groups are nested.
const DEEP: usize = 50;

fn main() {
    // `sections <number>` prints this many machines for a cluster.toml, to measure the program itself.
    let mut args = std::env::args().skip(1);
    if args.next().as_deref() == Some("sections") {
        let count = args.next().and_then(|count| count.parse().ok());
        let mut text = String::new();
        for number in 1..=count.expect("a number of machines") {
            let id = seed(number).id();
            let _ = write!(
                text,
                "\n[machine.m{number}]\nid52 = \"{id}\"\nallow_from = \"*\"\n"
            );
        }
        print!("{text}");
        return;
    }
    println!(
        "{:>9} {:>7} {:>9} {:>11} {:>10} {:>12} {:>24}",
        "machines", "groups", "file", "check", "decision", "decisions/s", "render + seal + open"
    );
    for machines in [10, 1_000, 10_000] {
        measure(machines);
    }
    println!("bars at 10,000 machines: check 200 ms, decision 2 us");
}

fn seed(number: usize) -> SecretSeed {
    let mut bytes = [1; 32];
    bytes[..8].copy_from_slice(&(number as u64).to_le_bytes());
    SecretSeed::from_bytes(bytes)
}

/// Chains of groups, each 50 deep; every machine is in one group and takes commands from one chain.
fn file(ids: &[MachineId], groups: usize) -> String {
    let mut text = format!(
        "[cluster_manager]\nid52 = \"{}\"\ncluster_name = \"bench\"\n",
        seed(0).id()
    );
    for (number, id) in ids.iter().enumerate() {
        let from = number % groups / DEEP * DEEP;
        let _ = write!(
            text,
            "\n[machine.m{number}]\nid52 = \"{id}\"\nallow_from = \"g{from}\"\n[machine.m{number}.command.restart]\ncommand = \"systemctl restart web\"\nallow_from = \"g{from},m0\"\n"
        );
    }
    for group in 0..groups {
        let mut members: Vec<String> = (group..ids.len())
            .step_by(groups)
            .map(|n| format!("m{n}"))
            .collect();
        if group % DEEP < DEEP - 1 && group + 1 < groups {
            members.push(format!("g{}", group + 1));
        }
        let _ = write!(
            text,
            "\n[group.g{group}]\nmembers = \"{}\"\n",
            members.join(",")
        );
    }
    text
}

/// The median of several runs.
fn median<T>(runs: usize, mut run: impl FnMut() -> T) -> (Duration, T) {
    let mut times = Vec::new();
    let mut last = None;
    for _ in 0..runs {
        let begun = Instant::now();
        last = Some(black_box(run()));
        times.push(begun.elapsed());
    }
    times.sort();
    (times[runs / 2], last.expect("a run"))
}

fn measure(machines: usize) {
    let ids: Vec<MachineId> = (1..=machines).map(|number| seed(number).id()).collect();
    let groups = machines.min(1_000);
    let text = file(&ids, groups);
    let (checked_in, checked) = median(7, || check("cluster.toml", &text));
    let cluster: Cluster = checked
        .cluster
        .unwrap_or_else(|| panic!("{:?}", checked.diagnostics));
    let (exec, restart) = ([b"uptime".to_vec()], [b"restart".to_vec()]);
    const MANY: usize = 200_000;
    let (took, allowed) = median(5, || {
        let mut allowed = 0;
        for n in 0..MANY {
            let request = Request {
                from: ids[n * 7919 % ids.len()],
                to: ids[n * 104_729 % ids.len()],
                action: Action::Exec(if n % 2 == 0 { &exec } else { &restart }),
                user: None,
            };
            allowed += usize::from(matches!(
                decide(&cluster, &request, None),
                malai_cluster::Decision::Allow(_)
            ));
        }
        allowed
    });
    assert!(allowed > 0, "nothing is allowed");
    let nanos = took.as_nanos() as f64 / MANY as f64;
    let (snapshot_in, content) = median(5, || {
        let sealed = Snapshot::seal(&seed(0), 1, &cluster);
        let content = sealed.content().to_owned();
        let opened = Snapshot::open(&cluster.id(), sealed.header().clone(), content);
        opened.expect("its own snapshot").content().len()
    });
    println!(
        "{machines:>9} {groups:>7} {:>6} KB {:>8.2} ms {nanos:>7.0} ns {:>12.0} {:>12.1} ms, {} KB",
        text.len() / 1000,
        checked_in.as_secs_f64() * 1e3,
        1e9 / nanos,
        snapshot_in.as_secs_f64() * 1e3,
        content / 1000,
    );
}
