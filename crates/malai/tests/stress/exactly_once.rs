//! Commands while the far daemon is killed repeatedly: none runs twice, and each success means that it ran.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{Cluster, alone, within};

const RUNS: usize = 200;
const LIMIT: Duration = Duration::from_secs(80);

#[test]
fn a_command_runs_at_most_once_and_success_means_that_it_ran() {
    let _alone = alone();
    let cluster = Cluster::with_routes();
    let web01 = cluster.machine("web01");
    web01.kill();
    let log = cluster.folder().join("log");
    fs::write(&log, "").unwrap();
    let lines = || {
        let mut seen = BTreeMap::<String, usize>::new();
        for line in fs::read_to_string(&log).unwrap().lines() {
            *seen.entry(line.to_owned()).or_default() += 1;
        }
        seen
    };
    let done = AtomicBool::new(false);
    let deadline = Instant::now() + LIMIT;
    let [daemon, direct, ..] = cluster.routes();
    let script = "echo \"$1\" >>\"$2\"";
    let run = |route: &crate::harness::Route<'_>, id: &str| {
        let words = ["sh", "-c", script, "sh", id, log.to_str().unwrap()];
        route.home.run(&route.args(&words))
    };
    let mut good = 0;
    let kills = AtomicU32::new(0);
    thread::scope(|scope| {
        let killer = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                web01.start();
                // Kills the daemon at a random moment, possibly before its first command.
                let mut byte = [0; 1];
                use std::io::Read;
                fs::File::open("/dev/urandom")
                    .unwrap()
                    .read_exact(&mut byte)
                    .unwrap();
                thread::sleep(Duration::from_millis(20 + u64::from(byte[0])));
                web01.kill();
                kills.fetch_add(1, Ordering::Relaxed);
            }
        });
        let mut ran = 0;
        for number in 0.. {
            let enough = number >= RUNS && kills.load(Ordering::Relaxed) > 5;
            if enough || Instant::now() > deadline {
                break;
            }
            let route = if number % 4 == 3 { &direct } else { &daemon };
            let id = format!("run-{number}");
            let output = run(route, &id);
            ran += 1;
            match output.code {
                0 => {
                    good += 1;
                    assert!(lines().contains_key(&id), "{id} succeeded and did not run");
                }
                255 => assert!(output.stderr.starts_with("malai: "), "{}", output.shown()),
                _ => panic!("{id}: {}", output.shown()),
            }
        }
        done.store(true, Ordering::Relaxed);
        killer.join().unwrap();
        let kills = kills.load(Ordering::Relaxed);
        eprintln!("{good} of {ran} succeeded, {kills} kills");
    });
    // The last command may write its line a little later.
    let twice = |seen: BTreeMap<String, usize>| seen.into_iter().find(|(_, count)| *count > 1);
    assert_eq!(twice(lines()), None, "ran twice");
    let kills = kills.load(Ordering::Relaxed);
    assert!(kills > 5 && good > 20, "{good} good, {kills} kills");
    web01.start();
    within(Duration::from_secs(10), "the next command", || {
        run(&daemon, "last").code == 0
    });
    assert_eq!(twice(lines()), None, "ran twice");
}
