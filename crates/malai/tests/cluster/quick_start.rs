//! The tutorial's Quick Start, typed exactly as written, and what its text promises.

use std::fs;

use crate::harness::{ALIAS, Cluster, Folder, Home, finish, section, until};

/// Every line, in order: the manager's daemon runs before the second machine exists.
#[test]
fn the_quick_start_as_it_is_written() {
    let folder = Folder::new();
    let manager = Home::at(folder.path().join("first"));
    let second = Home::at(folder.path().join("second"));

    manager.succeed(&["cluster", "init", "personal"]);
    manager.start();
    let status = manager.succeed(&["status"]);
    let id = status
        .lines()
        .find_map(|line| line.trim().strip_prefix("🆔 Manager: "))
        .unwrap_or_else(|| panic!("no manager's id52 in {status}"));

    let said = second.succeed(&["machine", "init", id, "personal"]);
    second.start();

    let file = manager.path.join("clusters/personal/cluster.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{text}\n{}", section(&said, "web01"))).unwrap();
    let said = manager.succeed(&["rescan", "personal"]);
    assert!(said.contains("web01: updated"), "{said}");

    let user = manager.run(&["web01.personal", "whoami"]);
    let own = std::process::Command::new("whoami").output().unwrap();
    assert_eq!(user.clean().as_bytes(), own.stdout);
    let processes = manager.run(&["web01.personal", "ps", "aux"]);
    assert!(
        processes.clean().contains("ps aux"),
        "{}",
        processes.shown()
    );
    let listed = manager.run(&["web01.personal", "ls", "/"]);
    assert!(listed.clean().contains("tmp\n"), "{}", listed.shown());
    let failed = manager.run(&["web01.personal", "sh", "-c", "exit 7"]);
    assert_eq!((failed.code, failed.stderr.as_str()), (7, ""));

    // The cluster can also be named by its id52.
    let by_id = manager.run(&[&format!("web01.{id}"), "echo", "found"]);
    assert_eq!(by_id.clean(), "found\n");
    // The manager is not listed as a machine, so it cannot be commanded.
    second
        .run(&["boss.personal", "true"])
        .refused("unknown machine `boss` in cluster `personal`");
}

#[test]
fn what_is_not_there_is_said() {
    let cluster = Cluster::with_routes();
    for route in cluster.routes() {
        let run = |target: &str| route.home.run(&[target, "echo", "wrong"]);
        run("web02.company").refused("unknown machine `web02` in cluster `company`");
        run("web02.company").refused("did you mean `web01.company`?");
        run("web01.compony").refused("unknown cluster `compony`; this home (");
        run("web_01.company").refused("");
        assert!(!route.home.run(&["web01"]).stderr.is_empty());
    }
}

/// Without `allow_from` nobody is allowed, neither on another machine nor on this one.
#[test]
fn who_is_not_allowed_is_refused() {
    let cluster = Cluster::with_routes();
    cluster.edit(|text| text.replace("allow_from = \"*\"\n", ""));
    cluster.machine("laptop").start();
    cluster.rescan_everywhere();
    cluster.machine("laptop").stop();
    for route in cluster.routes() {
        route.run(&["echo", "wrong"]).refused("allow_from");
    }
}

#[test]
fn the_second_daemon_of_a_home_exits_1() {
    let cluster = Cluster::running(&["web01"]);
    for args in [&["daemon"][..], &["daemon", "--foreground"]] {
        let second = cluster.manager.run(args);
        assert_eq!(second.code, 1, "{}", second.shown());
        let words = format!("(pid {})", cluster.manager.pid());
        assert!(second.stderr.contains(&words), "{}", second.shown());
    }
    let answer = cluster.manager.run(&["web01.company", "echo", "on"]);
    assert_eq!(answer.clean(), "on\n");
}

/// `malai daemon & malai web01.company echo …`, as in the tutorial.
#[test]
fn a_command_beside_a_starting_daemon() {
    let cluster = Cluster::running(&["web01"]);
    for _ in 0..5 {
        cluster.manager.stop();
        let daemon = cluster.manager.spawn(&["daemon"]);
        let command = cluster.manager.run(&["web01.company", "echo", "at once"]);
        let daemon = finish(daemon, Vec::new());
        assert_eq!(command.clean(), "at once\n");
        assert_eq!(daemon.code, 0, "{}", daemon.shown());
        cluster.manager.started(daemon.out());
    }
}

/// Init commands notify a running daemon, without a rescan.
#[test]
fn init_tells_a_running_daemon() {
    let folder = Folder::new();
    let (manager, machine) = (
        Home::at(folder.path().join("manager")),
        Home::at(folder.path().join("machine")),
    );
    manager.start();
    machine.start();
    let said = manager.succeed(&["cluster", "init", ALIAS]);
    assert!(said.contains("running daemon has loaded it"), "{said}");
    assert!(said.contains("1. On each machine"), "{said}");
    assert!(manager.revision() > 0);
    let id = said.lines().next().unwrap().rsplit_once(' ').unwrap().1;
    let said = machine.succeed(&["machine", "init", id, ALIAS]);
    assert!(said.contains("running daemon has loaded it"), "{said}");
    // A running daemon does not have to be started.
    assert!(!said.contains("Start the daemon"), "{said}");
    let facts = machine.facts();
    assert_eq!(facts["alias"], ALIAS, "{facts}");
    // The daemon itself asks to join: the manager lists it.
    let own = said.lines().next().unwrap().rsplit_once(' ').unwrap().1;
    until("the machine in the manager's list", || {
        manager.status().contains(&format!("⏳ {own} asks to join"))
    });
    assert!(
        manager
            .status()
            .contains("compare with what machine init printed")
    );
}
