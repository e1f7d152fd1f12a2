//! Who may connect to which service, and where it is.

use super::*;
use crate::accept::{Accept, AcceptEntry};
use crate::name::ClusterAlias;
use crate::testing::*;

const SERVICES: &str = r#"
[service.db]
machine = "web01"
tcp = "127.0.0.1:5432"
allow_from = "devs"

[service.closed]
machine = "web01"
unix = "/run/closed.sock"

[service.socket]
machine = "web01"
unix = "/run/socket"
allow_from = "*"

[service.elsewhere]
machine = "laptop"
tcp = "localhost:80"
allow_from = "*"

[group.devs]
members = "laptop"
"#;

/// What somebody gets who asks `web01` for a service; the machine's own rules are given.
fn gets(machine: &str, who: &str, service: &str, accept: Option<&Accept>) -> String {
    let cluster = cluster(&format!(
        "[machine.web01]\nid52 = \"{WEB01}\"\n{machine}\n[machine.laptop]\nid52 = \"{LAPTOP}\"\n{SERVICES}"
    ));
    let request = Request {
        from: id(who),
        to: id(WEB01),
        action: Action::Service(service),
        user: None,
    };
    match decide(&cluster, &request, accept) {
        Decision::Allow(grant) => match grant.run {
            Run::Connect(upstream) => format!("{upstream} by {}", grant.rule),
            other => format!("{other:?}"),
        },
        Decision::Refuse(refusal) => refusal.to_string(),
    }
}

#[test]
fn a_service_has_a_list_of_its_own() {
    let open = "allow_from = \"*\"";
    let db = "127.0.0.1:5432 by service.db.allow_from: devs";
    let denied = "service.db.allow_from does not allow you to connect to this service";
    for (machine, who, service, expected) in [
        ("", LAPTOP, "db", db),
        // The right to run anything on the machine grants no service.
        (open, WEB01, "db", denied),
        (open, MANAGER, "db", denied),
        (
            open,
            STRANGER,
            "db",
            "this key is not a member of the cluster",
        ),
        (
            open,
            LAPTOP,
            "closed",
            "service.closed.allow_from is not set, so no one may do this",
        ),
        (
            open,
            LAPTOP,
            "elsewhere",
            "there is no service `elsewhere` on this machine",
        ),
        (
            open,
            LAPTOP,
            "\u{1b}[2J",
            "there is no service `\\x1b[2J` on this machine",
        ),
        // A forced command replaces what is asked of the machine, not what is granted by a service.
        (
            "allow_from = \"*\"\n[machine.web01.command.backup]\nforced = true",
            LAPTOP,
            "db",
            db,
        ),
    ] {
        assert_eq!(
            gets(machine, who, service, None),
            expected,
            "{service} by {who}"
        );
    }
}

#[test]
fn the_owner_of_the_machine_narrows_it() {
    let alias = ClusterAlias::parse("staging").unwrap();
    let accept = |from: &[&str], users: Option<&[&str]>| {
        let from = from.iter().map(|who| AcceptEntry::parse(who).unwrap());
        let users = users.map(|users| {
            let users = users.iter().map(|user| UserName::parse(user).unwrap());
            users.collect()
        });
        Accept::new(&alias, Some(from.collect()), users).of_daemon(Some("malai"))
    };
    let db = "127.0.0.1:5432 by service.db.allow_from: devs";
    for (accept, expected) in [
        (accept(&["*"], None), db),
        (accept(&["laptop"], Some(&["malai"])), db),
        (
            accept(&[], None),
            "malai.toml accept.staging.from on that computer does not accept you",
        ),
        (accept(&["*"], Some(&["deploy"])), db),
    ] {
        assert_eq!(gets("", LAPTOP, "db", Some(&accept)), expected);
    }
    // The daemon itself opens a Unix socket: as far as its own user may.
    let socket = accept(&["*"], Some(&["deploy"]));
    assert_eq!(
        gets("", LAPTOP, "socket", Some(&socket)),
        "malai.toml accept.staging.users on that computer does not accept commands that run as user `malai`"
    );
}
