//! Decisions: one row per reason, ways around the command list, and what must hold for any
//! configuration.

use expect_test::{Expect, expect};
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::cluster::Cluster;
use crate::testing::model::{self, decisions, layout, widens};
use crate::testing::*;

/// Two machines, a group within a group, command entries of every kind.
fn example() -> Cluster {
    cluster(&format!(
        r#"
[machine.web01]
id52 = "{WEB01}"
allow_from = "admins"
allow_shell = "laptop"
username = "web"
[machine.web01.command.restart-nginx]
command = "sudo systemctl restart nginx"
allow_from = "{MANAGER}"
username = "nginx"
[machine.web01.command."tail.log"]
command = "tail -n 5"
args = true
[machine.web01.command.nobody]
allow_from = []
[machine.web01.command.id]
allow_from = "*"
[machine.laptop]
id52 = "{LAPTOP}"
[machine.laptop.command.uptime]
allow_from = "*"
[machine.laptop.command.lonely]
[group.admins]
members = "on-call"
[group.on-call]
members = "{LAPTOP}"
"#
    ))
}

fn ask(from: &str, to: &str, words: &[&[u8]]) -> Decision {
    let argv: Vec<Vec<u8>> = words.iter().map(|word| word.to_vec()).collect();
    let action = Action::Exec(&argv);
    let (from, to) = (id(from), id(to));
    decide(
        &example(),
        &Request {
            from,
            to,
            action,
            user: None,
        },
        None,
    )
}

fn exec(from: &str, to: &str, line: &str, expected: Expect) {
    let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
    shown(&ask(from, to, &words), expected);
}

fn shell(from: &str, to: &str, expected: Expect) {
    let (from, to) = (id(from), id(to));
    let action = Action::Shell;
    shown(
        &decide(
            &example(),
            &Request {
                from,
                to,
                action,
                user: None,
            },
            None,
        ),
        expected,
    );
}

fn shown(decision: &Decision, expected: Expect) {
    let text = match decision {
        Decision::Refuse(refusal) => format!("refused: {refusal}"),
        Decision::Allow(grant) => {
            let words: Vec<_> = grant
                .argv()
                .iter()
                .map(|word| crate::escape_bytes(word))
                .collect();
            let user = grant.user.as_ref().map_or("-", UserName::as_str);
            format!("{words:?} as {user} by {}", grant.rule)
        }
    };
    expected.assert_eq(&text);
}

#[test]
fn grants() {
    exec(
        LAPTOP,
        WEB01,
        "ps aux",
        expect![[r#"["ps", "aux"] as web by machine.web01.allow_from: admins → on-call"#]],
    );
    exec(
        MANAGER,
        WEB01,
        "restart-nginx",
        expect![[
            r#"["sudo", "systemctl", "restart", "nginx"] as nginx by machine.web01.command.restart-nginx.allow_from: ha4e7nbk17opbvaircmjpeiteb56e2dv3ma146vjei403d0fdte0"#
        ]],
    );
    exec(
        LAPTOP,
        WEB01,
        "tail.log",
        expect![[r#"["tail", "-n", "5"] as web by machine.web01.allow_from: admins → on-call"#]],
    );
    exec(
        LAPTOP,
        WEB01,
        "tail.log -f /x",
        expect![[
            r#"["tail", "-n", "5", "-f", "/x"] as web by machine.web01.allow_from: admins → on-call"#
        ]],
    );
    exec(
        MANAGER,
        WEB01,
        "id",
        expect![[r#"["id"] as web by machine.web01.command.id.allow_from: *"#]],
    );
    exec(
        WEB01,
        LAPTOP,
        "uptime",
        expect![[r#"["uptime"] as - by machine.laptop.command.uptime.allow_from: *"#]],
    );
    exec(
        WEB01,
        WEB01,
        "id",
        expect![[r#"["id"] as web by machine.web01.command.id.allow_from: *"#]],
    );
    shell(
        LAPTOP,
        WEB01,
        expect!["[] as web by machine.web01.allow_shell: laptop"],
    );
}

#[test]
fn one_row_per_refusal() {
    exec(
        STRANGER,
        WEB01,
        "id",
        expect!["refused: this key is not a member of the cluster"],
    );
    exec(
        STRANGER,
        WEB01,
        "",
        expect!["refused: this key is not a member of the cluster"],
    );
    exec(
        LAPTOP,
        STRANGER,
        "ls",
        expect!["refused: the target is not a machine of the cluster"],
    );
    exec(
        LAPTOP,
        MANAGER,
        "ls",
        expect!["refused: the target is not a machine of the cluster"],
    );
    exec(
        MANAGER,
        LAPTOP,
        "ls",
        expect!["refused: machine.laptop.allow_from is not set, so no one may do this"],
    );
    exec(
        MANAGER,
        LAPTOP,
        "lonely",
        expect!["refused: machine.laptop.allow_from is not set, so no one may do this"],
    );
    exec(
        MANAGER,
        WEB01,
        "ls",
        expect!["refused: machine.web01.allow_from does not allow you to run commands"],
    );
    exec(
        LAPTOP,
        WEB01,
        "restart-nginx",
        expect![
            "refused: machine.web01.command.restart-nginx.allow_from does not allow you to run this command"
        ],
    );
    exec(
        MANAGER,
        WEB01,
        "tail.log",
        expect!["refused: machine.web01.allow_from does not allow you to run this command"],
    );
    exec(
        LAPTOP,
        WEB01,
        "nobody",
        expect![
            "refused: machine.web01.command.nobody.allow_from does not allow you to run this command"
        ],
    );
    exec(
        MANAGER,
        WEB01,
        "restart-nginx now",
        expect![
            "refused: machine.web01.command.restart-nginx.args does not allow arguments for this command"
        ],
    );
    shell(
        MANAGER,
        WEB01,
        expect!["refused: machine.web01.allow_shell does not allow you to open a shell"],
    );
    shell(
        MANAGER,
        LAPTOP,
        expect!["refused: machine.laptop.allow_from is not set, so no one may do this"],
    );
    shell(
        STRANGER,
        WEB01,
        expect!["refused: this key is not a member of the cluster"],
    );
    exec(LAPTOP, WEB01, "", expect!["refused: the command is empty"]);
    shown(
        &ask(LAPTOP, WEB01, &[]),
        expect!["refused: the command is empty"],
    );
    shown(
        &ask(LAPTOP, WEB01, &[b"ls", b"a\0b"]),
        expect!["refused: an argument contains a NUL character"],
    );
}

#[test]
fn ways_around_a_command_entry() {
    // The manager may run restart-nginx and id here, and nothing else, however it is spelled.
    let ways: &[&[&[u8]]] = &[
        &[b"/usr/bin/restart-nginx"],
        &[b"./restart-nginx"],
        &[b"restart-nginx "],
        &[b" restart-nginx"],
        &[b"restart-nginx\n"],
        &[b"restart-nginx\0"],
        &[b"Restart-nginx"],
        &[b"restart-ngin"],
        &[b"restart-nginxx"],
        &[b"restart-nginx;id"],
        &[b"sudo", b"systemctl", b"restart", b"nginx"],
        &[b"env", b"restart-nginx"],
        &[b"env", b"LD_PRELOAD=/x.so", b"id"],
        &[b"sh", b"-c", b"restart-nginx"],
        &[b"LD_PRELOAD=/x.so", b"id"],
        &[b"-c", b"id"],
        &[b"--", b"id"],
        &[b"", b"id"],
        &[b"id", b""],
        &[b"id", b"-u"],
        &[b"id\n"],
        &[b"\xff\xfe"],
        &["ïd".as_bytes()],
    ];
    for words in ways {
        let decision = ask(MANAGER, WEB01, words);
        assert!(
            matches!(decision, Decision::Refuse(_)),
            "{words:?}: {decision:?}"
        );
    }
    for words in [&[b"id".as_slice()], &[b"restart-nginx".as_slice()]] {
        assert!(matches!(ask(MANAGER, WEB01, words), Decision::Allow(_)));
    }
}

#[test]
fn a_comment_opens_no_door() {
    let cluster = cluster(&format!(
        "# allow_from = \"*\"\n[machine.web01]\nid52 = \"{WEB01}\"\n# allow_from = \"*\"\n"
    ));
    assert!(
        cluster
            .machine_named("web01")
            .unwrap()
            .allow_from()
            .is_none()
    );
    let action = Action::Shell;
    let request = Request {
        from: id(WEB01),
        to: id(WEB01),
        action,
        user: None,
    };
    assert!(matches!(
        decide(&cluster, &request, None),
        Decision::Refuse(Refusal::NoRule { .. })
    ));
}

#[test]
fn a_manager_that_is_a_machine_too() {
    let cluster = cluster(&format!(
        "[machine.boss]\nid52 = \"{MANAGER}\"\nallow_from = \"boss\"\n"
    ));
    let argv = [b"ls".to_vec()];
    let action = Action::Exec(&argv);
    let request = Request {
        from: id(MANAGER),
        to: id(MANAGER),
        action,
        user: None,
    };
    assert!(matches!(
        decide(&cluster, &request, None),
        Decision::Allow(_)
    ));
    assert_eq!(cluster.members().collect::<Vec<_>>(), [id(MANAGER)]);
}

#[test]
fn every_refusal_names_its_rule_and_nobody_else() {
    for from in [MANAGER, WEB01, LAPTOP, STRANGER] {
        for words in [
            &[b"ls".as_slice()],
            &[b"restart-nginx".as_slice()],
            &[b"nobody".as_slice()],
        ] {
            if let Decision::Refuse(refusal) = ask(from, WEB01, words) {
                let text = refusal.to_string();
                assert!(!text.contains("admins") && !text.contains(LAPTOP), "{text}");
                assert!(
                    refusal.rule().is_none_or(|rule| text.contains(rule)),
                    "{text}"
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_order_of_the_file_decides_nothing(model in model::model(), one in layout(), other in layout()) {
        let (one, other) = (model.cluster(&one), model.cluster(&other));
        prop_assert_eq!(one.render(), other.render());
        prop_assert_eq!(decisions(&one), decisions(&other));
    }

    #[test]
    fn taking_somebody_off_a_list_never_allows_more(model in model::model(), layout in layout(), list: Index, entry: Index) {
        let mut less = model.clone();
        let written: Vec<usize> = (0..less.lists.len())
            .filter(|index| less.lists[*index].1.as_ref().is_some_and(|list| !list.is_empty()))
            .collect();
        prop_assume!(!written.is_empty());
        let (_, list) = &mut less.lists[written[list.index(written.len())]];
        let list = list.as_mut().unwrap();
        list.remove(entry.index(list.len()));
        let (before, after) = (decisions(&model.cluster(&layout)), decisions(&less.cluster(&layout)));
        prop_assert!(!widens(&before, &after));
    }

    #[test]
    fn a_group_that_no_list_names_widens_nothing(model in model::model(), layout in layout(), machine in 0..model::MACHINES) {
        let mut model = model;
        // g0 is inside no other group; taken out of every list it is refused everywhere.
        for (_, list) in &mut model.lists {
            if let Some(list) = list {
                list.retain(|entry| entry != "g0");
            }
        }
        let mut more = model.clone();
        let (_, members) = more.lists.iter_mut().find(|(key, _)| *key == model::ListKey::Group(0)).unwrap();
        members.as_mut().unwrap().push(format!("m{machine}"));
        prop_assert_eq!(decisions(&model.cluster(&layout)), decisions(&more.cluster(&layout)));
    }

    #[test]
    fn decisions_agree_with_the_plain_reading_of_the_rules(model in model::model(), layout in layout()) {
        let cluster = model.cluster(&layout);
        for from in 0..model::MACHINES {
            for to in 0..model::MACHINES {
                let list = |key| model.lists.iter().find(|(other, _)| *other == key).unwrap().1.as_ref();
                let machine = list(model::ListKey::AllowFrom(to));
                for (argv, list) in [
                    (Some("ls"), machine),
                    (Some("x"), list(model::ListKey::Command(to)).or(machine)),
                    (None, list(model::ListKey::AllowShell(to)).or(machine)),
                ] {
                    let argv: Option<Vec<Vec<u8>>> = argv.map(|word| vec![word.as_bytes().to_vec()]);
                    let action = argv.as_deref().map_or(Action::Shell, Action::Exec);
                    let (from_id, to) = (model::machine_id(from), model::machine_id(to));
                    let decision = decide(&cluster, &Request { from: from_id, to, action, user: None }, None);
                    let allowed = matches!(decision, Decision::Allow(_));
                    prop_assert_eq!(allowed, list.is_some_and(|list| names(&model, list, from)));
                }
            }
        }
    }
}

/// Whether a list names a machine, read the slow way.
fn names(model: &model::Model, list: &model::List, machine: usize) -> bool {
    list.iter().any(|entry| {
        let group = entry
            .strip_prefix('g')
            .and_then(|number| number.parse().ok());
        entry == "*"
            || *entry == format!("m{machine}")
            || *entry == model::machine_id(machine).to_string()
            || group.is_some_and(|group| {
                let key = model::ListKey::Group(group);
                let (_, members) = model.lists.iter().find(|(other, _)| *other == key).unwrap();
                names(model, members.as_ref().unwrap(), machine)
            })
    })
}
