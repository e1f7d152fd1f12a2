//! A manager that attacks its own members: what it signs costs them a bounded amount, and does not affect their other
//! clusters.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use malai_cluster::{MachineId, SecretSeed};
use malai_wire::peer::sync::Compare;

use crate::harness::{ALIAS, Cluster};
use crate::hostile::{contents, signed};
use crate::measure::{highest, reset_highest};
use malai_testing::peer::Peer;

/// The most memory that a daemon may use while it checks a configuration of up to 16 MiB, in bytes.
const MEMORY: usize = 85 << 20;

/// How many further times it signs a chain of groups, which takes the most memory to check. What each leaves in the heap
/// must not add up.
const AGAIN: usize = 12;

#[test]
fn a_snapshot_that_is_too_much_is_refused_and_nothing_else_waits_for_it() {
    let cluster = Cluster::running(&["web01"]);
    let web01 = cluster.machine("web01");
    let (pid, revision) = (web01.pid(), web01.revision());
    // Another cluster on the same computer, which manages it.
    web01.succeed(&["cluster", "init", "other"]);
    let other = web01.path.join("clusters/other/cluster.toml");
    let text = std::fs::read_to_string(&other).unwrap();
    let id = text.split('"').find(|part| part.len() == 52).unwrap();
    std::fs::write(
        &other,
        format!("{text}\n[machine.me]\nid52 = \"{id}\"\nallow_from = \"*\"\n"),
    )
    .unwrap();
    web01.succeed(&["rescan", "other"]);
    assert_eq!(web01.run(&["me.other", "echo", "here"]).clean(), "here\n");
    cluster.manager.stop();

    let seed = SecretSeed::parse_file(&cluster.manager.read("cluster.private-key")).unwrap();
    let target: MachineId = cluster.id_of("web01").parse().unwrap();
    let begun = Instant::now();
    assert_eq!(web01.run(&["me.other", "echo", "here"]).clean(), "here\n");
    let undisturbed = begun.elapsed();
    reset_highest(pid);
    let done = AtomicBool::new(false);
    let slowest = std::thread::scope(|scope| {
        let honest = scope.spawn(|| {
            let mut slowest = Duration::ZERO;
            while !done.load(Ordering::SeqCst) {
                let begun = Instant::now();
                assert_eq!(web01.run(&["me.other", "echo", "here"]).clean(), "here\n");
                slowest = slowest.max(begun.elapsed());
            }
            slowest
        });
        let mut next = revision;
        let contents = contents(&seed);
        let again = vec![contents[1].clone(); AGAIN];
        for content in contents.into_iter().chain(again) {
            next += 1;
            let content = signed(&seed, next, content);
            malai_testing::run(async {
                let peer = Peer::connect(&seed, &target).await;
                peer.give(content.clone());
                peer.greet(None).await;
                for _ in 0..3 {
                    match peer.compare(content.header.clone()).await {
                        Compare::Refused(refusal) => {
                            assert!(refusal.message.contains("is not valid"), "{refusal:?}")
                        }
                        other => panic!("{other:?}"),
                    }
                }
                // A refused configuration is not fetched again.
                assert_eq!(peer.fetched(), 1);
                peer.close().await;
            });
            let facts = web01.facts();
            assert_eq!(facts["revision"].as_u64(), Some(revision), "{facts}");
            let problem = facts["notices"].to_string();
            assert!(
                problem.contains(&format!("revision {next} cannot be used here")),
                "{facts}"
            );
            assert!(
                problem.contains("the previous configuration stays in force"),
                "{facts}"
            );
            assert!(problem.len() < 2_000, "{problem}");
        }
        done.store(true, Ordering::SeqCst);
        honest.join().unwrap()
    });
    let most = highest(pid);
    println!("at most {} MiB, slowest command {slowest:?}", most >> 20);
    assert!(most < MEMORY, "{} MiB", most >> 20);
    let bound = Duration::from_secs(2) + 10 * undisturbed;
    assert!(slowest < bound, "{slowest:?}, {undisturbed:?} undisturbed");
    // The old configuration is still in force.
    assert_eq!(
        web01
            .run(&[&format!("web01.{ALIAS}"), "echo", "on"])
            .clean(),
        "on\n"
    );
}
