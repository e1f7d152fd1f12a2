//! A manager whose folder was restored from an old copy.

use std::process::Command;

use crate::harness::{ALIAS, Cluster, until};

fn copy(from: &std::path::Path, to: &std::path::Path) {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(done.unwrap().success());
}

/// A group with this member: content to tell revisions by.
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
    assert!(
        manager
            .status()
            .contains("nothing is published until `malai rescan company` is typed")
    );
    assert!(manager.revision() < newest);
    // Nothing by itself, not even when it starts again with another file.
    cluster.edit(|text| mark(&text, "again"));
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
    // A person says so: that file is what holds from now on.
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

#[test]
fn with_the_file_that_it_had_published_then() {
    restored(false);
}

#[test]
fn with_a_file_that_was_edited_since() {
    restored(true);
}
