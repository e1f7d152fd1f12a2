//! `malai cluster add` and `malai cluster remove`, with real daemons.

use std::io::{BufRead, BufReader};
use std::process::Child;
use std::time::{Duration, Instant};

use crate::harness::{ALIAS, Cluster, Home, finish, lives, section, until};

/// A command that runs until something ends it, and its process id on the machine.
fn endless(home: &Home, target: &str) -> (Child, u32) {
    let script = "echo $$; while :; do echo on; sleep 0.01; done";
    let mut child = home.spawn(&[target, "sh", "-c", script]);
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    // Keeps reading, as a terminal does.
    std::thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
    let pid = line.trim().parse().unwrap_or_else(|_| panic!("{line:?}"));
    (child, pid)
}

#[test]
fn a_machine_is_added_without_touching_the_file_by_hand() {
    let mut cluster = Cluster::running(&["web01"]);
    cluster.join("db");
    let (db, manager) = (cluster.machine("db"), &cluster.manager);
    let id = cluster.id_of("db");
    cluster.edit(|text| {
        format!("# ours\r\n{text}\n[group.all]   # everybody\nmembers = \"web01,boss\"\n# the end")
    });
    let before = manager.read("cluster.toml");
    db.start();
    let said = manager.succeed(&["cluster", "add", ALIAS, "db", &id, "--allow-from", "all"]);
    assert!(said.contains("Added machine db"), "{said}");
    assert!(said.contains("published revision"), "{said}");
    assert!(said.contains("web01: updated"), "{said}");
    let after = manager.read("cluster.toml").replace("\r\n", "\n");
    let rest = after.strip_prefix(&before.replace("\r\n", "\n"));
    let section = format!("\n\n[machine.db]\nid52 = \"{id}\"\nallow_from = \"all\"\n");
    assert_eq!(rest, Some(section.as_str()), "{after}");
    until("db can be commanded", || {
        manager.run(&["db.company", "echo", "on"]).code == 0
    });
    let web01 = cluster.machine("web01");
    until("web01 knows it too", || {
        web01.run(&["db.company", "echo", "on"]).code == 0
    });
    db.run(&["db.company", "true"]).refused("allow_from");
}

#[test]
fn what_cannot_be_added_or_removed_changes_nothing() {
    let mut cluster = Cluster::new(&["web01"]);
    cluster.join("db");
    let (manager, web01) = (&cluster.manager, cluster.machine("web01"));
    let (db_id, web01_id) = (cluster.id_of("db"), cluster.id_of("web01"));
    let before = manager.read("cluster.toml");
    let refused = |home: &Home, args: &[&str], code: i32, words: &[&str]| {
        let output = home.run(&[&["cluster"], args].concat());
        assert_eq!(
            (output.code, output.out()),
            (code, ""),
            "{}",
            output.shown()
        );
        for words in words {
            assert!(output.stderr.contains(words), "{words}: {}", output.shown());
        }
        assert_eq!(manager.read("cluster.toml"), before, "{args:?}");
    };
    refused(manager, &["add", ALIAS, "web01", &db_id], 1, &["already"]);
    // The error lists everything that is wrong.
    refused(
        manager,
        &[
            "add",
            ALIAS,
            "db",
            &web01_id,
            "--allow-from",
            "laptpo,web01",
        ],
        1,
        &["laptpo", "id52", "cluster.toml:", "nothing was changed"],
    );
    refused(manager, &["add", ALIAS, "D B", &db_id], 2, &["D B"]);
    refused(manager, &["add", ALIAS, "db", "no-id"], 2, &["id52"]);
    refused(
        manager,
        &["add", "other", "db", &db_id],
        1,
        &["(found: company)"],
    );
    refused(manager, &["remove", ALIAS, "db"], 1, &["no machine `db`"]);
    refused(
        web01,
        &["add", ALIAS, "db", &db_id],
        1,
        &["not its manager"],
    );
    refused(web01, &["remove", ALIAS, "web01"], 1, &["not its manager"]);
    // Without a daemon, the file is edited, and the next daemon publishes it.
    let said = manager.succeed(&["cluster", "add", ALIAS, "db", &db_id]);
    assert!(said.contains("No daemon is running here"), "{said}");
    assert!(said.contains("No one may run commands on it yet"), "{said}");
    let said = manager.succeed(&["cluster", "remove", ALIAS, "db"]);
    assert!(said.contains("Removed machine db"), "{said}");
    assert_eq!(manager.read("cluster.toml").trim_end(), before.trim_end());
}

#[test]
fn of_two_edits_at_once_none_is_lost() {
    let cluster = Cluster::running(&["web01"]);
    let manager = &cluster.manager;
    let ids: Vec<String> = (1..7)
        .map(|seed| {
            malai_cluster::SecretSeed::from_bytes([seed; 32])
                .id()
                .to_string()
        })
        .collect();
    std::thread::scope(|scope| {
        for (number, id) in ids.iter().enumerate() {
            scope.spawn(move || {
                manager.succeed(&["cluster", "add", ALIAS, &format!("m{number}"), id])
            });
        }
    });
    let text = manager.read("cluster.toml");
    assert!(ids.iter().all(|id| text.contains(id)), "{text}");
    manager.succeed(&["rescan", "--check"]);
    until("all of it is published", || {
        let facts = manager.facts().to_string();
        ids.iter().all(|id| facts.contains(id))
    });
}

/// With any number of sessions, the reason reaches the client before the connection ends.
#[test]
fn a_removed_machine_is_cut_off_and_told_why() {
    let cluster = Cluster::running(&["web01", "laptop", "desk", "pad"]);
    let (manager, web01) = (&cluster.manager, cluster.machine("web01"));
    // One of them has no daemon: its client makes its own connection.
    cluster.machine("pad").stop();
    for name in ["laptop", "pad"] {
        let home = cluster.machine(name);
        let sessions: Vec<_> = (0..4).map(|_| endless(home, "web01.company")).collect();
        let to_it = (name == "laptop").then(|| endless(manager, "laptop.company"));
        let others = endless(cluster.machine("desk"), "web01.company");
        let typed = Instant::now();
        let remove = manager.spawn(&["cluster", "remove", ALIAS, name]);
        let cut_off = |(child, pid): (Child, u32), words: &str| {
            let output = finish(child, Vec::new());
            assert_eq!(output.code, 255, "{}", output.shown());
            assert!(output.stderr.contains(words), "{}", output.shown());
            // It takes a second from the arrival of the new configuration; the rest is for a busy computer. Without the
            // message, it would end after 30 s of silence.
            let took = typed.elapsed();
            eprintln!("{name}: {took:?}");
            assert!(took < Duration::from_secs(15), "{took:?}");
            until("its end there", || !lives(pid));
        };
        let ended =
            "ended because the configuration has changed: this key is not a member of the cluster";
        for session in sessions {
            cut_off(session, ended);
        }
        if let Some(session) = to_it {
            cut_off(session, "is not in this cluster's configuration");
        }
        // The command waits for machines that cannot be reached.
        let said = finish(remove, Vec::new());
        assert!(
            said.out().contains(&format!("Removed machine {name}")),
            "{}",
            said.shown()
        );
        // Commands from it and to it are refused.
        for target in ["web01.company", "boss.company"] {
            home.run(&[target, "true"])
                .refused("is not in this cluster's configuration");
        }
        let target = format!("{name}.company");
        for home in [manager, web01] {
            home.run(&[&target, "true"])
                .refused(&format!("unknown machine `{name}`"));
        }
        // Its key asks to join again, and the manager knows whose it was.
        until("its former name", || {
            let former = format!("; it was {name} until revision ");
            manager.status().contains(&former)
        });
        // The other members are not affected.
        let (mut child, pid) = others;
        assert!(child.try_wait().unwrap().is_none() && lives(pid));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

/// The manager's key is stolen: from then on the machine follows another one, without a restart.
#[test]
fn a_machine_that_follows_another_manager_obeys_the_old_one_no_longer() {
    let cluster = Cluster::running(&["web01"]);
    let web01 = cluster.machine("web01");
    let old = cluster.id_of("web01");
    assert_eq!(cluster.manager.run(&["web01.company", "true"]).code, 0);

    let successor = Cluster::new(&[]);
    successor.manager.start();
    let refused = web01.run(&["machine", "init", &successor.id, "company"]);
    assert!(
        refused.code == 1 && refused.stderr.contains("--replace"),
        "{}",
        refused.shown()
    );
    let said = web01.succeed(&["machine", "init", "--replace", &successor.id, "company"]);
    assert!(said.contains("The running daemon has loaded it"), "{said}");
    assert_ne!(cluster.id_of("web01"), old);
    successor.edit(|text| format!("{text}\n{}", section(&said, "web01")));
    successor.rescan_everywhere();
    until("a command under the new manager", || {
        successor.manager.run(&["web01.company", "true"]).code == 0
    });
    let refused = cluster.manager.run(&["web01.company", "true"]);
    assert_eq!(refused.code, 255, "{}", refused.shown());
    let kept: Vec<_> = std::fs::read_dir(web01.path.join("replaced"))
        .unwrap()
        .collect();
    assert_eq!(kept.len(), 1);
}
