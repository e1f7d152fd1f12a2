//! `malai doctor` with real daemons: what they report about themselves and each other.

use serde_json::Value;

use crate::harness::{Cluster, Home, until};

fn findings(home: &Home) -> (bool, Vec<Value>) {
    let output = home.run(&["doctor", "--json"]);
    let diagnosis: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(output.code == 0, diagnosis["ok"] == true);
    (
        diagnosis["ok"] == true,
        diagnosis["findings"].as_array().unwrap().clone(),
    )
}

#[track_caller]
fn has(home: &Home, check: &str, state: &str, words: &str) {
    let (_, all) = findings(home);
    let fits = |finding: &&Value| {
        finding["check"] == check
            && finding["state"] == state
            && finding["what"]
                .as_str()
                .is_some_and(|what| what.contains(words))
    };
    assert!(
        all.iter().any(|finding| fits(&finding)),
        "no {state} {words:?} in {all:#?}"
    );
}

#[test]
fn a_healthy_cluster_and_then_a_machine_that_has_gone() {
    let cluster = Cluster::running(&["web01"]);
    let (manager, web01) = (&cluster.manager, cluster.machine("web01"));
    for home in [manager, web01] {
        let (ok, all) = findings(home);
        assert!(ok, "{all:#?}");
        has(home, "daemon", "fine", "and answers");
        has(home, "ports", "fine", "is served on UDP port");
    }
    has(manager, "peers", "fine", "1 of 1 machines answer");
    has(web01, "peers", "fine", "the manager answered");

    // Without a daemon, doctor itself looks for the home's peers.
    web01.stop();
    has(web01, "peers", "fine", "reached the manager");
    manager.stop();
    has(
        web01,
        "peers",
        "warning",
        "not reached within 5 s: the manager",
    );
    has(web01, "ports", "fine", "all of its UDP ports are free");
}

#[test]
fn one_key_in_two_homes_is_found_in_both() {
    let cluster = Cluster::running(&["web01"]);
    let web01 = cluster.machine("web01");
    let restored = Home::at(cluster.folder().join("restored"));
    std::fs::create_dir_all(&restored.path).unwrap();
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .args([web01.path.join("clusters"), restored.path.join("clusters")])
        .status();
    assert!(copied.unwrap().success());
    // While the second has no daemon, another process has its ports.
    has(
        &restored,
        "ports",
        "warning",
        "a malai process has UDP port",
    );
    restored.start();
    for home in [web01, &restored] {
        until("notice of the duplicate identity", || {
            let (ok, all) = findings(home);
            !ok && all.iter().any(|finding| {
                finding["what"]
                    .as_str()
                    .is_some_and(|what| what.contains("this identity's key"))
            })
        });
    }
}
