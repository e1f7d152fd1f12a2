//! What a computer's owner accepts, as a daemon reads it at start and after a rescan. What the settings mean is tested
//! in `malai-node/tests/pair/accept.rs`.

use crate::harness::{ALIAS, Cluster, Home};

fn settings(home: &Home, text: &str) {
    std::fs::write(home.path.join("malai.toml"), text).unwrap();
}

const FROM: &str = "malai.toml accept.company.from on that computer does not accept you";

#[test]
fn nothing_is_accepted_by_a_file_that_is_wrong() {
    let cluster = Cluster::running(&["web01"]);
    let web01 = cluster.machine("web01");
    let run = || cluster.manager.run(&["web01.company", "echo", "on"]);
    settings(web01, "[accept.company]\nfrom = \"web01\"\n");
    web01.succeed(&["rescan"]);
    run().refused(FROM);
    for wrong in [
        "[accept.company]\nform = \"*\"\n",
        "[accept.company]\nfrom = \"*\n",
        "[accept.companny]\nfrom = []\n",
    ] {
        settings(web01, wrong);
        for args in [&["rescan"][..], &["rescan", ALIAS], &["rescan", "--check"]] {
            let output = web01.run(args);
            assert_eq!(output.code, 1, "{}", output.shown());
            assert!(output.out().contains("malai.toml"), "{}", output.shown());
        }
        // The settings in force stay.
        run().refused(FROM);
    }
    web01.stop();
    let output = web01.run(&["daemon"]);
    assert_eq!(output.code, 1, "{}", output.shown());
    assert!(
        output.stderr.contains("did you mean `company`?"),
        "{}",
        output.shown()
    );

    // A name that is not in the cluster accepts nobody, and the check reports it.
    settings(web01, "[accept.company]\nfrom = \"bos\"\n");
    web01.start();
    run().refused(FROM);
    let said = web01.succeed(&["rescan", "--check"]);
    assert!(said.contains("did you mean `boss`?"), "{said}");
}
