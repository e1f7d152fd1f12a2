//! Commands that an administrator types while daemons run.

use std::io::{BufRead, BufReader};

use crate::harness::{ALIAS, Cluster, finish, until};

#[test]
fn a_change_is_published_and_ends_what_it_no_longer_allows() {
    let cluster = Cluster::running(&["web01", "laptop"]);
    let (manager, laptop) = (&cluster.manager, cluster.machine("laptop"));
    let mut session = laptop.spawn(&["web01.company", "sh", "-c", "echo on; sleep 60"]);
    let mut line = String::new();
    BufReader::new(session.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let said = manager.succeed(&["cluster", "set", ALIAS, "web01", "--allow-from", "boss"]);
    assert!(
        said.contains("- [machine.web01] allow_from = [\"*\"]"),
        "{said}"
    );
    assert!(
        said.contains("+ [machine.web01] allow_from = [\"boss\"]"),
        "{said}"
    );
    assert!(
        said.contains("published revision") && said.contains("web01: updated"),
        "{said}"
    );
    let ended = finish(session, Vec::new());
    assert_eq!(ended.code, 255, "{}", ended.shown());
    laptop.run(&["web01.company", "true"]).refused("allow_from");
    // A command that changes nothing publishes nothing.
    let said = manager.succeed(&["cluster", "set", ALIAS, "web01", "--allow-from", "boss"]);
    assert!(!said.contains("published"), "{said}");

    let said = manager.succeed(&["cluster", "rename", ALIAS, "web01", "www"]);
    assert!(said.contains("www: updated"), "{said}");
    assert_eq!(manager.succeed(&["www.company", "echo", "on"]), "on\n");
    manager
        .run(&["web01.company", "true"])
        .refused("unknown machine `web01`");
}

#[test]
fn a_cluster_is_served_under_its_new_alias_and_left_without_a_restart() {
    let cluster = Cluster::running(&["web01"]);
    let (manager, web01) = (&cluster.manager, cluster.machine("web01"));
    let said = manager.succeed(&["cluster", "rename", ALIAS, "corp"]);
    assert!(said.contains("serves it under the new name"), "{said}");
    until("a command under the new alias", || {
        manager.run(&["web01.corp", "echo", "on"]).code == 0
    });
    manager
        .run(&["web01.company", "true"])
        .refused("unknown cluster `company`");
    manager.succeed(&["cluster", "rename", "corp", ALIAS]);
    until("a command under the old one", || {
        manager.run(&["web01.company", "echo", "on"]).code == 0
    });

    let said = web01.succeed(&["cluster", "leave", ALIAS, "--yes"]);
    assert!(
        said.contains("The running daemon no longer serves it"),
        "{said}"
    );
    web01
        .run(&["boss.company", "true"])
        .refused("unknown cluster");
    manager
        .run(&["web01.company", "true"])
        .refused("cannot reach web01");
    let said = manager.succeed(&["cluster", "delete", ALIAS, "--yes"]);
    assert!(
        said.contains("The running daemon no longer serves it"),
        "{said}"
    );
}

#[test]
fn a_key_that_waits_is_approved_and_no_other() {
    let mut cluster = Cluster::running(&["web01"]);
    cluster.join("db");
    let (manager, db) = (&cluster.manager, cluster.machine("db"));
    let id = cluster.id_of("db");
    let before = manager.read("cluster.toml");
    let early = manager.run(&["cluster", "approve", ALIAS, "db", &id]);
    assert_eq!(early.code, 1, "{}", early.shown());
    assert!(early.stderr.contains("asks to join"), "{}", early.shown());
    assert_eq!(manager.read("cluster.toml"), before);
    db.start();
    until("db asks", || manager.status().contains(&id));
    let list = manager.succeed(&["cluster", "approve", ALIAS]);
    assert!(list.contains(&id), "{list}");
    let said = manager.succeed(&[
        "cluster",
        "approve",
        ALIAS,
        "db",
        &id,
        "--allow-from",
        "boss",
        "--group",
        "data",
    ]);
    assert!(said.contains("Added machine db"), "{said}");
    until("a command on db", || {
        manager.run(&["db.company", "echo", "on"]).code == 0
    });
    assert_eq!(
        manager.succeed(&["@data.company", "echo", "on"]),
        "db: on\n"
    );
    let again = manager.run(&["cluster", "approve", ALIAS, "db2", &id]);
    assert!(
        again.stderr.contains("belongs to a machine of company: db"),
        "{}",
        again.shown()
    );
}

#[test]
fn a_restart_is_refused_where_it_would_end_in_a_stop() {
    let cluster = Cluster::running(&["web01"]);
    let web01 = cluster.machine("web01");
    let old = web01.pid();
    let settings = web01.path.join("malai.toml");
    std::fs::write(&settings, "netwrok = 1\n").unwrap();
    let refused = web01.run(&["restart"]);
    assert!(
        refused.code == 1 && refused.stderr.contains("malai.toml"),
        "{}",
        refused.shown()
    );
    assert!(crate::harness::lives(old));
    std::fs::remove_file(&settings).unwrap();
    let said = web01.succeed(&["restart"]);
    let pid = said
        .split_once("(pid ")
        .unwrap()
        .1
        .split_once(')')
        .unwrap()
        .0;
    web01.own(pid.parse().unwrap());
    assert!(!crate::harness::lives(old), "{said}");
    assert_eq!(
        cluster.manager.succeed(&["web01.company", "echo", "on"]),
        "on\n"
    );
    web01.stop();
    let said = web01.succeed(&["restart"]);
    let pid = said
        .split_once("(pid ")
        .unwrap()
        .1
        .split_once(')')
        .unwrap()
        .0;
    web01.own(pid.parse().unwrap());
}

/// A daemon's end is the end of its sessions: what restarts it must not be in one of them.
#[test]
fn a_session_restarts_and_stops_the_daemon_that_it_runs_on() {
    let cluster = Cluster::with_routes();
    let web01 = cluster.machine("web01");
    // A session has the machine's environment, not that of this test.
    let line = |verb: &str, after: &str| {
        format!(
            "export MALAI_HOME={} MALAI_NETWORK=loopback; {} {verb}{after}",
            web01.path.display(),
            env!("CARGO_BIN_EXE_malai"),
        )
    };
    // Another pid than the old daemon's, which answers.
    let again = |old: u32| {
        let mut new = None;
        until("a new daemon", || {
            let status = web01.run(&["status", "--json"]).stdout;
            let status: serde_json::Value = serde_json::from_slice(&status).unwrap_or_default();
            let pid = status.pointer("/daemon/pid").and_then(|pid| pid.as_u64());
            new = pid.filter(|pid| *pid != u64::from(old));
            new.is_some()
        });
        web01.own(u32::try_from(new.unwrap()).unwrap());
        assert!(!crate::harness::lives(old));
    };
    for route in &cluster.routes()[..3] {
        let old = web01.pid();
        let said = route.run(&["sh", "-c", &line("restart", "; echo code $?")]);
        assert_eq!(said.code, 0, "{}", said.shown());
        assert!(
            said.out().contains("which ends this session") && said.out().ends_with("code 0\n"),
            "{}",
            said.shown()
        );
        again(old);
        assert_eq!(route.run(&["echo", "on"]).clean(), "on\n");
    }
    // On a terminal, the shell is ended with the daemon.
    let old = web01.pid();
    let route = cluster.routes()[0];
    let script = line("restart", "; exec sleep 1000");
    let words = ["-t", route.target, "sh", "-c", &script];
    let mut terminal = crate::terminal::Terminal::start(&route.home.command(&words));
    terminal.see("which ends this session");
    again(old);
    assert_eq!(terminal.code(), 255, "{}", terminal.screen());
    let said = route.run(&["sh", "-c", &line("stop", "; echo code $?")]);
    assert!(
        said.code == 0 && said.out().ends_with("which ends this session\ncode 0\n"),
        "{}",
        said.shown()
    );
    web01.wait_for_end();
}

#[test]
fn an_edit_that_is_not_published_is_seen() {
    let cluster = Cluster::running(&["web01"]);
    let manager = &cluster.manager;
    let status = manager.run(&["status"]);
    assert!(!status.out().contains("Unpublished"), "{}", status.shown());
    let id = "i66fo538lfl5ombdf6tcdbrabp4hmp9asv7nrffuc2im13ct4q60";
    cluster.edit(|text| format!("{text}\n[machine.new1]\nid52 = \"{id}\"\nallow_from = \"*\"\n"));
    let status = manager.run(&["status"]);
    assert!(
        status
            .out()
            .contains("📝 Unpublished changes: malai rescan company"),
        "{}",
        status.shown()
    );
    let doctor = manager.run(&["doctor"]);
    assert!(
        doctor
            .out()
            .contains("company: cluster.toml has unpublished changes"),
        "{}",
        doctor.shown()
    );
    manager.run(&["new1.company", "true"]).refused(
        "unknown machine `new1` in cluster `company`; it is in cluster.toml, but not published yet: malai rescan company",
    );
    manager.run(&["rescan", "company"]);
    let status = manager.run(&["status"]);
    assert!(!status.out().contains("Unpublished"), "{}", status.shown());
}
