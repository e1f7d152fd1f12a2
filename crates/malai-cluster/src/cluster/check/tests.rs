//! Every problem in its place, and several at once.

use expect_test::{Expect, expect};

use crate::check;
use crate::testing::*;

/// The problems of a file, as they are shown.
pub(super) fn problems(source: &str, expected: Expect) {
    let checked = check("cluster.toml", source);
    let shown: Vec<_> = checked
        .diagnostics
        .iter()
        .map(ToString::to_string)
        .collect();
    expected.assert_eq(&shown.join("\n\n"));
    let has_errors = checked
        .diagnostics
        .iter()
        .any(|d| d.severity == crate::Severity::Error);
    assert_eq!(checked.cluster.is_none(), has_errors);
}

#[test]
fn everything_wrong_at_once() {
    problems(
        &format!(
            r#"colour = "red"
[cluster_manager]
cluster_nmae = "x"

[cluster-manager]
id52 = "{MANAGER}"

[machine.web01]
id52 = "{WEB01}"
alow_from = "*"
allow_from = "lpatop, {WEB01}, nobody-i-know,../../evil"

[machine.Web_02]
id52 = 7

[machine.laptop]
id52 = "{WEB01}"
allow_from = ["web01", 3, "a,b"]
allow_shell = true
username = "0"

[machine.laptop.command."a/b"]
[machine.laptop.command.x]
command = "ls | head"
args = "yes"
[machine.laptop.command.y]
command = "  "

[machine.weak]
id52 = "0000000000000000000000000000000000000000000000000000"

[machine.keyless]

[group.a]
members = "b,*"
[group.b]
members = "c"
[group.c]
members = "laptop,b,c"
[group.laptop]
members = ",web01"
[group.d]
"#
        ),
        expect![[r#"
            error: unknown key `colour`
              --> cluster.toml:1:1
               |
             1 | colour = "red"
               | ^^^^^^
               = help: valid keys at the top of a cluster.toml: cluster_manager, network, machine, group, service, folder

            error: unknown key `cluster_nmae`
              --> cluster.toml:3:1
               |
             3 | cluster_nmae = "x"
               | ^^^^^^^^^^^^
               = help: did you mean `cluster_name`?

            error: `cluster_manager` and `cluster-manager` are the same section: use only one
              --> cluster.toml:5:2
               |
             5 | [cluster-manager]
               |  ^^^^^^^^^^^^^^^
               = help: keep the one on line 2 or this one

            error: unknown key `alow_from`
               --> cluster.toml:10:1
                |
             10 | alow_from = "*"
                | ^^^^^^^^^
                = help: did you mean `allow_from`?

            error: there is no machine or group `lpatop`
               --> cluster.toml:11:15
                |
             11 | allow_from = "lpatop, g4sne3l8fkblull3ahjc6j3upj5or2khmjn3f8ituo7ln3u9mea0, nobody-i-know,../../evil"
                |               ^^^^^^
                = help: did you mean `laptop`?

            error: there is no machine or group `nobody-i-know`
               --> cluster.toml:11:77
                |
             11 | allow_from = "lpatop, g4sne3l8fkblull3ahjc6j3upj5or2khmjn3f8ituo7ln3u9mea0, nobody-i-know,../../evil"
                |                                                                             ^^^^^^^^^^^^^
                = help: add it, or remove it from the list

            error: "../../evil" cannot be a machine name: it contains "."; use only a-z, 0-9 and "-"
               --> cluster.toml:11:91
                |
             11 | allow_from = "lpatop, g4sne3l8fkblull3ahjc6j3upj5or2khmjn3f8ituo7ln3u9mea0, nobody-i-know,../../evil"
                |                                                                                           ^^^^^^^^^^
                = help: a list contains machines, groups, id52s and `*`, separated by commas

            error: "Web_02" cannot be a machine name: it contains "W"; use only a-z, 0-9 and "-"
               --> cluster.toml:13:10
                |
             13 | [machine.Web_02]
                |          ^^^^^^

            error: `id52` must be a string in quotes; this is a number
               --> cluster.toml:14:8
                |
             14 | id52 = 7
                |        ^

            error: this id52 already belongs to machine `web01`, on line 8
               --> cluster.toml:17:8
                |
             17 | id52 = "g4sne3l8fkblull3ahjc6j3upj5or2khmjn3f8ituo7ln3u9mea0"
                |        ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
                = help: every machine has its own key: run `malai machine init` on it

            error: `allow_from` must contain strings; this is a number
               --> cluster.toml:18:24
                |
             18 | allow_from = ["web01", 3, "a,b"]
                |                        ^

            error: "a,b" cannot be a machine name: it contains ","; use only a-z, 0-9 and "-"
               --> cluster.toml:18:27
                |
             18 | allow_from = ["web01", 3, "a,b"]
                |                           ^^^^^
                = help: a list contains machines, groups, id52s and `*`, separated by commas

            error: `allow_shell` must be a list, like "laptop,admins"; this is true or false
               --> cluster.toml:19:15
                |
             19 | allow_shell = true
                |               ^^^^

            error: "0" cannot be a user name: it must start with a-z or "_", not "0"
               --> cluster.toml:20:12
                |
             20 | username = "0"
                |            ^^^

            error: "a/b" cannot be a command name: it contains "/"; use only letters, digits and "._+-"
               --> cluster.toml:22:25
                |
             22 | [machine.laptop.command."a/b"]
                |                         ^^^^^

            error: the command cannot be run as written: `|` outside quotes is special to a shell, and no shell is involved
               --> cluster.toml:24:11
                |
             24 | command = "ls | head"
                |           ^^^^^^^^^^^
                = help: quote it, or run it in a shell: `sh -c '…'`

            error: `args` must be true or false; this is a string
               --> cluster.toml:25:8
                |
             25 | args = "yes"
                |        ^^^^^

            error: the command is empty
               --> cluster.toml:27:11
                |
             27 | command = "  "
                |           ^^^^
                = help: write the command to run; without the key, the entry's name is run

            error: this is a weak key, whose signatures anyone can forge: use one that `malai machine init` made
               --> cluster.toml:30:8
                |
             30 | id52 = "0000000000000000000000000000000000000000000000000000"
                |        ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^

            error: machine `keyless` has no `id52`
               --> cluster.toml:32:1
                |
             32 | [machine.keyless]
                | ^^^^^^^^^^^^^^^^^
                = help: `malai machine init` on that machine prints it

            error: a group cannot contain `*`
               --> cluster.toml:35:14
                |
             35 | members = "b,*"
                |              ^
                = help: write `allow_from = "*"` to allow every member

            error: group `b` contains itself: b → c → b
               --> cluster.toml:39:19
                |
             39 | members = "laptop,b,c"
                |                   ^
                = help: remove one of them from the next

            error: group `c` contains itself: c → c
               --> cluster.toml:39:21
                |
             39 | members = "laptop,b,c"
                |                     ^
                = help: remove one of them from the next

            error: `laptop` is also a machine, on line 16
               --> cluster.toml:40:8
                |
             40 | [group.laptop]
                |        ^^^^^^
                = help: a name must have one meaning: rename one of them

            error: `members` has an empty entry
               --> cluster.toml:41:12
                |
             41 | members = ",web01"
                |            ^
                = help: remove the comma, or write the name that is missing

            error: group `d` has no `members`
               --> cluster.toml:42:1
                |
             42 | [group.d]
                | ^^^^^^^^^
                = help: write `members = ""` for an empty group"#]],
    );
}

#[test]
fn broken_syntax_and_what_can_still_be_said() {
    problems(
        &format!(
            r#"[cluster_manager]
id52 = "{MANAGER}
cluster_name = 3

[machine.web01]
id52 = "{WEB01}"
alow_from = "*"
[machine.web01]
username =
[machine.db
colour = 3
[machine.laptop]
colour = 3
colour = 4
"#
        ),
        expect![[r#"
            error: invalid basic string, expected `"`
              --> cluster.toml:2:61
               |
             2 | id52 = "ha4e7nbk17opbvaircmjpeiteb56e2dv3ma146vjei403d0fdte0
               |                                                             ^

            error: unknown key `alow_from`
              --> cluster.toml:7:1
               |
             7 | alow_from = "*"
               | ^^^^^^^^^
               = help: did you mean `allow_from`?

            error: `web01` is defined twice
              --> cluster.toml:8:10
               |
             8 | [machine.web01]
               |          ^^^^^
               = help: remove one of the two, or give it another name

            error: string values must be quoted, expected literal string
              --> cluster.toml:9:11
               |
             9 | username =
               |           ^

            error: unclosed table, expected `]`
               --> cluster.toml:10:12
                |
             10 | [machine.db
                |            ^

            error: unknown key `colour`
               --> cluster.toml:13:1
                |
             13 | colour = 3
                | ^^^^^^
                = help: valid keys in a machine's section: id52, allow_from, allow_shell, allow_files, allow_forward, username, accept_env, command

            error: `colour` is defined twice
               --> cluster.toml:14:1
                |
             14 | colour = 4
                | ^^^^^^
                = help: remove one of the two"#]],
    );
}

#[test]
fn warnings() {
    problems(
        &format!(
            r#"[cluster_manager]
id52 = "{MANAGER}"
[machine.web01]
id52 = "{WEB01}"
allow_from = "*"
allow_shell = "laptop"
[machine.web01.command.restart]
allow_from = "admins"
[machine.web01.command.as-other]
allow_from = "admins"
username = "nginx"
[machine.laptop]
id52 = "{LAPTOP}"
allow_from = "empty"
allow_shell = ""
[machine.laptop.command.x]
allow_from = "*,laptop,laptop,{STRANGER}"
[group.admins]
members = "laptop"
[group.empty]
members = []
[group.unused]
members = "unused-too"
[group.unused-too]
members = "{MANAGER}"
[group.to-run-things-on]
members = "laptop"
"#
        ),
        expect![[r#"
            warning: this does not prevent shells: everyone in the machine's `allow_from` can run `sh`
              --> cluster.toml:6:1
               |
             6 | allow_shell = "laptop"
               | ^^^^^^^^^^^
               = help: narrow the machine's `allow_from`, and grant single commands in `command` sections

            warning: this restricts nothing: everyone in the allow_from of machine `web01` can run the same program
              --> cluster.toml:8:1
               |
             8 | allow_from = "admins"
               | ^^^^^^^^^^
               = help: narrow the machine's `allow_from`: a command's `allow_from` only adds to it

            warning: this allows no one
               --> cluster.toml:14:1
                |
             14 | allow_from = "empty"
                | ^^^^^^^^^^
                = help: add a machine, a group or `*`

            warning: `*` is every member: the rest of the list has no effect
               --> cluster.toml:17:15
                |
             17 | allow_from = "*,laptop,laptop,pa9qo5o531o73ljrgf3vu3nug44ehr2561blqtp6gu9j7muqnpu0"
                |               ^
                = help: write `"*"` alone, or leave it out

            warning: `laptop` is in the list twice
               --> cluster.toml:17:24
                |
             17 | allow_from = "*,laptop,laptop,pa9qo5o531o73ljrgf3vu3nug44ehr2561blqtp6gu9j7muqnpu0"
                |                        ^^^^^^
                = help: remove one of them

            warning: no machine of this cluster has the id52 `pa9qo5o5…`
               --> cluster.toml:17:31
                |
             17 | allow_from = "*,laptop,laptop,pa9qo5o531o73ljrgf3vu3nug44ehr2561blqtp6gu9j7muqnpu0"
                |                               ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
                = help: it has no effect until you add a machine with this id52

            warning: group `unused` is not used, and has no machines
               --> cluster.toml:22:8
                |
             22 | [group.unused]
                |        ^^^^^^
                = help: use it in an `allow_from`, or remove it

            warning: group `unused-too` is not used, and has no machines
               --> cluster.toml:24:8
                |
             24 | [group.unused-too]
                |        ^^^^^^^^^^
                = help: use it in an `allow_from`, or remove it"#]],
    );
}

#[test]
fn one_small_problem_each() {
    one(
        "",
        expect![
            "1:1+1 `[cluster_manager]` is missing [it contains `id52`, the manager's key, as `malai cluster init` wrote it]"
        ],
    );
    one(
        "format = 3\n[cluster_manager]\n",
        expect!["1:10+1 format 3 is newer than this malai [install a newer malai]"],
    );
    one(
        "format = 0\n",
        expect!["1:10+1 there is no format 0 [write `format = 2`, or leave it out]"],
    );
    one(
        "format = \"1\"\n",
        expect!["1:10+3 `format` must be a number, like `format = 1`; this is a string []"],
    );
    one(
        "successor = \"x\"\n",
        expect!["1:1+9 `successor` is reserved and not yet supported [remove it]"],
    );
    one(
        "max_age = 3\n",
        expect!["1:1+7 `max_age` is reserved and not yet supported [remove it]"],
    );
    one(
        "cluster_manager = 3\n",
        expect![
            "1:19+1 `cluster_manager` must be a section, like `[cluster_manager]`; this is a number []"
        ],
    );
    one(
        "[cluster_manager]\nid52 = \"x\"\n",
        expect![
            "2:8+3 an id52 has 52 characters, this has 1: copy all of it from where it was printed []"
        ],
    );
    one(
        &format!("[cluster_manager]\nid52 = \"{MANAGER}\"\ncluster_name = \"a\\u001b\"\n"),
        expect!["3:16+9 `cluster_name` must be one short line of visible text []"],
    );
    one(
        "machine = []\n",
        expect!["1:11+2 `machine` must be a section, like `[machine.web01]`; this is an array []"],
    );
    one(
        "[[machine]]\nid52 = 1\n",
        expect!["1:1+11 `machine` must be a section, like `[machine.web01]`; this is an array []"],
    );
    one(
        "[machine]\nweb01 = 3\n",
        expect!["2:9+1 `web01` must be a section, like `[machine.web01]`; this is a number []"],
    );
    one(
        "[group.a]\nmembers = \"a\"\n",
        expect!["2:12+1 group `a` contains itself: a → a [remove one of them from the next]"],
    );
    one(
        "[group.a]\nmembers = [[\"a\"]]\n",
        expect!["2:12+5 `members` must contain strings; this is an array []"],
    );
    one(
        "[group.a]\nmembers = \"abcdefghijklmnopqrstuvabcdefghijklmnopqrstuvabcdefg\"\n",
        expect![
            "2:12+51 there is no machine or group `abcdefghijklmnopqrstuvabcdefghijklmnopqrstuvabcdefg` [an id52 has 52 characters, this has 51]"
        ],
    );
    one(
        "[group.a]\nmembers = \"*\"\n",
        expect![[
            r#"2:12+1 a group cannot contain `*` [write `allow_from = "*"` to allow every member]"#
        ]],
    );
    one(
        "[group.\"\\u001b[2J\"]\nmembers = \"\"\n",
        expect![[
            r#"1:8+11 "\x1b[2J" cannot be a group name: it contains "\x1b"; use only a-z, 0-9 and "-" []"#
        ]],
    );
    one(
        "[group.a]\nmembers = \"\\u0062\"\n",
        expect!["2:11+8 there is no machine or group `b` [did you mean `a`?]"],
    );
    one(
        "[group.a]\nmembers = \"\"\"\nb,\nc\"\"\"\n",
        expect!["2:11+3 there is no machine or group `b` [did you mean `a`?]"],
    );
}

#[test]
fn names_written_as_elsewhere_are_answered_by_what_is_meant() {
    let machines = format!(
        "[machine.web01]\nid52 = \"{WEB01}\"\n[group.admins]\nmembers = \"\"\n[group.a]\nmembers = "
    );
    for (list, help) in [
        ("Web01", "write `web01`"),
        ("@admins", "write `admins`"),
        ("web01.company", "write `web01`"),
        ("web01 admins", "write `web01, admins`"),
        (
            "web*",
            "a list contains machines, groups, id52s and `*`, separated by commas",
        ),
    ] {
        let checked = check("f", &format!("{machines}\"{list}\"\n"));
        let problem = checked.diagnostics.iter().find(|d| d.line == 6).unwrap();
        assert_eq!(problem.help.as_deref(), Some(help), "{list}");
    }
}

#[test]
fn one_mistake_of_syntax_is_one_error() {
    let start = format!("[cluster_manager]\nid52 = \"{MANAGER}\"\n");
    for (text, line) in [
        // The parser makes up a value for the first key.
        ("[machine.web01]\nid52= = \"x\"\n".to_owned(), 4),
        (
            format!("[machine.web01]\nid52 = \"{WEB01}\"\n[machine.web01]\nid52 = \"{LAPTOP}\"\n"),
            5,
        ),
    ] {
        let checked = check("f", &format!("{start}{text}"));
        let lines = checked.diagnostics.iter().map(|problem| problem.line);
        assert!(
            lines.clone().count() > 0 && lines.clone().all(|at| at == line),
            "{text}: {:?}",
            checked.diagnostics
        );
    }
}

/// The first problem, in one line.
fn one(source: &str, expected: Expect) {
    let diagnostics = check("f", source).diagnostics;
    let other = diagnostics
        .iter()
        .find(|d| !d.message.ends_with("is missing"));
    let first = other.unwrap_or(&diagnostics[0]).clone();
    let help = first.help.unwrap_or_default();
    let line = format!(
        "{}:{}+{} {} [{help}]",
        first.line, first.column, first.width, first.message
    );
    expected.assert_eq(&line);
}

#[test]
fn an_array_without_its_end_is_one_error() {
    let machines = "[machine.web01]\nid52 = \"x\"\nallow_from = [\"a\", \"b\"]\n\n".repeat(9);
    let source = format!("[group.admins]\nmembers = [\"laptop\"\n\n{machines}");
    let checked = crate::check("cluster.toml", &source);
    assert_eq!(checked.diagnostics.len(), 1, "{:?}", checked.diagnostics);
    assert_eq!(checked.diagnostics[0].line, 4);
}

#[test]
fn a_grant_to_others_is_no_reason_for_a_warning() {
    problems(
        &format!(
            r#"
[cluster_manager]
id52 = "{MANAGER}"
cluster_name = "company"
[machine.web01]
id52 = "{WEB01}"
allow_from = "{MANAGER}"
[machine.web01.command.restart]
allow_from = "laptop"
[machine.laptop]
id52 = "{LAPTOP}"
"#
        ),
        expect![""],
    );
}
