//! A manager whose folder was restored from an old copy.

use std::process::Command;

use malai_cluster::SecretSeed;
use rustix::process::Signal;

use crate::harness::{ALIAS, Cluster, signal, until};

fn copy(from: &std::path::Path, to: &std::path::Path) {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(done.unwrap().success());
}

/// Adds a group, to tell revisions apart.
fn mark(text: &str, member: &str) -> String {
    format!("{text}\n[group.{member}-was-here]\nmembers = \"boss\"\n")
}

fn restored(edited_before_the_start: bool) {
    let cluster = Cluster::running(&["web01", "laptop"]);
    let manager = &cluster.manager;
    let clusters = manager.path.join("clusters");
    let backup = cluster.folder().join("backup");
    copy(&clusters, &backup);
    cluster.edit(|text| mark(&text, "later"));
    cluster.rescan_everywhere();
    let newest = manager.revision();
    manager.stop();
    std::fs::remove_dir_all(&clusters).unwrap();
    copy(&backup, &clusters);
    if edited_before_the_start {
        cluster.edit(|text| mark(&text, "edited"));
    }
    manager.start();
    let notice = format!("members have revision {newest}");
    until("the manager to notice", || {
        manager.status().contains(&notice)
    });
    assert!(manager.revision() < newest);
    assert_eq!(manager.run(&["status"]).code, 1, "something has to be done");
    // malai says what would change and publishes nothing, even after a restart with another file.
    cluster.edit(|text| mark(&text, "again"));
    let refused = |args: &[&str]| {
        let output = manager.run(args);
        assert_eq!(output.code, 1, "{}", output.shown());
        let said = format!("{}{}", output.out(), output.stderr);
        for line in [
            &notice[..],
            "- [group.later-was-here] members = [\"boss\"]",
            "+ [group.again-was-here] members = [\"boss\"]",
            "malai rescan company --publish-older",
        ] {
            assert!(said.contains(line), "no {line:?} in {}", output.shown());
        }
    };
    let before = manager.read("cluster.toml");
    refused(&["rescan"]);
    refused(&["rescan", "company"]);
    refused(&["rescan", "--check", "company"]);
    refused(&[
        "cluster",
        "add",
        ALIAS,
        "new",
        &SecretSeed::from_bytes([5; 32]).id().to_string(),
    ]);
    refused(&["cluster", "remove", ALIAS, "laptop"]);
    assert_eq!(
        manager.read("cluster.toml"),
        before,
        "an edit that cannot be published"
    );
    signal(manager.pid(), Signal::HUP);
    until("the reload to be refused", || {
        manager.log().matches("nothing was published").count() >= 3
    });
    manager.stop();
    manager.start();
    assert!(manager.status().contains(&notice), "{}", manager.status());
    for name in ["web01", "laptop"] {
        assert_eq!(cluster.machine(name).revision(), newest);
    }
    let kept = std::fs::read_dir(clusters.join(ALIAS)).unwrap();
    let kept = kept.filter_map(|entry| std::fs::read_to_string(entry.unwrap().path()).ok());
    assert!(
        kept.into_iter().any(|text| text.contains("later-was-here")),
        "not kept for comparison"
    );
    // The administrator confirms it: that file is in force from now on.
    manager.succeed(&["rescan", ALIAS, "--publish-older"]);
    let machine = cluster
        .machine("web01")
        .run(&["rescan", ALIAS, "--publish-older"]);
    assert_eq!(machine.code, 1, "{}", machine.shown());
    assert!(
        machine.stderr.contains("only its manager publishes"),
        "{}",
        machine.shown()
    );
    cluster.rescan_everywhere();
    assert!(manager.revision() > newest);
    for name in ["web01", "laptop"] {
        let home = cluster.machine(name);
        let text = home.read("machine.toml");
        assert!(
            text.contains("again-was-here") && !text.contains("later-was-here"),
            "{text}"
        );
        assert_eq!(text.contains("edited-was-here"), edited_before_the_start);
        assert!(!home.status().contains("fork"), "{}", home.status());
    }
    let status = manager.status();
    assert!(
        !status.contains("fork") && !status.contains("members have revision"),
        "{status}"
    );
    assert_eq!(
        manager.run(&["web01.company", "echo", "on"]).clean(),
        "on\n"
    );
}

/// The command that the refusal suggests puts the members' configuration in force again.
#[test]
fn the_newer_revision_can_be_kept() {
    let cluster = Cluster::running(&["web01"]);
    let manager = &cluster.manager;
    let clusters = manager.path.join("clusters");
    let backup = cluster.folder().join("backup");
    copy(&clusters, &backup);
    cluster.edit(|text| mark(&text, "later"));
    cluster.rescan_everywhere();
    let newest = manager.revision();
    // The folder is restored under the running daemon, which knows what it had published.
    std::fs::remove_dir_all(clusters.join(ALIAS)).unwrap();
    copy(&backup.join(ALIAS), &clusters);
    let output = manager.run(&["rescan", ALIAS]);
    assert_eq!(output.code, 1, "{}", output.shown());
    assert!(
        output.out().contains("- [group.later-was-here]"),
        "{}",
        output.shown()
    );
    assert_eq!(manager.revision(), newest);
    let hint = output.out().lines().find_map(|line| {
        line.trim()
            .strip_prefix(&format!("to keep revision {newest}: "))
    });
    let (files, rescan) = hint.expect("a hint").rsplit_once(" && ").unwrap();
    assert_eq!(rescan, format!("malai rescan {ALIAS}"));
    let file = clusters.join(ALIAS).join("cluster.toml");
    let before = std::fs::read_to_string(&file).unwrap();
    let sh = std::process::Command::new("sh")
        .args(["-c", files])
        .status();
    assert!(sh.unwrap().success());
    // Comments are not signed: the old file is kept for them.
    let old = std::fs::read_to_string(file.with_extension("toml.old")).unwrap();
    assert_eq!(old, before);
    assert_ne!(std::fs::read_to_string(&file).unwrap(), before);
    manager.succeed(&["rescan", ALIAS]);
    assert_eq!(manager.revision(), newest);
    let status = manager.run(&["status"]);
    assert_eq!(status.code, 0, "{}", status.shown());
    // It publishes as before.
    cluster.edit(|text| mark(&text, "next"));
    cluster.rescan_everywhere();
    assert!(manager.revision() > newest);
}

#[test]
fn with_the_file_that_it_had_published_then() {
    restored(false);
}

#[test]
fn with_a_file_that_was_edited_since() {
    restored(true);
}
