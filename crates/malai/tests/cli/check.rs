//! `malai rescan --check`: every problem with its place, a line for each cluster, and the exit code.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use expect_test::expect;

use crate::world::World;

const ID: &str = "i66fo538lfl5ombdf6tcdbrabp4hmp9asv7nrffuc2im13ct4q60";

fn world() -> World {
    let world = World::new();
    world.succeed(&["cluster", "init", "company"]);
    world.succeed(&["machine", "init", ID, "work"]);
    world
}

fn append(world: &World, text: &str) {
    let path = world.cluster_file("company/cluster.toml");
    let before = fs::read_to_string(&path).unwrap();
    fs::write(path, before + text).unwrap();
}

#[test]
fn a_home_without_clusters_has_no_problems() {
    let world = World::new();
    expect![[r#"
        exit code: 0
        ----- stdout -----
        no clusters in [HOME] yet: malai cluster init <alias> creates one
    "#]]
    .assert_eq(&world.picture(&["rescan", "--check"]));
    assert!(!world.home().exists(), "a check makes nothing");
}

#[test]
fn sound_clusters_have_a_line_each() {
    let world = world();
    expect![[r#"
        exit code: 0
        ----- stdout -----
        ✅ company: 0 machines, no problems
        ⏳ work: waiting for its first configuration, no problems
    "#]]
    .assert_eq(&world.picture(&["rescan", "--check"]));
    expect![[r#"
        exit code: 0
        ----- stdout -----
        ✅ company: 0 machines, no problems
    "#]]
    .assert_eq(&world.picture(&["rescan", "--check", "company"]));
    expect![[r#"
        exit code: 1
        ----- stderr -----
        malai: there is no cluster `nowhere` in [HOME]/clusters (found: company, work)
    "#]]
    .assert_eq(&world.picture(&["rescan", "--check", "nowhere"]));
}

#[test]
fn every_problem_is_shown_where_it_stands() {
    let world = world();
    append(
        &world,
        "\n[machine.web01]\nid52 = \"abc\"\nalow_from = \"*\"\n",
    );
    fs::write(
        world.home().join("malai.toml"),
        "[network]\nreach = \"lann\"\n",
    )
    .unwrap();
    expect![[r#"
        exit code: 1
        ----- stdout -----
        error: invalid reach "lann": expected public, lan or loopback
          --> [HOME]/malai.toml:2:9
           |
         2 | reach = "lann"
           |         ^^^^^^
           = help: did you mean "lan"?

        error: an id52 has 52 characters, this has 3: copy all of it from where it was printed
           --> [HOME]/clusters/company/cluster.toml:18:8
            |
         18 | id52 = "abc"
            |        ^^^^^

        error: unknown key `alow_from`
           --> [HOME]/clusters/company/cluster.toml:19:1
            |
         19 | alow_from = "*"
            | ^^^^^^^^^
            = help: did you mean `allow_from`?

        ❌ malai.toml: 1 error
        ❌ company: 1 machine, 2 errors
        ⏳ work: waiting for its first configuration, no problems
    "#]]
    .assert_eq(&world.picture(&["rescan", "--check"]));
}

#[test]
fn keys_are_checked_too() {
    let world = world();
    let key = world.cluster_file("company/cluster.private-key");
    fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    expect![[r#"
        exit code: 1
        ----- stdout -----
        error: the private key [HOME]/clusters/company/cluster.private-key has mode 0644, so other users can access it; if it has not been exposed, fix it with: chmod 600 [HOME]/clusters/company/cluster.private-key

        ❌ company: 1 error
    "#]].assert_eq(&world.picture(&["rescan", "--check", "company"]));

    world.succeed(&["cluster", "init", "other"]);
    fs::copy(world.cluster_file("other/cluster.private-key"), &key).unwrap();
    fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    fs::remove_dir_all(world.cluster_file("other")).unwrap();
    expect![[r#"
        exit code: 1
        ----- stdout -----
        error: the id52 does not match the key in cluster.private-key
          --> [HOME]/clusters/company/cluster.toml:5:8
           |
         5 | id52 = "[ID52]"
           |        ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
           = help: if this line was edited by mistake, write "[ID52]"; if the key file was replaced, restore it: the machines trust only the key that they joined with

        ❌ company: 1 error
    "#]]
    .assert_eq(&world.picture(&["rescan", "--check", "company"]));
}

#[test]
fn a_damaged_snapshot_and_a_stray_folder_are_problems() {
    let world = world();
    fs::write(world.cluster_file("work/machine.toml"), "torn").unwrap();
    fs::create_dir(world.cluster_file("Old Stuff")).unwrap();
    expect![[r#"
        exit code: 1
        ----- stdout -----
        error: [HOME]/clusters/work/machine.toml cannot be used: its first line is damaged or was changed, so the signature cannot be checked; this computer denies everything in this cluster until its daemon has fetched the file again, which it does by itself, from the manager or another machine

        warning: the folder [HOME]/clusters/Old Stuff is not served: "Old Stuff" cannot be a cluster alias: it contains "O"; use only a-z, 0-9 and "-"; rename it, or move it out of clusters/

        ✅ company: 0 machines, no problems
        ❌ work: 1 error
        ⚠️  Old Stuff: not a cluster, 1 warning
    "#]].assert_eq(&world.picture(&["rescan", "--check"]));
}

#[test]
fn findings_as_json_say_the_same() {
    let world = world();
    let sound = world.succeed(&["rescan", "--check", "--json"]);
    let sound: serde_json::Value = serde_json::from_str(&sound).unwrap();
    assert_eq!(sound["ok"], true);
    assert_eq!(sound["clusters"][1]["condition"], "waiting");

    append(&world, "[machine.web01]\n");
    let output = world.output(&["rescan", "--check", "--json", "company"]);
    assert_eq!(output.status.code(), Some(1));
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["ok"], false);
    let problem = &found["clusters"][0]["problems"][0];
    assert_eq!(problem["severity"], "error");
    assert!(problem["line"].as_u64().unwrap() > 5, "{problem}");
}

#[test]
fn ten_mistakes_in_one_file() {
    let world = world();
    append(
        &world,
        r#"
[machine.web01]
id52 = "g4sne3l8fkblull3ahjc6j3upj5or2khmjn3f8ituo7ln3u9mea0"
allow_from = "admin,laptop"
allow_shell = true
alow_shell = "laptop"

[machine.web01.command.restart]
command = "systemctl restart nginx && echo done"
username = "0"

[machine.laptop]
id52 = "g4sne3l8fkblull3ahjc6j3upj5or2khmjn3f8ituo7ln3u9mea0"

[machine.Desk]
allow_from = "laptop"

[group.admins]
members = "on-call"

[group.on-call]
members = "admins,*"

[group.laptop]
members = ""
"#,
    );
    expect![[r#"
        exit code: 1
        ----- stdout -----
        error: there is no machine or group `admin`
           --> [HOME]/clusters/company/cluster.toml:19:15
            |
         19 | allow_from = "admin,laptop"
            |               ^^^^^
            = help: did you mean `admins`?

        error: `allow_shell` must be a list, like "laptop,admins"; this is true or false
           --> [HOME]/clusters/company/cluster.toml:20:15
            |
         20 | allow_shell = true
            |               ^^^^

        error: unknown key `alow_shell`
           --> [HOME]/clusters/company/cluster.toml:21:1
            |
         21 | alow_shell = "laptop"
            | ^^^^^^^^^^
            = help: did you mean `allow_shell`?

        error: the command cannot be run as written: `&` outside quotes is special to a shell, and no shell is involved
           --> [HOME]/clusters/company/cluster.toml:24:11
            |
         24 | command = "systemctl restart nginx && echo done"
            |           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
            = help: quote it, or run it in a shell: `sh -c '…'`

        error: "0" cannot be a user name: it must start with a-z or "_", not "0"
           --> [HOME]/clusters/company/cluster.toml:25:12
            |
         25 | username = "0"
            |            ^^^

        error: this id52 already belongs to machine `web01`, on line 17
           --> [HOME]/clusters/company/cluster.toml:28:8
            |
         28 | id52 = "[ID52]"
            |        ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
            = help: every machine has its own key: run `malai machine init` on it

        error: machine `Desk` has no `id52`
           --> [HOME]/clusters/company/cluster.toml:30:1
            |
         30 | [machine.Desk]
            | ^^^^^^^^^^^^^^
            = help: `malai machine init` on that machine prints it

        error: "Desk" cannot be a machine name: it contains "D"; use only a-z, 0-9 and "-"
           --> [HOME]/clusters/company/cluster.toml:30:10
            |
         30 | [machine.Desk]
            |          ^^^^

        error: group `admins` contains itself: admins → on-call → admins
           --> [HOME]/clusters/company/cluster.toml:37:12
            |
         37 | members = "admins,*"
            |            ^^^^^^
            = help: remove one of them from the next

        error: a group cannot contain `*`
           --> [HOME]/clusters/company/cluster.toml:37:19
            |
         37 | members = "admins,*"
            |                   ^
            = help: write `allow_from = "*"` to allow every member

        error: `laptop` is also a machine, on line 27
           --> [HOME]/clusters/company/cluster.toml:39:8
            |
         39 | [group.laptop]
            |        ^^^^^^
            = help: a name must have one meaning: rename one of them

        ❌ company: 3 machines, 11 errors
    "#]].assert_eq(&world.picture(&["rescan", "--check", "company"]));

    let output = world.output(&["rescan", "--check", "--json", "company"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(output.stderr, b"");
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let problems = found["clusters"][0]["problems"].as_array().unwrap();
    assert!(problems.len() >= 10, "{problems:#?}");
    for problem in problems {
        assert_eq!(problem["severity"], "error");
        for key in ["file", "message", "source_line"] {
            assert!(problem[key].is_string(), "{key} of {problem}");
        }
        for key in ["line", "column", "width"] {
            assert!(problem[key].as_u64().unwrap() > 0, "{key} of {problem}");
        }
    }
    // A daemon that is to be strict says the same and does not start.
    let daemon = world.output(&["daemon", "--strict"]);
    assert_eq!(daemon.status.code(), Some(1));
    let said = String::from_utf8(daemon.stderr).unwrap();
    assert_eq!(said.matches("error: ").count(), problems.len(), "{said}");
}

#[test]
fn what_is_legal_and_surely_not_meant() {
    let world = world();
    append(
        &world,
        r#"
[machine.web01]
id52 = "g4sne3l8fkblull3ahjc6j3upj5or2khmjn3f8ituo7ln3u9mea0"
allow_from = "laptop"
allow_shell = "nobody"

[machine.web01.command.restart]
allow_from = "admins"

[machine.laptop]
id52 = "tl4ihhh8q71cdqn90cs90mclc4kli9pqbhhvidhmo5319b476v8g"

[group.admins]
members = "web01"

[group.nobody]
members = []

[group.unused]
members = "laptop"
"#,
    );
    fs::write(
        world.home().join("malai.toml"),
        "[accept.company]\nfrom = \"admin\"\n[accept.later]\nfrom = []\n",
    )
    .unwrap();
    expect![[r#"
        exit code: 0
        ----- stdout -----
        warning: cluster `company` has no machine or group `admin`
          --> [HOME]/malai.toml:2:9
           |
         2 | from = "admin"
           |         ^^^^^
           = help: did you mean `admins`? This entry accepts no one

        warning: this home is in no cluster `later`
          --> [HOME]/malai.toml:3:9
           |
         3 | [accept.later]
           |         ^^^^^
           = help: it takes effect when this home joins a cluster with that alias

        warning: this allows no one
           --> [HOME]/clusters/company/cluster.toml:20:1
            |
         20 | allow_shell = "nobody"
            | ^^^^^^^^^^^
            = help: add a machine, a group or `*`

        warning: this does not prevent shells: everyone in the machine's `allow_from` can run `sh`
           --> [HOME]/clusters/company/cluster.toml:20:1
            |
         20 | allow_shell = "nobody"
            | ^^^^^^^^^^^
            = help: narrow the machine's `allow_from`, and grant single commands in `command` sections

        note: on `web01` commands run as the daemon's user there, who can read that machine's keys, unless its service names another (the Debian package's does): anyone who may run them can act as that machine, and is root if its daemon is
           --> [HOME]/clusters/company/cluster.toml:19:1
            |
         19 | allow_from = "laptop"
            | ^^^^^^^^^^
            = help: set a `username` where that matters

        ⚠️  malai.toml: 2 warnings
        ⚠️  company: 2 machines, 2 warnings
        ⏳ work: waiting for its first configuration, no problems
    "#]].assert_eq(&world.picture(&["rescan", "--check"]));
    let output = world.output(&["rescan", "--check", "--json"]);
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["ok"], true);
    assert_eq!(found["settings"][0]["severity"], "warning");
    let problems = found["clusters"][0]["problems"].as_array().unwrap();
    assert_eq!(problems.last().unwrap()["severity"], "note");
}
