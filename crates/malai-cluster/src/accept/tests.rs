//! What an owner's narrowing takes away: one row per rule, and that it never gives.

use expect_test::{Expect, expect};
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;
use crate::policy::{Action, Decision, Request, decide};
use crate::testing::model::{self, decisions, decisions_with, layout};
use crate::testing::*;

fn company() -> Cluster {
    cluster(&format!(
        r#"
[machine.web01]
id52 = "{WEB01}"
allow_from = "*"
username = "web"
[machine.web01.command.restart]
allow_from = "admins"
username = "nginx"
[machine.web01.command.own]
allow_from = "nobody"
[machine.laptop]
id52 = "{LAPTOP}"
allow_from = "*"
[group.admins]
members = "on-call"
[group.on-call]
members = "laptop"
[group.nobody]
members = []
"#
    ))
}

/// What `who` is told that runs `word` on `to`, under `[accept.staging]` of that computer.
fn asked(accept: &Accept, who: &str, to: &str, word: &str) -> String {
    let argv = [word.as_bytes().to_vec()];
    let action = match word {
        "" => Action::Shell,
        _ => Action::Exec(&argv),
    };
    let (from, to) = (id(who), id(to));
    match decide(
        &company(),
        &Request {
            from,
            to,
            action,
            user: None,
        },
        Some(accept),
    ) {
        Decision::Allow(grant) => {
            let user = grant.user.as_ref().map_or("-", UserName::as_str);
            format!("as {user} by {}", grant.rule)
        }
        Decision::Refuse(refusal) => {
            let text = refusal.to_string();
            assert!(
                refusal.rule().is_none_or(|rule| text.contains(rule)),
                "{text}"
            );
            text
        }
    }
}

fn accept(from: Option<&[&str]>, users: Option<&[&str]>) -> Accept {
    let from = from.map(|from| {
        from.iter()
            .map(|who| AcceptEntry::parse(who).unwrap())
            .collect()
    });
    let users = users.map(|users| {
        let users = users.iter().map(|user| UserName::parse(user).unwrap());
        users.collect()
    });
    Accept::new(&ClusterAlias::parse("staging").unwrap(), from, users).of_daemon(Some("malai"))
}

#[test]
fn from() {
    const ALLOWED: &str = "as web by machine.web01.allow_from: *";
    const NOT: &str = "malai.toml accept.staging.from on that computer does not accept you";
    let rows: &[(&[&str], &str, &str)] = &[
        (&[], LAPTOP, NOT),
        (&[], MANAGER, NOT),
        (&["*"], LAPTOP, ALLOWED),
        (&["*"], MANAGER, ALLOWED),
        (&["laptop"], LAPTOP, ALLOWED),
        (&["laptop"], WEB01, NOT),
        // The manager has no privilege, and no name here but its key.
        (&["laptop"], MANAGER, NOT),
        (&[MANAGER], MANAGER, ALLOWED),
        (&[MANAGER, "laptop"], LAPTOP, ALLOWED),
        (&["on-call"], LAPTOP, ALLOWED),
        (&["admins"], LAPTOP, ALLOWED),
        (&["admins"], WEB01, NOT),
        (&["nobody"], LAPTOP, NOT),
        // What the cluster does not have is nobody.
        (&["admin"], LAPTOP, NOT),
        (&["unknown", "laptop"], LAPTOP, ALLOWED),
        (&[STRANGER], LAPTOP, NOT),
        (&["*"], STRANGER, "this key is not a member of the cluster"),
        (
            &[STRANGER],
            STRANGER,
            "this key is not a member of the cluster",
        ),
    ];
    for (from, who, expected) in rows {
        let accept = accept(Some(from), None);
        assert_eq!(asked(&accept, who, WEB01, "ls"), *expected, "{from:?}");
        let shell = asked(&accept, who, WEB01, "");
        assert_eq!(shell, *expected, "{from:?}");
    }
}

#[test]
fn users() {
    let check = |users: &[&str], to, word, expected: Expect| {
        expected.assert_eq(&asked(&accept(None, Some(users)), LAPTOP, to, word));
    };
    check(
        &["web"],
        WEB01,
        "ls",
        expect!["as web by machine.web01.allow_from: *"],
    );
    check(
        &["web"],
        WEB01,
        "restart",
        expect![
            "malai.toml accept.staging.users on that computer does not accept commands that run as user `nginx`"
        ],
    );
    check(
        &["nginx"],
        WEB01,
        "restart",
        expect!["as nginx by machine.web01.command.restart.allow_from: admins → on-call"],
    );
    check(
        &["nginx"],
        WEB01,
        "ls",
        expect![
            "malai.toml accept.staging.users on that computer does not accept commands that run as user `web`"
        ],
    );
    check(
        &["nginx"],
        WEB01,
        "",
        expect![
            "malai.toml accept.staging.users on that computer does not accept commands that run as user `web`"
        ],
    );
    // What has no username runs as the daemon's user, and that one counts by its name too.
    check(
        &["web"],
        LAPTOP,
        "ls",
        expect![
            "malai.toml accept.staging.users on that computer does not accept commands that run as user `malai`"
        ],
    );
    check(
        &["malai"],
        LAPTOP,
        "ls",
        expect!["as - by machine.laptop.allow_from: *"],
    );
    check(
        &[],
        LAPTOP,
        "ls",
        expect![
            "malai.toml accept.staging.users on that computer does not accept commands that run as user `malai`"
        ],
    );
    // The cluster's own refusal comes first, and it stays one.
    check(
        &["malai"],
        WEB01,
        "own",
        expect!["machine.web01.command.own.allow_from does not allow you to run this command"],
    );
    let nameless = accept(None, Some(&["malai"])).of_daemon(None);
    expect!["malai.toml accept.staging.users on that computer does not accept commands that run as the daemon's own user"]
        .assert_eq(&asked(&nameless, LAPTOP, LAPTOP, "ls"));
}

#[test]
fn which_entry_admits() {
    let admits = |from: &[&str], who| match accept(Some(from), None).admits(&company(), &id(who)) {
        Admitted::By(rule) => rule.to_string(),
        other => format!("{other:?}"),
    };
    assert_eq!(
        admits(&["web01", "admins"], LAPTOP),
        "malai.toml accept.staging.from: admins → on-call"
    );
    assert_eq!(
        admits(&["laptop"], LAPTOP),
        "malai.toml accept.staging.from: laptop"
    );
    assert_eq!(admits(&["web01"], LAPTOP), "No");
    let unlimited = accept(None, None).admits(&company(), &id(LAPTOP));
    assert_eq!(unlimited, Admitted::Unlimited);
}

#[test]
fn entries() {
    for good in ["*", "laptop", "on-call", MANAGER] {
        assert_eq!(AcceptEntry::parse(good).unwrap().to_string(), good);
    }
    for bad in ["", "**", "a b", "Admins", "-x", "../x", &"0".repeat(52)] {
        assert!(AcceptEntry::parse(bad).is_err(), "{bad:?}");
    }
    let known = |text: &str| AcceptEntry::parse(text).unwrap().is_known(&company());
    for text in ["*", "laptop", "admins", MANAGER, WEB01] {
        assert!(known(text), "{text}");
    }
    assert!(!known("lapto") && !known(STRANGER));
}

fn narrowing() -> impl Strategy<Value = Accept> {
    let mut names: Vec<String> = (0..model::MACHINES).map(|m| format!("m{m}")).collect();
    names.extend((0..model::GROUPS).map(|g| format!("g{g}")));
    names.extend(["*", "unknown", MANAGER, STRANGER].map(str::to_owned));
    let from = prop::option::of(prop::collection::vec(select(names), 0..4));
    let users = prop::option::of(prop::collection::vec(select(vec!["malai", "web"]), 0..2));
    (from, users).prop_map(|(from, users)| {
        let from: Option<Vec<&str>> = from
            .as_ref()
            .map(|from| from.iter().map(String::as_str).collect());
        accept(from.as_deref(), users.as_deref())
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn it_never_widens_and_changes_nothing_that_it_leaves(model in model::model(), layout in layout(), accept in narrowing()) {
        let cluster = model.cluster(&layout);
        for (before, after) in decisions(&cluster).iter().zip(decisions_with(&cluster, Some(&accept))) {
            match (before, &after) {
                (Decision::Refuse(_), after) => prop_assert_eq!(before, after),
                (_, Decision::Allow(_)) => prop_assert_eq!(before, &after),
                (_, Decision::Refuse(refusal)) => {
                    prop_assert!(refusal.rule().unwrap().starts_with("malai.toml accept.staging."));
                }
            }
        }
    }

    #[test]
    fn an_entry_less_never_allows_more(model in model::model(), layout in layout(), accept in narrowing(), at: Index) {
        let mut less = accept.clone();
        let Some(from) = &accept.from else { return Ok(()) };
        prop_assume!(!from.is_empty());
        let mut fewer = from.to_vec();
        fewer.remove(at.index(fewer.len()));
        less.from = Some(fewer.into());
        let cluster = model.cluster(&layout);
        let (before, after) = (decisions_with(&cluster, Some(&accept)), decisions_with(&cluster, Some(&less)));
        prop_assert!(!model::widens(&before, &after));
    }

    #[test]
    fn the_order_of_entries_decides_nothing(model in model::model(), layout in layout(), accept in narrowing()) {
        let mut turned = accept.clone();
        if let Some(from) = &mut turned.from {
            from.reverse();
        }
        let cluster = model.cluster(&layout);
        prop_assert_eq!(decisions_with(&cluster, Some(&accept)), decisions_with(&cluster, Some(&turned)));
    }

    #[test]
    fn everybody_is_as_if_it_were_not_written(model in model::model(), layout in layout()) {
        let cluster = model.cluster(&layout);
        let everybody = accept(Some(&["*"]), None);
        prop_assert_eq!(decisions(&cluster), decisions_with(&cluster, Some(&everybody)));
        prop_assert_eq!(decisions(&cluster), decisions_with(&cluster, Some(&accept(None, None))));
    }
}
