//! A new computer joins with one line: the manager's invitation, `malai join`, and what is said when it does not work.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::Value;

use crate::harness::{ALIAS, Cluster, Home, Output, finish, until};

/// A running manager that allows everyone everything, and the home of a new computer.
fn world() -> (Cluster, Home) {
    let cluster = Cluster::new(&[]);
    cluster.edit(|text| format!("{text}\n[group.web]\nmembers = \"boss\"\n"));
    cluster.manager.start();
    let new = Home::at(cluster.folder().join("new"));
    (cluster, new)
}

fn invite(manager: &Home, options: &[&str]) -> String {
    let args = [&["cluster", "invite", ALIAS, "--allow-from", "*"], options].concat();
    let line = manager.succeed(&args);
    line.trim().to_owned()
}

fn invitations(manager: &Home) -> Vec<Value> {
    let text = manager.succeed(&["cluster", "invites", ALIAS, "--json"]);
    serde_json::from_str(&text).expect("JSON")
}

#[track_caller]
fn refused(output: &Output, words: &str) {
    assert_eq!(output.code, 1, "{}", output.shown());
    assert!(output.stderr.contains(words), "{}", output.shown());
}

#[test]
fn a_computer_with_a_daemon_joins_and_is_used_at_once() {
    let (cluster, new) = world();
    let line = invite(&cluster.manager, &["--name", "web*", "--group", "web"]);
    new.start();
    let joined = new.run(&["join", &line, "--name", "web03"]);
    assert!(
        joined
            .clean()
            .ends_with("web03.company: joined, in group web\n"),
        "{}",
        joined.shown()
    );
    let ran = cluster.manager.run(&["web03.company", "echo", "it runs"]);
    assert_eq!(ran.clean(), "it runs\n");
    eprintln!(
        "joined after {:?}, first command {:?}",
        joined.took, ran.took
    );
    let text = cluster.manager.read("cluster.toml");
    assert!(text.contains("[machine.web03]"), "{text}");
    // The secret is gone here, and was never there.
    assert!(!new.file("invitation").exists());
    let [invited] = &invitations(&cluster.manager)[..] else {
        panic!("one invitation");
    };
    assert_eq!(
        (&invited["uses_left"], &invited["open"]),
        (&0.into(), &false.into())
    );
    assert_eq!(invited["used"][0]["name"], "web03");
    let id = invited["id"].as_str().unwrap();
    assert!(
        cluster
            .manager
            .status()
            .contains(&format!("web03 has joined with the invitation {id}"))
    );
    let audit = cluster.manager.succeed(&["audit"]);
    assert!(
        audit.contains(&format!("as web03 · by the invitation {id}")),
        "{audit}"
    );
    // A second computer is told who was first.
    let second = Home::at(cluster.folder().join("second"));
    let late = second.run(&["join", &line]);
    refused(&late, "it was used already: by web03");
    assert!(
        second.status().contains("Join with another"),
        "{}",
        second.status()
    );
    // A removed machine does not come back with the same line.
    cluster
        .manager
        .succeed(&["cluster", "remove", ALIAS, "web03"]);
    let again = new.run(&["join", &line, "--name", "web03"]);
    refused(&again, "was removed since");
}

#[test]
fn a_computer_without_a_daemon_joins_and_is_told_to_start_one() {
    let (cluster, new) = world();
    let line = invite(&cluster.manager, &["--name", "db"]);
    let joined = new.run_with(&["join", "-", "work"], line.as_bytes());
    let said = joined.clean();
    assert!(said.contains("db.work: joined, in no group\n"), "{said}");
    assert!(said.contains("malai daemon"), "{said}");
    assert!(!new.is_held());
    new.start();
    let ran = cluster.manager.run(&["db.company", "echo", "on"]);
    assert_eq!(ran.clean(), "on\n");
}

#[test]
fn each_problem_has_its_own_sentence() {
    let (cluster, new) = world();
    let (manager, line) = (&cluster.manager, |name| {
        invite(&cluster.manager, &["--name", name])
    });
    let whole = line("web*");
    let mistyped = new.run(&["join", &whole[..whole.len() - 3]]);
    assert_eq!(mistyped.code, 2, "{}", mistyped.shown());
    assert!(
        mistyped.stderr.contains("cut off after"),
        "{}",
        mistyped.shown()
    );
    let other = match whole.ends_with('0') {
        true => "1",
        false => "0",
    };
    let changed = format!("{}{other}{}", &whole[..60], &whole[61..]);
    if changed != whole {
        let changed = new.run(&["join", &changed]);
        assert!(
            changed.stderr.contains("copy it again") || changed.stderr.contains("Copy it again"),
            "{}",
            changed.shown()
        );
    }
    // Nothing was made of these.
    assert!(!new.file("manager").exists());
    refused(
        &new.run(&["join", &whole, "--name", "db1"]),
        "names like web*, not for db1",
    );
    refused(
        &new.run(&["join", &line("boss2"), "--name", "other"]),
        "the name boss2, not for other",
    );
    let taken = invite(manager, &["--name", "b*"]);
    refused(
        &new.run(&["join", &taken, "--name", "boss"]),
        "already has a machine boss",
    );
    let expired = invite(manager, &["--name", "web1", "--expires", "1ms"]);
    refused(&new.run(&["join", &expired]), "it expired at");
    let all = invitations(manager);
    let last = all.iter().find(|invited| invited["names"] == "b*").unwrap();
    let id = last["id"].as_str().unwrap();
    manager.succeed(&["cluster", "revoke-invite", ALIAS, id]);
    refused(
        &new.run(&["join", &taken, "--name", "bee"]),
        "it was revoked at",
    );
    std::fs::remove_file(manager.file(&format!("invitations/{id}.toml"))).unwrap();
    refused(
        &new.run(&["join", &taken, "--name", "bee"]),
        "does not know the invitation",
    );
    let unknown = manager.run(&["cluster", "revoke-invite", ALIAS, "7k3m9p2q"]);
    refused(&unknown, "there is no invitation 7k3m9p2q");
    let group = manager.run(&["cluster", "invite", ALIAS, "--name", "x", "--group", "nope"]);
    refused(&group, "there is no group `nope`");
    // All of this was one computer with one key, which can still join.
    let joined = new.run(&["join", &whole, "--name", "web9"]);
    assert!(
        joined.clean().contains("web9.company: joined"),
        "{}",
        joined.shown()
    );
}

#[test]
fn a_manager_that_sleeps_is_waited_for() {
    let (cluster, new) = world();
    let line = invite(&cluster.manager, &["--name", "web03"]);
    cluster.manager.stop();
    // Without a daemon nobody would go on.
    let alone = new.run(&["join", &line]);
    refused(&alone, "start the daemon, which goes on asking");
    new.start();
    let mut waiting = new
        .command(&["join", &line])
        .stdout(Stdio::piped())
        .spawn()
        .expect("malai starts");
    let mut lines = BufReader::new(waiting.stdout.take().unwrap()).lines();
    let said = lines.find(|line| {
        line.as_ref()
            .is_ok_and(|line| line.contains("may be asleep"))
    });
    said.expect("a line").expect("text");
    let status = new.status();
    assert!(
        status.contains("joins with an invitation as soon as its manager can be reached"),
        "{status}"
    );
    cluster.manager.start();
    let said = lines.find(|line| {
        line.as_ref()
            .is_ok_and(|line| line.contains("web03.company: joined"))
    });
    said.expect("a line").expect("text");
    assert_eq!(finish(waiting, Vec::new()).code, 0);
}

/// The manager is killed between every two steps. Afterwards the same computer gets in, and no other.
#[test]
fn a_manager_that_is_killed_lets_in_neither_two_nor_none() {
    let (cluster, _) = world();
    let manager = &cluster.manager;
    for (number, place) in ["before-use", "after-use", "after-edit", "after-publish"]
        .into_iter()
        .enumerate()
    {
        manager.stop();
        let started = manager
            .command(&["daemon"])
            .env("MALAI_TEST_KILL_AT", place)
            .output()
            .expect("malai runs");
        manager.started(&String::from_utf8_lossy(&started.stdout));
        let name = format!("web{number}");
        let line = invite(manager, &["--name", &name, "--group", "web"]);
        let new = Home::at(cluster.folder().join(&name));
        new.start();
        let asking = new.spawn(&["join", &line]);
        manager.wait_for_end();
        manager.start();
        let thief = Home::at(cluster.folder().join(format!("thief{number}")));
        if place != "before-use" {
            refused(&thief.run(&["join", &line]), "it was used already: by");
        }
        let joined = finish(asking, Vec::new());
        assert!(
            joined
                .clean()
                .contains(&format!("{name}.company: joined, in group web")),
            "{place}: {}",
            joined.shown()
        );
        refused(&thief.run(&["join", &line]), "it was used already: by");
        let used = invitations(manager)
            .into_iter()
            .find(|invited| invited["names"] == name.as_str());
        assert_eq!(
            used.unwrap()["used"].as_array().map(Vec::len),
            Some(1),
            "{place}"
        );
        until("the use to be finished", || {
            let files = std::fs::read_dir(manager.file("invitations")).unwrap();
            files.flatten().all(|file| {
                let text = std::fs::read_to_string(file.path()).unwrap();
                !text.contains("joined = false")
            })
        });
        let ran = manager.run(&[&format!("{name}.company"), "echo", "on"]);
        assert_eq!(ran.clean(), "on\n", "{place}");
    }
}

/// The manager's folder comes back from a backup that was made before an invitation was used.
#[test]
fn a_restored_backup_revives_no_invitation() {
    let (cluster, new) = world();
    let manager = &cluster.manager;
    let line = invite(manager, &["--name", "web*", "--uses", "1"]);
    manager.stop();
    let clusters = manager.path.join("clusters");
    let backup = cluster.folder().join("backup");
    let copy = |from: &std::path::Path, to: &std::path::Path| {
        let copied = std::process::Command::new("cp")
            .arg("-a")
            .args([from, to])
            .status();
        assert!(copied.expect("cp runs").success());
    };
    copy(&clusters, &backup);
    manager.start();
    new.start();
    let joined = new.run(&["join", &line, "--name", "web1"]);
    assert!(
        joined.clean().contains("web1.company: joined"),
        "{}",
        joined.shown()
    );
    manager.stop();
    std::fs::remove_dir_all(&clusters).unwrap();
    copy(&backup, &clusters);
    manager.start();
    // The machine that joined shows the manager what it has forgotten.
    new.run(&["ping", "boss.company", "--count", "1"]);
    until("the newer revision to be seen", || {
        manager.file("newer").exists()
    });
    let thief = Home::at(cluster.folder().join("thief"));
    let late = thief.run(&["join", &line, "--name", "web2"]);
    refused(&late, "restored from a backup");
    let [invited] = &invitations(manager)[..] else {
        panic!("one invitation");
    };
    assert_eq!(
        invited["revoked_because"],
        "its manager was restored from a backup"
    );
    // Once the administrator has settled it, the invitation stays revoked.
    manager.succeed(&["rescan", ALIAS, "--publish-older"]);
    refused(
        &thief.run(&["join", &line, "--name", "web2"]),
        "it was revoked at",
    );
}
