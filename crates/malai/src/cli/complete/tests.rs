//! Tests of what fits where.

use malai_node::MachineNames;

use super::*;

fn names() -> Names {
    let machine = |name: &str, commands: &[&str]| MachineNames {
        name: name.into(),
        commands: commands.iter().map(|name| (*name).into()).collect(),
    };
    Names {
        clusters: vec![
            ClusterNames {
                alias: "company".into(),
                managed: true,
                machines: vec![
                    machine("web01", &["restart-nginx", "reload"]),
                    machine("db", &[]),
                ],
                groups: vec!["admins".into()],
                services: vec!["grafana".into(), "pg".into()],
            },
            ClusterNames {
                alias: "work".into(),
                managed: false,
                machines: vec![machine("web02", &[])],
                groups: vec![],
                services: vec![],
            },
        ],
        aliases: vec!["shop".into()],
    }
}

/// What fits for a line, whose last word is where the cursor is.
fn fits(line: &str) -> Vec<String> {
    let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
    let found = candidates(&crate::cli::declaration(), &names(), &words);
    found.into_iter().map(|candidate| candidate.text).collect()
}

#[test]
fn verbs_targets_groups_and_aliases_come_first() {
    assert_eq!(fits("web"), ["web01.company", "web02.work"]);
    assert_eq!(fits("web01.c"), ["web01.company"]);
    assert_eq!(fits("@"), ["@admins.company"]);
    assert_eq!(fits("res"), ["restart", "rescan"]);
    assert_eq!(fits("db.company,web02"), ["db.company,web02.work"]);
    let all = fits("");
    for word in ["status", "cluster", "shop", "db.company"] {
        assert!(all.contains(&word.to_owned()), "{all:?}");
    }
    assert!(!all.contains(&"reaper".to_owned()), "{all:?}");
    assert!(fits("--v").contains(&"--version".to_owned()));
}

#[test]
fn services_are_known_to_the_verbs_that_take_them() {
    assert_eq!(fits("forward 5432 "), ["grafana.company", "pg.company"]);
    assert_eq!(fits("forward 5432 pg.company 80 gr"), ["grafana.company"]);
    assert_eq!(fits("forward - p"), ["pg.company"]);
    assert_eq!(fits("forward pg"), [""; 0]);
    assert_eq!(fits("why web01 pg"), ["pg.company"]);
    assert_eq!(fits("ping pg"), [""; 0]);
}

#[test]
fn targets_are_known_to_every_verb_that_takes_them() {
    assert_eq!(fits("cp web01"), ["web01.company:"]);
    assert_eq!(fits("cp -r a web01"), ["web01.company:"]);
    assert_eq!(fits("cp web@db"), ["web@db.company:"]);
    assert_eq!(fits("ssh web01"), ["web01.company"]);
    assert_eq!(fits("ssh -t web@web01"), ["web@web01.company"]);
    assert!(fits("ssh web01.company web").is_empty());
    assert_eq!(fits("web@db.c"), ["web@db.company"]);
    assert_eq!(fits("-x db"), ["db.company"]);
    assert_eq!(fits("--exclude=db"), ["--exclude=db.company"]);
    assert_eq!(fits("help clu"), ["cluster"]);
    assert_eq!(fits("help cluster app"), ["approve"]);
    let files = |line: &str| {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        wants_files(&crate::cli::declaration(), &words)
    };
    for line in ["cp no", "cp a ", "cp a /etc/x:", "web01.company cat "] {
        assert!(files(line), "{line}");
    }
    for line in ["cp web01.company:", "cp --", "help ", "ssh web01.company "] {
        assert!(!files(line), "{line}");
    }
}

#[test]
fn a_targets_own_commands_follow_it_and_nothing_else() {
    for line in ["web01.company re", "exec web01.company re"] {
        assert_eq!(fits(line), ["restart-nginx", "reload"], "{line}");
    }
    assert_eq!(fits("why db web01.company re"), ["restart-nginx", "reload"]);
    assert!(fits("web01.company reload ").is_empty());
    assert!(fits("nowhere.company ").is_empty());
}

#[test]
fn each_place_has_its_own_kind_of_names() {
    for (line, expected) in [
        ("exec db", &["db.company"][..]),
        ("exec -n --parallel 3 db", &["db.company"]),
        ("--timeout 30s -n web01", &["web01.company"]),
        ("--timeout 30s web01.company rel", &["reload"]),
        ("exec --timeout ", &[]),
        ("--parallel ", &[]),
        ("exec --par", &["--parallel"]),
        ("--par", &["--parallel"]),
        ("rescan ", &["company", "work"]),
        ("rescan --check w", &["work"]),
        ("cluster re", &["revoke-invite", "rename", "remove"]),
        ("cluster edit ", &["company"]),
        ("cluster leave ", &["work"]),
        ("cluster set company d", &["db"]),
        ("cluster set company db --add-group ", &["admins"]),
        (
            "cluster set company db --unset allow-",
            &["allow-from", "allow-shell", "allow-files", "allow-forward"],
        ),
        ("cluster show company a", &["admins"]),
        ("status ", &["company", "work"]),
        ("id w", &["work"]),
        ("list ", &["company", "work"]),
        ("ping db.company,web02", &["db.company,web02.work"]),
        ("cluster remove ", &["company"]),
        ("cluster remove company ", &["web01", "db"]),
        ("cluster add company new id --allow-from w", &["web01"]),
        (
            "cluster add company new id --allow-from web01,a",
            &["web01,admins"],
        ),
        (
            "cluster add company new id --allow-from=a",
            &["--allow-from=admins"],
        ),
        ("machine init --replace id ", &["work"]),
        ("cluster init ", &[]),
        ("audit --cluster ", &["company", "work"]),
        ("audit -f --from d", &["db"]),
        ("why a", &["admins"]),
        ("why admins d", &["db.company"]),
        ("completions ", &["bash", "zsh", "fish"]),
        ("man resc", &["rescan"]),
        ("man cluster a", &["add", "approve"]),
        ("status --j", &["--json"]),
        (
            "rescan --",
            &["--check", "--json", "--publish-older", "--help"],
        ),
        ("stop ", &[]),
    ] {
        assert_eq!(fits(line), expected, "{line}");
    }
}

#[test]
fn file_names_fit_only_where_a_command_is_typed() {
    let declaration = crate::cli::declaration();
    for (line, expected) in [
        ("web01.company cat /e", true),
        ("exec web01.company cat /e", true),
        ("man --out /u", true),
        ("-x /e", false),
        ("sessions end 1", false),
        ("cluster add company web02 x", false),
        ("web", false),
    ] {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        assert_eq!(wants_files(&declaration, &words), expected, "{line}");
    }
}
