//! What malai reports about others: machines that do not answer, a machine that was removed, and one that joined with a
//! machine's id52 instead of the manager's.

use rustix::process::Signal;

use crate::harness::{ALIAS, Cluster, Home, signal, until};

/// A daemon that is stopped by a signal until this is dropped.
struct Frozen(u32);

impl Frozen {
    fn new(home: &Home) -> Self {
        signal(home.pid(), Signal::STOP);
        Self(home.pid())
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        signal(self.0, Signal::CONT);
    }
}

fn doctor(home: &Home, code: i32) -> String {
    let output = home.run(&["doctor"]);
    assert_eq!(output.code, code, "{}", output.shown());
    output.out().to_owned()
}

#[test]
fn machines_that_do_not_answer_are_seen_by_everybody() {
    let cluster = Cluster::running(&["web01", "db", "laptop"]);
    let (manager, laptop) = (&cluster.manager, cluster.machine("laptop"));
    let all = manager.run(&["ping", "-c", "2", "*.company"]);
    assert_eq!(all.code, 0, "{}", all.shown());
    let lines: Vec<&str> = all.out().lines().collect();
    assert_eq!(lines.len(), 4, "{}", all.shown());
    for name in ["web01", "db", "laptop"] {
        let line = lines.iter().find(|line| line.contains(name)).unwrap();
        assert!(
            line.starts_with("✅") && line.contains("· direct, "),
            "{line}"
        );
    }
    assert!(
        all.out().contains("boss.company    this computer"),
        "{}",
        all.shown()
    );
    let list = laptop.succeed(&["list"]);
    assert!(list.starts_with("company: 4 machines"), "{list}");
    assert_eq!(list.matches("online").count(), 3, "{list}");
    assert!(doctor(laptop, 0).contains("company: 3 of 3 machines answer"));

    cluster.machine("web01").kill();
    let frozen = Frozen::new(cluster.machine("db"));
    for home in [manager, laptop] {
        let ping = home.run(&["ping", "--timeout", "2s", "-c", "1", "*.company"]);
        assert_eq!(ping.code, 1, "{}", ping.shown());
        assert!(
            ping.stderr.contains("2 of 4 machines do not answer"),
            "{}",
            ping.shown()
        );
        for name in ["web01", "db"] {
            let line = ping
                .out()
                .lines()
                .find(|line| line.contains(&format!("{name}.company")));
            let line = line.unwrap_or_default();
            assert!(
                line.starts_with("❌") && line.contains("does not answer: "),
                "{line}"
            );
        }
        let json = home.run(&["ping", "--timeout", "2s", "--json", "db.company"]);
        let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
        assert_eq!(json["answer"], "none");
        // The status remembers what was tried.
        let status = home.status();
        for name in ["web01", "db"] {
            let line = status
                .lines()
                .find(|line| line.contains(&format!("  {name} ")));
            let line = line.unwrap_or_else(|| panic!("{status}"));
            assert!(line.contains("⚠️") && line.contains("tried "), "{status}");
        }
        let list = home.succeed(&["list", "company"]);
        assert_eq!(list.matches("no answer").count(), 2, "{list}");
        assert!(doctor(home, 0).contains("these machines do not answer: db, web01"));
    }
    drop(frozen);
    cluster.machine("web01").start();
    until("both answer again", || {
        laptop
            .run(&["ping", "-c", "1", "web01.company,db.company"])
            .code
            == 0
    });
    let status = laptop.status();
    assert!(!status.contains("⚠️"), "{status}");
}

#[test]
fn a_failed_command_marks_its_machine_and_a_command_that_works_unmarks_it() {
    let cluster = Cluster::running(&["web01", "laptop"]);
    let (web01, laptop) = (cluster.machine("web01"), cluster.machine("laptop"));
    let marked = || {
        laptop.facts()["machines"]
            .as_array()
            .unwrap()
            .iter()
            .any(|machine| machine["name"] == "web01" && machine["state"] == "not-answering")
    };
    web01.stop();
    laptop
        .run(&["web01.company", "true"])
        .refused("cannot reach web01");
    assert!(marked(), "{}", laptop.status());
    web01.start();
    until("web01 can be commanded", || {
        laptop.run(&["web01.company", "true"]).code == 0
    });
    assert!(!marked(), "{}", laptop.status());
}

#[test]
fn a_removed_machine_is_told_so_and_one_that_is_added_again_recovers() {
    let cluster = Cluster::running(&["web01", "laptop"]);
    let (manager, laptop) = (&cluster.manager, cluster.machine("laptop"));
    let id = cluster.id_of("laptop");
    assert_eq!(laptop.run(&["status"]).code, 0);
    manager.succeed(&["cluster", "remove", ALIAS, "laptop"]);
    until("the exit code of status says it", || {
        laptop.run(&["status"]).code == 1
    });
    let status = laptop.status();
    assert!(
        status.contains("❌ this machine is no longer in the cluster"),
        "{status}"
    );
    assert!(
        status.contains(&format!("malai cluster add <alias> <name> {id}")),
        "{status}"
    );
    assert!(
        doctor(laptop, 1).contains("❌ peers: company: this machine is no longer in the cluster")
    );
    let ping = laptop.run(&["ping", "web01.company"]);
    assert!(
        ping.out().contains("refuses this computer"),
        "{}",
        ping.shown()
    );

    manager.succeed(&["cluster", "add", ALIAS, "laptop", &id, "--allow-from", "*"]);
    until("it is a member again", || laptop.run(&["status"]).code == 0);
    assert_eq!(laptop.run(&["web01.company", "true"]).code, 0);
    assert!(!doctor(laptop, 0).contains("no longer in the cluster"));
}

#[test]
fn who_joins_with_a_machines_id_learns_that_it_is_not_the_managers() {
    let cluster = Cluster::running(&["web01"]);
    let (web01, folder) = (cluster.id_of("web01"), cluster.folder().join("pad"));
    let pad = Home::at(folder);
    pad.succeed(&["machine", "init", &web01, ALIAS]);
    pad.start();
    until("the exit code of status says it", || {
        pad.run(&["status"]).code == 1
    });
    let status = pad.status();
    assert!(status.contains("is not a manager's id52"), "{status}");
    assert!(
        status.contains(&format!(
            "malai machine init --replace {} company",
            cluster.id
        )),
        "{status}"
    );
    for wrong in ["ahead", "last reached", "Waiting for the first"] {
        assert!(!status.contains(wrong), "{status}");
    }
    let said = doctor(&pad, 1);
    assert!(said.contains("is not a manager's id52"), "{said}");
    assert!(!said.contains("malai cluster add"), "{said}");
    pad.run(&["web01.company", "true"])
        .refused("is not a manager's id52");
    // The suggested command works.
    let said = pad.succeed(&["machine", "init", "--replace", &cluster.id, ALIAS]);
    let section = crate::harness::section(&said, "pad");
    cluster.edit(|text| format!("{text}\n{section}"));
    cluster.manager.succeed(&["rescan", ALIAS]);
    until("pad is a member", || {
        pad.run(&["web01.company", "true"]).code == 0
    });
    assert_eq!(pad.run(&["status"]).code, 0, "{}", pad.status());
}

#[test]
fn without_a_daemon_machines_are_asked_directly() {
    let cluster = Cluster::running(&["web01", "laptop"]);
    let laptop = cluster.machine("laptop");
    laptop.stop();
    let ping = laptop.run(&["ping", "-c", "1", "web01.company"]);
    assert!(
        ping.code == 0 && ping.out().starts_with("✅ web01.company"),
        "{}",
        ping.shown()
    );
    let list = laptop.run(&["list"]);
    assert!(
        list.code == 0 && list.out().contains("online"),
        "{}",
        list.shown()
    );
    assert!(list.out().contains("this computer"), "{}", list.shown());
    let unknown = laptop.run(&["ping", "web02.company"]);
    assert!(
        unknown.code == 1 && unknown.stderr.contains("unknown machine"),
        "{}",
        unknown.shown()
    );
}
