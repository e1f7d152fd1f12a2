//! A daemon does not start while anything hand-written is invalid, and lists all of it.

use std::fs;

use crate::harness::Cluster;

#[test]
fn every_problem_of_every_file_is_listed() {
    let cluster = Cluster::new(&["web01"]);
    let manager = &cluster.manager;
    manager.succeed(&["cluster", "init", "other"]);
    let good = manager.read("cluster.toml");
    let text = good.replace("allow_from = \"*\"", "allow_form = \"*\"");
    manager.write(
        "cluster.toml",
        &format!("{text}\n[machine.Bad_Name]\nid52 = \"x\"\n"),
    );
    let other = manager.path.join("clusters/other/cluster.toml");
    let other_text = fs::read_to_string(&other).unwrap();
    fs::write(
        &other,
        format!("{other_text}\n[group.g]\nmembers = \"nobody\"\n"),
    )
    .unwrap();
    let settings = manager.path.join("malai.toml");
    fs::write(&settings, "[network]\nreech = \"lan\"\n").unwrap();
    for args in [&["daemon"][..], &["daemon", "--foreground"]] {
        let output = manager.run(args);
        assert_eq!((output.code, output.out()), (1, ""), "{}", output.shown());
        for words in [
            "allow_form",
            "Bad_Name",
            "nobody",
            "reech",
            "company/cluster.toml:",
            "other/cluster.toml:",
            "malai.toml:",
            "malai rescan --check",
        ] {
            assert!(
                output.stderr.contains(words),
                "no {words:?} in {}",
                output.shown()
            );
        }
        assert!(
            output.stderr.matches("allow_form").count() >= 2,
            "each of them: {}",
            output.shown()
        );
    }
    assert!(!manager.is_held());
    assert_eq!(manager.run(&["status"]).code, 1);
    // One after the other is mended; it starts when all are.
    manager.write("cluster.toml", &good);
    assert_eq!(manager.run(&["daemon"]).code, 1);
    fs::write(&other, &other_text).unwrap();
    let output = manager.run(&["daemon"]);
    assert_eq!(output.code, 1);
    assert!(
        output.stderr.contains("malai.toml:") && output.stderr.contains("reech"),
        "{}",
        output.shown()
    );
    fs::remove_file(&settings).unwrap();
    manager.start();
}
