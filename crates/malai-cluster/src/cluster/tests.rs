//! Checking a cluster.toml.

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;
use crate::testing::*;

#[test]
fn the_example_of_the_specification() {
    let source = format!(
        r#"
[cluster_manager]
id52 = "{MANAGER}"
cluster_name = "company"

[machine.laptop]
id52 = "{LAPTOP}"

[machine.web01]
id52 = "{WEB01}"
allow_from = "admins,laptop"
allow_shell = "admins"
username = "web"

[machine.web01.command.restart-nginx]
command = "sudo systemctl restart nginx"
allow_from = "admins"
username = "nginx"
args = false

[group.admins]
members = "laptop,{MANAGER},on-call"

[group.on-call]
members = ["{LAPTOP}"]
"#
    );
    let checked = check("cluster.toml", &source);
    assert_eq!(checked.diagnostics, []);
    let cluster = checked.cluster.unwrap();
    expect![[r#"
        format = 1

        [cluster_manager]
        cluster_name = "company"
        id52 = "ha4e7nbk17opbvaircmjpeiteb56e2dv3ma146vjei403d0fdte0"

        [group.admins]
        members = ["laptop", "ha4e7nbk17opbvaircmjpeiteb56e2dv3ma146vjei403d0fdte0", "on-call"]

        [group.on-call]
        members = ["tl4ihhh8q71cdqn90cs90mclc4kli9pqbhhvidhmo5319b476v8g"]

        [machine.laptop]
        id52 = "tl4ihhh8q71cdqn90cs90mclc4kli9pqbhhvidhmo5319b476v8g"

        [machine.web01]
        allow_from = ["admins", "laptop"]
        allow_shell = ["admins"]
        id52 = "g4sne3l8fkblull3ahjc6j3upj5or2khmjn3f8ituo7ln3u9mea0"
        username = "web"

        [machine.web01.command.restart-nginx]
        allow_from = ["admins"]
        command = "sudo systemctl restart nginx"
        username = "nginx"
    "#]]
    .assert_eq(&cluster.render());
}

/// The problems of a file, as they are shown.
fn problems(source: &str, expected: Expect) {
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
               = help: at the top of a cluster.toml there may be: cluster_manager, machine, group

            error: unknown key `cluster_nmae`
              --> cluster.toml:3:1
               |
             3 | cluster_nmae = "x"
               | ^^^^^^^^^^^^
               = help: did you mean `cluster_name`?

            error: `cluster_manager` and `cluster-manager` are the same section, and both are here
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
                = help: add it, or take it out of the list

            error: "../../evil" cannot be a machine name: only a-z, 0-9 and "-" may be in it, not "."
               --> cluster.toml:11:91
                |
             11 | allow_from = "lpatop, g4sne3l8fkblull3ahjc6j3upj5or2khmjn3f8ituo7ln3u9mea0, nobody-i-know,../../evil"
                |                                                                                           ^^^^^^^^^^
                = help: a list holds machines, groups, id52s and `*`, with commas between them

            error: "Web_02" cannot be a machine name: only a-z, 0-9 and "-" may be in it, not "W"
               --> cluster.toml:13:10
                |
             13 | [machine.Web_02]
                |          ^^^^^^

            error: `id52` must be a string in quotes; this is a number
               --> cluster.toml:14:8
                |
             14 | id52 = 7
                |        ^

            error: this id52 is already that of machine `web01`, on line 8
               --> cluster.toml:17:8
                |
             17 | id52 = "g4sne3l8fkblull3ahjc6j3upj5or2khmjn3f8ituo7ln3u9mea0"
                |        ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
                = help: every machine has a key of its own: run `malai machine init` on it

            error: `allow_from` holds strings, this is a number
               --> cluster.toml:18:24
                |
             18 | allow_from = ["web01", 3, "a,b"]
                |                        ^

            error: "a,b" cannot be a machine name: only a-z, 0-9 and "-" may be in it, not ","
               --> cluster.toml:18:27
                |
             18 | allow_from = ["web01", 3, "a,b"]
                |                           ^^^^^
                = help: a list holds machines, groups, id52s and `*`, with commas between them

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

            error: "a/b" cannot be a command name: only letters, digits and "._+-" may be in it, not "/"
               --> cluster.toml:22:25
                |
             22 | [machine.laptop.command."a/b"]
                |                         ^^^^^

            error: the command cannot be run as it is written: `|` outside quotes means something to a shell, and no shell is involved
               --> cluster.toml:24:11
                |
             24 | command = "ls | head"
                |           ^^^^^^^^^^^
                = help: quote it, or give it to a shell: `sh -c '…'`

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
                = help: write what is to be run; without the key, the entry's name is run

            error: this is a weak key, for which anybody can sign: use one that `malai machine init` made
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

            error: `*` cannot be in a group
               --> cluster.toml:35:14
                |
             35 | members = "b,*"
                |              ^
                = help: write `allow_from = "*"` where everybody is meant

            error: group `b` is inside itself: b → c → b
               --> cluster.toml:39:19
                |
             39 | members = "laptop,b,c"
                |                   ^
                = help: take one of them out of the next

            error: group `c` is inside itself: c → c
               --> cluster.toml:39:21
                |
             39 | members = "laptop,b,c"
                |                     ^
                = help: take one of them out of the next

            error: `laptop` is a machine too, on line 16
               --> cluster.toml:40:8
                |
             40 | [group.laptop]
                |        ^^^^^^
                = help: a list could mean either: rename one of them

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
                = help: write `members = ""` if nobody is to be in it"#]],
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

            error: `web01` is there twice
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
                = help: in a machine's section there may be: id52, allow_from, allow_shell, username, command

            error: `colour` is there twice
               --> cluster.toml:14:1
                |
             14 | colour = 4
                | ^^^^^^
                = help: remove one of the two, or give it another name"#]],
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
members = "laptop"
"#
        ),
        expect![[r#"
            warning: this keeps nobody from a shell: whoever is in the machine's `allow_from` can run `sh`
              --> cluster.toml:6:1
               |
             6 | allow_shell = "laptop"
               | ^^^^^^^^^^^
               = help: narrow the machine's `allow_from`, and grant single commands by `command` sections

            warning: this protects nothing: whoever is in the allow_from of machine `web01` can run the same by its own name
              --> cluster.toml:8:1
               |
             8 | allow_from = "admins"
               | ^^^^^^^^^^
               = help: narrow the machine's `allow_from`: a command's grants, it does not protect

            warning: this allows nobody
               --> cluster.toml:14:1
                |
             14 | allow_from = "empty"
                | ^^^^^^^^^^
                = help: add a machine, a group or `*`

            warning: this allows nobody
               --> cluster.toml:15:1
                |
             15 | allow_shell = ""
                | ^^^^^^^^^^^
                = help: add a machine, a group or `*`

            warning: `*` is everybody: the rest of the list says nothing
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
                = help: it has no effect until a machine with it is added

            warning: nobody uses group `unused`
               --> cluster.toml:22:8
                |
             22 | [group.unused]
                |        ^^^^^^
                = help: write it in an `allow_from`, or remove it

            warning: nobody uses group `unused-too`
               --> cluster.toml:24:8
                |
             24 | [group.unused-too]
                |        ^^^^^^^^^^
                = help: write it in an `allow_from`, or remove it"#]],
    );
}

#[test]
fn one_small_problem_each() {
    one("", expect!["1:1+1 `[cluster_manager]` is missing [it holds `id52`, the manager's key, as `malai cluster init` wrote it]"]);
    one("format = 2\n[cluster_manager]\n", expect!["1:10+1 format 2 is newer than this malai [install a newer malai]"]);
    one("format = 0\n", expect!["1:10+1 there is no format 0 [write `format = 1`, or leave it out]"]);
    one("format = \"1\"\n", expect!["1:10+3 `format` must be a number, like `format = 1`; this is a string []"]);
    one("successor = \"x\"\n", expect!["1:1+9 `successor` is reserved and not yet supported [remove it]"]);
    one("max_age = 3\n", expect!["1:1+7 `max_age` is reserved and not yet supported [remove it]"]);
    one("cluster_manager = 3\n", expect!["1:19+1 `cluster_manager` must be a section, like `[cluster_manager]`; this is a number []"]);
    one("[cluster_manager]\nid52 = \"x\"\n", expect!["2:8+3 an id52 has 52 characters, this has 1: copy the whole of what `malai machine init` or `malai status` printed []"]);
    one(
        "[cluster_manager]\ncluster_name = \"a\\u001b\"\n",
        expect!["1:1+17 `[cluster_manager]` has no `id52` [it is the manager's key, as `malai status` shows it]"],
    );
    one("machine = []\n", expect!["1:11+2 `machine` must be a section, like `[machine.web01]`; this is an array []"]);
    one("[[machine]]\nid52 = 1\n", expect!["1:1+11 `machine` must be a section, like `[machine.web01]`; this is an array []"]);
    one("[machine]\nweb01 = 3\n", expect!["2:9+1 `web01` must be a section, like `[machine.web01]`; this is a number []"]);
    one("[group.a]\nmembers = \"a\"\n", expect!["2:12+1 group `a` is inside itself: a → a [take one of them out of the next]"]);
    one("[group.a]\nmembers = [[\"a\"]]\n", expect!["2:12+5 `members` holds strings, this is an array []"]);
    one(
        "[group.a]\nmembers = \"abcdefghijklmnopqrstuvabcdefghijklmnopqrstuvabcdefg\"\n",
        expect!["2:12+51 there is no machine or group `abcdefghijklmnopqrstuvabcdefghijklmnopqrstuvabcdefg` [an id52 has 52 characters, this has 51]"],
    );
    one("[group.a]\nmembers = \"*\"\n", expect![[r#"2:12+1 `*` cannot be in a group [write `allow_from = "*"` where everybody is meant]"#]]);
    one("[group.\"\\u001b[2J\"]\nmembers = \"\"\n", expect![[r#"1:8+11 "\u{1b}[2J" cannot be a group name: only a-z, 0-9 and "-" may be in it, not "\u{1b}" []"#]]);
    one("[group.a]\nmembers = \"\\u0062\"\n", expect!["2:11+8 there is no machine or group `b` [did you mean `a`?]"]);
    one("[group.a]\nmembers = \"\"\"\nb,\nc\"\"\"\n", expect!["2:11+3 there is no machine or group `b` [did you mean `a`?]"]);
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
fn every_layout_of_toml() {
    let inline = format!(
        "cluster-manager = {{ id52 = \"{MANAGER}\" }}\nmachine = {{ web01 = {{ id52 = '{WEB01}', allow_from = ['*'], command.x = {{ args = true }} }} }}\n"
    );
    let dotted = format!(
        "cluster_manager.id52 = \"\"\"{MANAGER}\"\"\"\r\nmachine.web01.id52 = \"{WEB01}\"\r\nmachine.web01.allow_from = \" * \"\r\nmachine.web01.command.x.args = true\r\n"
    );
    let sections = format!(
        "format = 1\n[machine.web01.command.x]\nargs = true\n[machine.web01]\nallow_from = \"*\" # all\nid52 = \"{WEB01}\"\n[cluster_manager]\nid52 = \"{MANAGER}\"\ncluster_name = \"\"\n"
    );
    let rendered: Vec<String> = [inline, dotted, sections]
        .iter()
        .map(|source| {
            let checked = check("f", source);
            assert_eq!(checked.diagnostics, [], "{source}");
            checked.cluster.unwrap().render()
        })
        .collect();
    assert_eq!(rendered[0], rendered[1]);
    assert_eq!(rendered[0], rendered[2]);
}

#[test]
fn strings_are_rendered_whole() {
    let source = format!(
        "[cluster_manager]\nid52 = \"{MANAGER}\"\ncluster_name = 'a \"b\" \\ ü'\n[machine.web01]\nid52 = \"{WEB01}\"\n[machine.web01.command.\"a.b+c\"]\ncommand = \"sh -c 'a\\tb\\nc\\u007f'\"\n"
    );
    let rendered = check("f", &source).cluster.unwrap().render();
    expect![[r#"
        format = 1

        [cluster_manager]
        cluster_name = "a \"b\" \\ ü"
        id52 = "ha4e7nbk17opbvaircmjpeiteb56e2dv3ma146vjei403d0fdte0"

        [machine.web01]
        id52 = "g4sne3l8fkblull3ahjc6j3upj5or2khmjn3f8ituo7ln3u9mea0"

        [machine.web01.command."a.b+c"]
        command = "sh -c 'a\u0009b\u000Ac\u007F'"
    "#]].assert_eq(&rendered);
    assert_eq!(read_content(&rendered).unwrap().render(), rendered);
}

#[test]
fn content() {
    let rendered = cluster("").render();
    assert_eq!(read_content(&rendered).unwrap(), cluster(""));
    let of = |text: &str| read_content(text).unwrap_err();
    let newer = rendered.replace("format = 1", "format = 2\n\"unknown\" = 1");
    assert_eq!(of(&newer), ContentError::TooNew { format: 2 });
    // Even where its syntax is not understood.
    assert_eq!(of("format = 0x63\n]["), ContentError::TooNew { format: 99 });
    assert_eq!(
        of("format = 99999999999"),
        ContentError::TooNew { format: u32::MAX }
    );
    for bad in [
        rendered.replace("format = 1\n", ""),
        rendered.replace("format = 1", "format = 1\nunknown = 1"),
        rendered.replace("format = 1", "format = 1\nmax_age = 1"),
        rendered.replace("id52", "id53"),
        String::new(),
    ] {
        assert!(matches!(of(&bad), ContentError::Invalid(_)), "{bad}");
    }
}

#[test]
fn a_new_cluster_is_valid_and_says_how_to_go_on() {
    let source = initial_document(&id(MANAGER), "com\"pany");
    let checked = check("f", &source);
    assert_eq!(checked.diagnostics, []);
    let cluster = checked.cluster.unwrap();
    assert_eq!(
        (cluster.name(), cluster.manager()),
        ("com\"pany", id(MANAGER))
    );
    // The example in the comments is right, too.
    let example: String = source
        .lines()
        .skip_while(|line| !line.starts_with("# ["))
        .map(|line| line.trim_start_matches(['#', ' ']).to_owned() + "\n")
        .collect();
    let example = example
        .replace("<the machine's id52>", WEB01)
        .replace("laptop,desk", "web01");
    let both = check("f", &format!("{source}\n{example}"));
    assert!(both.cluster.is_some(), "{:?}", both.diagnostics);

    let section = machine_section(&MachineName::parse("web01").unwrap(), &id(WEB01));
    assert_eq!(
        section,
        format!("[machine.web01]\nid52 = \"{WEB01}\"\nallow_from = \"*\"\n")
    );
    let cluster = check("f", &format!("{source}\n{section}")).cluster.unwrap();
    assert_eq!(
        cluster.members().collect::<Vec<_>>(),
        [id(MANAGER), id(WEB01)]
    );
    assert!(cluster.is_member(&id(WEB01)) && !cluster.is_member(&id(LAPTOP)));
    assert_eq!(
        cluster.machine(&id(WEB01)).unwrap().name().as_str(),
        "web01"
    );
    assert_eq!(cluster.machine(&id(MANAGER)), None);
    assert_eq!(cluster.nearest_machine("wb01").unwrap().as_str(), "web01");
    assert_eq!(cluster.nearest_machine("database"), None);
}

#[test]
fn rules_are_found() {
    let source = "a = 1\n[machine.web01]\n  allow_from = '*'\n[machine.web01.command.\"a.b\"]\nargs = true\n";
    let at = |path: &str| locate(source, path).map(|found| (found.line, found.column));
    assert_eq!(at("machine.web01.allow_from"), Some((3, 3)));
    assert_eq!(at("machine.web01.command.\"a.b\".args"), Some((5, 1)));
    assert_eq!(at("machine.web01.command"), Some((4, 16)));
    for absent in [
        "machine.web02.allow_from",
        "a.b",
        "machine.web01.allow_shell",
        "",
        "][",
    ] {
        assert_eq!(at(absent), None, "{absent}");
    }
}

#[test]
fn floods_end() {
    let manager = format!("[cluster_manager]\nid52 = \"{MANAGER}\"\n");
    let many = |line: &dyn Fn(usize) -> String, count: usize| -> String {
        manager.clone() + &(0..count).map(line).collect::<String>()
    };
    let errors = |source: &str| check("f", source).diagnostics.len();
    // Nesting that would overflow a stack, if anything recursed.
    assert!(errors(&format!("a = {}", "[".repeat(1_000_000))) > 0);
    assert!(errors(&format!("a = {}", "{a=".repeat(200_000))) > 0);
    assert!(errors(&format!("[{}]", ["a"; 200_000].join("."))) > 0);
    // A chain of groups, each in the next.
    let chain = many(
        &|n| format!("[group.g{n}]\nmembers = \"g{}\"\n", n + 1),
        20_000,
    );
    assert!(errors(&chain) > 0);
    let chain = format!("{chain}[group.g20000]\nmembers = \"g0\"\n");
    let circle = check("f", &chain);
    assert!(circle.diagnostics[0].message.contains("is inside itself"));
    assert!(circle.diagnostics[0].message.len() < 2_000);
    // Memberships that multiply.
    let wide = many(
        &|n| {
            format!(
                "[machine.m{n}]\nid52 = \"{}\"\n[group.g{n}]\nmembers = \"m{n},g{}\"\n",
                model::machine_id(n),
                n + 1
            )
        },
        200,
    ) + "[group.g200]\nmembers = \"m0\"\n";
    assert!(check("f", &wide).cluster.is_some());
    // More problems than anybody reads.
    let problems = check("f", &many(&|n| format!("k{n} = \"{n}\"\n"), 50_000)).diagnostics;
    assert_eq!(problems.len(), 1_000);
    assert!(
        problems[999]
            .help
            .as_ref()
            .unwrap()
            .contains("more problems")
    );
    assert_eq!(errors(&" ".repeat(MAX_CONTENT + 1)), 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn content_is_a_fixed_point(model in model::model(), layout in model::layout()) {
        let cluster = model.cluster(&layout);
        let rendered = cluster.render();
        let read = read_content(&rendered).unwrap();
        prop_assert_eq!(read.render(), rendered);
        prop_assert_eq!(read, cluster);
    }

    #[test]
    fn flattening_ends_and_finds_every_circle(edges in prop::collection::vec((0usize..6, 0usize..6), 0..14)) {
        let mut source = format!("[cluster_manager]\nid52 = \"{MANAGER}\"\n");
        for group in 0..6 {
            let inner: Vec<_> = edges.iter().filter(|(from, _)| *from == group).map(|(_, to)| format!("g{to}")).collect();
            source.push_str(&format!("[group.g{group}]\nmembers = {inner:?}\n"));
        }
        // Whoever reaches itself is in a circle: the closure of the edges, the slow way.
        let mut reach = [[false; 6]; 6];
        for (from, to) in &edges {
            reach[*from][*to] = true;
        }
        for via in 0..6 {
            for from in 0..6 {
                for to in 0..6 {
                    reach[from][to] |= reach[from][via] && reach[via][to];
                }
            }
        }
        let circle = (0..6).any(|group| reach[group][group]);
        prop_assert_eq!(check("f", &source).cluster.is_none(), circle);
    }

    #[test]
    fn no_text_is_too_strange(text in ".*", sections in prop::collection::vec(prop::sample::select(PIECES), 0..20)) {
        for source in [text, sections.concat()] {
            for diagnostic in check("f", &source).diagnostics {
                prop_assert!(!diagnostic.to_string().contains(|c: char| c.is_control() && c != '\n'));
                prop_assert!(diagnostic.line >= 1 && diagnostic.column >= 1 && diagnostic.width >= 1);
            }
        }
    }
}

/// Pieces that together are nearly a file.
const PIECES: &[&str] = &[
    "[machine.a]\n",
    "[machine.a.command.b]\n",
    "[group.a]\n",
    "[cluster_manager]\n",
    "id52",
    " = ",
    "\"",
    "'",
    "allow_from",
    "members = \"a,b\"\n",
    "[",
    "]",
    "{",
    "}",
    ",",
    "\n",
    "é",
    "\u{1b}",
    "#",
    "1",
    "true",
    "\"\"\"",
    ".",
];
