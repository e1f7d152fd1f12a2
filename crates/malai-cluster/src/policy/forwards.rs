//! Who may reach what a machine reaches, without a service of that name.

use super::*;
use crate::testing::*;

/// What somebody gets who asks `web01` for an address or a socket; the machine's own rules are given.
fn gets(machine: &str, who: &str, to: &str, user: Option<&str>) -> String {
    let cluster = cluster(&format!(
        "[machine.web01]\nid52 = \"{WEB01}\"\n{machine}\n[machine.laptop]\nid52 = \"{LAPTOP}\"\n"
    ));
    let request = Request {
        from: id(who),
        to: id(WEB01),
        action: match to.starts_with('/') {
            true => Action::Unix(to),
            false => Action::Tcp(to),
        },
        user,
    };
    match decide(&cluster, &request, None) {
        Decision::Allow(grant) => match (grant.run, grant.user) {
            (Run::Connect(upstream), None) => format!("{upstream} by {}", grant.rule),
            (Run::Connect(upstream), Some(user)) => format!("{upstream} as {user}"),
            (other, _) => format!("{other:?}"),
        },
        Decision::Refuse(refusal) => refusal.to_string(),
    }
}

#[test]
fn a_list_of_its_own_or_the_one_for_shells() {
    let all = "allow_from = \"*\"\n";
    for (machine, expected) in [
        (
            "",
            "machine.web01.allow_from is not set, so no one may do this",
        ),
        (all, "localhost:80 by machine.web01.allow_from: *"),
        (
            "allow_from = \"*\"\nallow_shell = \"web01\"",
            "machine.web01.allow_shell does not allow you to forward ports",
        ),
        (
            "allow_shell = \"laptop\"",
            "localhost:80 by machine.web01.allow_shell: laptop",
        ),
        (
            "allow_from = \"*\"\nallow_shell = \"laptop\"\nallow_forward = []",
            "machine.web01.allow_forward does not allow you to forward ports",
        ),
        (
            "allow_forward = \"laptop\"",
            "localhost:80 by machine.web01.allow_forward: laptop",
        ),
        // It would be a way around the forced command, as it is in sshd.
        (
            "allow_from = \"*\"\nallow_forward = \"*\"\n[machine.web01.command.backup]\nforced = true",
            "machine.web01.command.backup is all that you may use there, so no ports are forwarded",
        ),
    ] {
        assert_eq!(
            gets(machine, LAPTOP, "localhost:80", None),
            expected,
            "{machine}"
        );
    }
    assert_eq!(
        gets(all, STRANGER, "localhost:80", None),
        "this key is not a member of the cluster"
    );
}

#[test]
fn a_socket_is_opened_as_the_user_of_a_shell() {
    let users = "allow_from = \"*\"\nusername = [\"web\", \"deploy\"]";
    for (to, user, expected) in [
        ("/run/x.sock", None, "/run/x.sock as web"),
        ("/run/x.sock", Some("deploy"), "/run/x.sock as deploy"),
        ("[::1]:80", None, "[::1]:80 by machine.web01.allow_from: *"),
        (
            "[::1]:80",
            Some("root"),
            "machine.web01.username does not allow you to run as user `root`; it names `web`, `deploy`",
        ),
        (
            "/run/x.sock",
            Some("root"),
            "machine.web01.username does not allow you to run as user `root`; it names `web`, `deploy`",
        ),
    ] {
        assert_eq!(gets(users, LAPTOP, to, user), expected, "{to} {user:?}");
    }
}

#[test]
fn what_is_no_address_is_refused_in_words() {
    let all = "allow_from = \"*\"";
    for (to, expected) in [
        ("localhost", "`localhost` has no port"),
        (
            "::1:80",
            "`::1:80` has more than one colon: an IPv6 address is written in brackets, like `[::1]:5432`",
        ),
        (
            "/a\u{1b}b",
            "`/a\\x1bb` contains a character that cannot be shown",
        ),
    ] {
        assert_eq!(gets(all, LAPTOP, to, None), expected, "{to:?}");
    }
}
