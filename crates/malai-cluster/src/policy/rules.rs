//! Every rule of the specification's section on cluster.toml, one row each, and every way around one
//! that somebody has tried elsewhere.

use super::*;
use crate::cluster::Cluster;
use crate::testing::*;

/// A configuration around one machine, `web01`, on which the rule of the row stands.
fn company(rule: &str) -> Cluster {
    cluster(&format!(
        "[machine.web01]\nid52 = \"{WEB01}\"\n{rule}\n[machine.laptop]\nid52 = \"{LAPTOP}\"\n[group.admins]\nmembers = \"on-call\"\n[group.on-call]\nmembers = \"laptop\"\n[group.nobody]\nmembers = []\n"
    ))
}

/// What somebody gets on `web01`: `user: words`, or the rule that refuses. A line is split at blanks;
/// none is a shell.
fn gets(rule: &str, who: &str, line: Option<&str>) -> String {
    let argv: Vec<Vec<u8>> = line
        .map(|line| line.split(' ').map(|word| word.as_bytes().to_vec()))
        .into_iter()
        .flatten()
        .collect();
    let action = line.map_or(Action::Shell, |_| Action::Exec(&argv));
    let (from, to) = (id(who), id(WEB01));
    match decide(
        &company(rule),
        &Request {
            from,
            to,
            action,
            user: None,
        },
        None,
    ) {
        Decision::Allow(grant) => {
            let words = grant.argv().iter().map(|word| crate::escape_bytes(word));
            let words: Vec<_> = words.collect();
            let user = grant.user.as_ref().map_or("-", UserName::as_str);
            format!("{user}: {}", words.join(" "))
        }
        Decision::Refuse(refusal) => match refusal.rule() {
            Some(rule) => format!("refused by {rule}"),
            None => format!("refused: {refusal}"),
        },
    }
}

#[track_caller]
fn table(rows: &[(&str, &str, Option<&str>, &str)]) {
    for (rule, who, line, expected) in rows {
        assert_eq!(
            gets(rule, who, *line),
            *expected,
            "{line:?} by {who} under\n{rule}"
        );
    }
}

const LS: Option<&str> = Some("ls -l");
const SHELL: Option<&str> = None;
const BY_MACHINE: &str = "refused by machine.web01.allow_from";
const BY_SHELL: &str = "refused by machine.web01.allow_shell";

#[test]
fn who_may_run_commands() {
    let boss = format!("allow_from = \"{MANAGER}\"");
    let ids = format!("allow_from = [\"{LAPTOP}\", \"{STRANGER}\"]");
    let unlisted = "refused: this key is not a member of the cluster";
    table(&[
        // Default is deny; and the manager has no privilege.
        ("", LAPTOP, LS, BY_MACHINE),
        ("", MANAGER, LS, BY_MACHINE),
        ("", WEB01, LS, BY_MACHINE),
        ("allow_from = \"\"", LAPTOP, LS, BY_MACHINE),
        ("allow_from = []", MANAGER, LS, BY_MACHINE),
        ("allow_from = \"nobody\"", LAPTOP, LS, BY_MACHINE),
        // Names, keys, groups and groups in groups.
        ("allow_from = \"laptop\"", LAPTOP, LS, "-: ls -l"),
        ("allow_from = \"laptop\"", MANAGER, LS, BY_MACHINE),
        ("allow_from = \"on-call\"", LAPTOP, LS, "-: ls -l"),
        ("allow_from = \"admins\"", LAPTOP, LS, "-: ls -l"),
        ("allow_from = \"admins\"", WEB01, LS, BY_MACHINE),
        (&boss, MANAGER, LS, "-: ls -l"),
        (&ids, LAPTOP, LS, "-: ls -l"),
        // Everybody is every member, the manager and the machine itself among them, and nobody else.
        ("allow_from = \"*\"", LAPTOP, LS, "-: ls -l"),
        ("allow_from = \"*\"", MANAGER, LS, "-: ls -l"),
        ("allow_from = \"*\"", WEB01, LS, "-: ls -l"),
        ("allow_from = \"*\"", STRANGER, LS, unlisted),
        (&ids, STRANGER, LS, unlisted),
    ]);
}

#[test]
fn who_may_open_a_shell() {
    table(&[
        ("", LAPTOP, SHELL, BY_MACHINE),
        // The default is allow_from.
        ("allow_from = \"laptop\"", LAPTOP, SHELL, "-: "),
        ("allow_from = \"laptop\"", MANAGER, SHELL, BY_MACHINE),
        // Written, it alone counts, in both directions, and for shells only.
        (
            "allow_from = \"*\"\nallow_shell = \"admins\"",
            LAPTOP,
            SHELL,
            "-: ",
        ),
        (
            "allow_from = \"*\"\nallow_shell = \"admins\"",
            MANAGER,
            SHELL,
            BY_SHELL,
        ),
        (
            "allow_from = \"*\"\nallow_shell = \"admins\"",
            MANAGER,
            LS,
            "-: ls -l",
        ),
        ("allow_shell = \"laptop\"", LAPTOP, SHELL, "-: "),
        ("allow_shell = \"laptop\"", LAPTOP, LS, BY_MACHINE),
        (
            "allow_from = \"*\"\nallow_shell = []",
            LAPTOP,
            SHELL,
            BY_SHELL,
        ),
        // A shell that is asked for by its name is a command like any other.
        (
            "allow_from = \"*\"\nallow_shell = []",
            LAPTOP,
            Some("sh -i"),
            "-: sh -i",
        ),
    ]);
}

#[test]
fn what_a_command_entry_decides() {
    let entry =
        |machine: &str, entry: &str| format!("{machine}\n[machine.web01.command.restart]\n{entry}");
    let open = "allow_from = \"*\"";
    let restart = Some("restart");
    let by_entry = "refused by machine.web01.command.restart.allow_from";
    let by_args = "refused by machine.web01.command.restart.args";
    let line = "command = \"sudo systemctl restart 'a b'\"";
    table(&[
        // The default is the entry's own name, for whom the machine allows.
        (&entry(open, ""), LAPTOP, restart, "-: restart"),
        (&entry("", ""), LAPTOP, restart, BY_MACHINE),
        (
            &entry(open, line),
            LAPTOP,
            restart,
            "-: sudo systemctl restart a b",
        ),
        // It grants to those whom the machine does not allow.
        (
            &entry("", "allow_from = \"admins\""),
            LAPTOP,
            restart,
            "-: restart",
        ),
        (
            &entry("", "allow_from = \"admins\""),
            LAPTOP,
            LS,
            BY_MACHINE,
        ),
        // It alone decides: never passed on to the wider rule.
        (
            &entry(open, "allow_from = \"admins\""),
            MANAGER,
            restart,
            by_entry,
        ),
        (&entry(open, "allow_from = []"), LAPTOP, restart, by_entry),
        // Arguments only where it says so.
        (&entry(open, ""), LAPTOP, Some("restart now"), by_args),
        (
            &entry(open, "args = false"),
            LAPTOP,
            Some("restart "),
            by_args,
        ),
        (
            &entry(open, "args = true"),
            LAPTOP,
            Some("restart now -f"),
            "-: restart now -f",
        ),
        (
            &entry(open, &format!("{line}\nargs = true")),
            LAPTOP,
            Some("restart -f"),
            "-: sudo systemctl restart a b -f",
        ),
        (
            &entry("", "allow_from = \"admins\"\nargs = true"),
            MANAGER,
            Some("restart -f"),
            by_entry,
        ),
        // Other spellings are other commands, and need the machine's own list.
        (
            &entry(open, "allow_from = []"),
            LAPTOP,
            Some("/bin/restart"),
            "-: /bin/restart",
        ),
        (
            &entry("", "allow_from = \"*\""),
            LAPTOP,
            Some("/bin/restart"),
            BY_MACHINE,
        ),
        (
            &entry("", "allow_from = \"*\""),
            LAPTOP,
            Some("Restart"),
            BY_MACHINE,
        ),
    ]);
}

#[test]
fn as_whom() {
    let on = |machine: &str, entry: &str| {
        format!("allow_from = \"*\"\n{machine}\n[machine.web01.command.x]\n{entry}")
    };
    let (web, nginx) = ("username = \"web\"", "username = \"nginx\"");
    let x = Some("x");
    table(&[
        // The entry's, the machine's, the daemon's.
        (&on("", ""), LAPTOP, x, "-: x"),
        (&on(web, ""), LAPTOP, x, "web: x"),
        (&on(web, nginx), LAPTOP, x, "nginx: x"),
        (&on("", nginx), LAPTOP, x, "nginx: x"),
        // An entry's user is its own alone.
        (&on("", nginx), LAPTOP, LS, "-: ls -l"),
        (&on(web, nginx), LAPTOP, LS, "web: ls -l"),
        // A shell is the machine's.
        (&on(web, nginx), LAPTOP, SHELL, "web: "),
        (&on("", nginx), LAPTOP, SHELL, "-: "),
        // Whose it is makes nobody allowed.
        (&format!("{web}\n"), LAPTOP, LS, BY_MACHINE),
        (&format!("{web}\n"), LAPTOP, SHELL, BY_MACHINE),
    ]);
}

/// Somebody who may run `id` with arguments, and nothing else, tries for more.
#[test]
fn around_an_entry_that_takes_arguments() {
    let rule = "[machine.web01.command.id]\nallow_from = \"*\"\nargs = true";
    let cluster = company(rule);
    let ask = |words: &[&[u8]]| {
        let argv: Vec<Vec<u8>> = words.iter().map(|word| word.to_vec()).collect();
        let action = Action::Exec(&argv);
        let (from, to) = (id(LAPTOP), id(WEB01));
        decide(
            &cluster,
            &Request {
                from,
                to,
                action,
                user: None,
            },
            None,
        )
    };
    let tricks: &[&[u8]] = &[
        b"; sh",
        b"$(sh)",
        b"`sh`",
        b"| sh",
        b"\nsh",
        b"--",
        b"-c",
        b"LD_PRELOAD=/x.so",
        b"../id",
        b"a b",
        b"",
        b"\xff",
        b"*",
        b"'",
        b"\\",
    ];
    // Whatever they are, they arrive as arguments of `id` and of nothing else: there is no shell.
    for trick in tricks {
        match ask(&[b"id", trick]) {
            Decision::Allow(grant) => assert_eq!(grant.argv(), [b"id".to_vec(), trick.to_vec()]),
            Decision::Refuse(refusal) => panic!("{trick:?}: {refusal}"),
        }
        // And in front of it they are another command.
        for words in [&[trick, b"id".as_slice()][..], &[trick]] {
            assert!(matches!(ask(words), Decision::Refuse(_)), "{words:?}");
        }
    }
    for words in [
        &[b"id".as_slice(), b"a\0b"][..],
        &[b"/usr/bin/id"],
        &[b"./id"],
        &[b"env", b"id"],
        &[b"sh", b"-c", b"id"],
        &[b"id\0"],
        &[b"id\n"],
        &[b"-id"],
    ] {
        assert!(matches!(ask(words), Decision::Refuse(_)), "{words:?}");
    }
}

/// Names of things that would be something else to a file system, a list, a shell or an eye.
#[test]
fn names_that_no_section_can_have() {
    let (long, looks) = ("a".repeat(64), "0".repeat(52));
    let bad = [
        "../../evil",
        "",
        " ",
        "a b",
        " a",
        "a,b",
        "a\n",
        "*",
        ".",
        "..",
        "%h",
        "-x",
        "x-",
        "wеb01",
        "ＷＥＢ",
        "web01\u{200b}",
        "Web01",
        "a_b",
        "a/b",
        "@a",
        "a.b",
        "\u{1b}[2J",
        "~",
        "$(x)",
        &long,
        &looks,
    ];
    for name in bad {
        let key = crate::cluster::key(name);
        for section in [
            format!("[machine.{key}]\nid52 = \"{WEB01}\"\n"),
            format!("[group.{key}]\nmembers = []\n"),
        ] {
            let text = format!("[cluster_manager]\nid52 = \"{MANAGER}\"\n{section}");
            let checked = crate::check("cluster.toml", &text);
            assert!(checked.cluster.is_none(), "{section}");
            let shown: String = checked
                .diagnostics
                .iter()
                .map(ToString::to_string)
                .collect();
            assert!(!shown.contains('\u{1b}'), "{shown:?}");
        }
    }
    for name in [
        "", " ", "-x", ".x", "a b", "a/b", "a\n", "ïd", "*", "../x", "a;b", "x=1",
    ] {
        let key = crate::cluster::key(name);
        let text = format!(
            "[cluster_manager]\nid52 = \"{MANAGER}\"\n[machine.web01]\nid52 = \"{WEB01}\"\n[machine.web01.command.{key}]\n"
        );
        assert!(
            crate::check("cluster.toml", &text).cluster.is_none(),
            "{name:?}"
        );
    }
    for user in [
        "", "0", "1000", "-u", "a b", "a:b", "root\n", "ROOT", "a/b", "../x", "+0",
    ] {
        let rule = format!("username = {}", crate::cluster::key(&format!("{user} ")));
        let text = format!(
            "[cluster_manager]\nid52 = \"{MANAGER}\"\n[machine.web01]\nid52 = \"{WEB01}\"\n{}\n",
            rule.replace(&format!("{user} "), user)
        );
        assert!(
            crate::check("cluster.toml", &text).cluster.is_none(),
            "{user:?}"
        );
    }
}

/// A list can name a machine or a group, never either: the one that would be meant is not guessed.
#[test]
fn a_name_that_is_a_group_too() {
    let text = format!(
        "[cluster_manager]\nid52 = \"{MANAGER}\"\n[machine.ops]\nid52 = \"{WEB01}\"\nallow_from = \"ops\"\n[group.ops]\nmembers = \"ops\"\n"
    );
    let checked = crate::check("cluster.toml", &text);
    assert!(checked.cluster.is_none());
    let message = &checked.diagnostics[0].message;
    assert!(message.contains("is also a machine"), "{message}");
}
