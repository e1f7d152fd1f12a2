//! A forced command: whatever its members ask for, it runs in place of that.

use crate::harness::Cluster;

#[test]
fn whatever_is_asked_the_forced_command_runs() {
    let cluster = Cluster::running(&["web01"]);
    let manager = &cluster.manager;
    let rule = "\n[machine.web01.command.serve]\ncommand = \"sh -c 'echo \\\"forced: $SSH_ORIGINAL_COMMAND\\\"'\"\nforced = true\n";
    let path = manager.path.join("clusters/company/cluster.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{text}{rule}")).unwrap();
    manager.succeed(&["rescan", "company"]);
    for (words, expected) in [
        (
            &["web01.company", "borg", "serve", "a b"][..],
            "forced: borg serve 'a b'\n",
        ),
        (
            &["web01.company", "rm", "-rf", "/nothing"],
            "forced: rm -rf /nothing\n",
        ),
        (&["shell", "web01.company"], "forced: \n"),
    ] {
        assert_eq!(manager.run(words).clean(), expected, "{words:?}");
    }
}
