//! `malai.toml` while a daemon runs: what a rescan applies at once, what it says about the rest, and that a mistake
//! changes nothing. `[accept]`, `[limits]` and `audit` have their own test files.

use serde_json::Value;

use crate::harness::{Cluster, Home, until};

fn write(home: &Home, text: &str) {
    std::fs::write(home.path.join("malai.toml"), text).unwrap();
}

#[test]
fn aliases_hold_as_soon_as_they_are_written() {
    let cluster = Cluster::running(&["web01"]);
    let home = &cluster.manager;
    assert_eq!(home.run(&["here", "true"]).code, 2, "no such command");
    write(
        home,
        "[aliases]\nhere = \"boss.company\"\nall = \"boss.company,web01.company\"\n",
    );
    let file = home.path.join("sent");
    std::fs::write(&file, "x").unwrap();
    let (from, to) = (file.display(), home.path.join("arrived"));
    home.run(&["here", "true"]).clean();
    home.run(&["exec", "here", "true"]).clean();
    home.run(&["ssh", "here", "true"]).clean();
    home.run(&["cp", &format!("{from}"), &format!("here:{}", to.display())])
        .clean();
    assert!(to.exists());
    home.succeed(&["ping", "here"]);
    home.succeed(&["why", "boss", "here", "ls"]);
    assert_eq!(home.run(&["all", "echo", "x"]).clean().lines().count(), 2);
    let some = home.run(&["-x", "here", "all", "echo", "x"]);
    assert_eq!(some.clean(), "web01: x\n");
    let json = home.run(&["--json", "here", "true"]);
    assert!(json.clean().contains("\"boss\""), "{}", json.shown());

    write(home, "");
    assert_eq!(home.run(&["here", "true"]).code, 2, "the alias is gone");
    home.run(&["boss.company", "true"]).clean();
}

#[test]
fn the_log_changes_its_level_and_its_format_at_once() {
    let cluster = Cluster::new(&[]);
    let home = &cluster.manager;
    // malai.toml applies only where the environment does not say otherwise.
    let started = home
        .command(&["daemon"])
        .env_remove("RUST_LOG")
        .output()
        .unwrap();
    let said = String::from_utf8(started.stdout).unwrap();
    home.started(&said);
    let run = |word: &str| home.run(&["boss.company", "echo", word]);

    run("first").clean();
    assert!(
        home.log().contains("allowed: echo first cluster=company"),
        "{}",
        home.log()
    );

    write(home, "[log]\nformat = \"json\"\n");
    home.succeed(&["rescan"]);
    let is_json = || {
        let log = home.log();
        log.lines()
            .last()
            .and_then(|line| serde_json::from_str::<Value>(line).ok())
    };
    until("a line of JSON", || {
        run("second\nforged").clean();
        is_json().is_some_and(|line| {
            line["message"] == "allowed: echo second\\nforged"
                && line["cluster"] == "company"
                && line["machine"] == "boss"
                && line["peer"].is_string()
                && line["session"].is_u64()
        })
    });

    write(home, "[log]\nlevel = \"error\"\n");
    home.succeed(&["rescan"]);
    until("silence", || {
        let before = home.log().len();
        run("third").clean();
        home.log().len() == before
    });
    assert!(!home.log().lines().any(|line| line.starts_with("forged")));
}

#[test]
fn what_waits_for_a_restart_is_said_and_a_mistake_changes_nothing() {
    let cluster = Cluster::running(&[]);
    let home = &cluster.manager;
    write(
        home,
        "[network]\nreach = \"lan\"\n[aliases]\nhere = \"boss.company\"\n",
    );
    // The tests' environment sets loopback, which takes precedence.
    let said = home.succeed(&["rescan"]);
    assert!(!said.contains("malai.toml"), "{said}");

    write(
        home,
        "[aliases]\nthere = \"boss.company\"\nstatus = \"boss.company\"\n[lgo]\n",
    );
    let refused = home.run(&["rescan"]);
    assert_eq!(refused.code, 1);
    for words in ["malai's own commands", "did you mean log?"] {
        assert!(refused.out().contains(words), "{}", refused.shown());
    }
    // A short name needs the file, a target does not.
    home.run(&["exec", "there", "true"])
        .refused("malai's own commands");
    home.run(&["boss.company,boss.company", "true"]).clean();
}

#[test]
fn another_reach_is_said_to_wait_for_a_restart() {
    let cluster = Cluster::new(&[]);
    let home = &cluster.manager;
    write(home, "[network]\nreach = \"loopback\"\n");
    let started = home
        .command(&["daemon"])
        .env_remove("MALAI_NETWORK")
        .output()
        .unwrap();
    let said = String::from_utf8(started.stdout).unwrap();
    home.started(&said);
    write(home, "[network]\nreach = \"lan\"\n");
    let said = home.succeed(&["rescan"]);
    assert!(
        said.contains("restart the daemon to apply reach `lan`"),
        "{said}"
    );
    let facts = home.run(&["boss.company", "true"]);
    facts.clean();
}
