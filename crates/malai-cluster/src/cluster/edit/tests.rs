//! Edits keep everything that they are not about.

use expect_test::{Expect, expect};

use super::*;
use crate::testing::*;

pub(super) const FILE: &str = r#"# our machines
[cluster_manager]
id52 = "ha4e7nbk17opbvaircmjpeiteb56e2dv3ma146vjei403d0fdte0"   # do not lose

# the web server
[machine.web01]
  id52 = "g4sne3l8fkblull3ahjc6j3upj5or2khmjn3f8ituo7ln3u9mea0"
  allow_from = "laptop, web01 ,admins"   # who
[machine.web01.command.x]
allow_from = ["laptop"]

# Ann's
[machine.laptop]
id52 = 'tl4ihhh8q71cdqn90cs90mclc4kli9pqbhhvidhmo5319b476v8g'
allow_from = "*"

# people
[group.admins]
members = [
  "laptop",  # Ann
  "tl4ihhh8q71cdqn90cs90mclc4kli9pqbhhvidhmo5319b476v8g",
  "web01",   # itself
]"#;

fn added(source: &str, allow_from: &[&str], expected: Expect) {
    let name = MachineName::parse("db").unwrap();
    let allow_from: Vec<String> = allow_from.iter().map(ToString::to_string).collect();
    match add_machine(source, &name, &id(STRANGER), &allow_from) {
        Ok(text) => {
            let rest = text.strip_prefix(source).unwrap_or(&text);
            expected.assert_eq(rest);
            let cluster = super::super::check("f", &text).cluster.unwrap();
            assert_eq!(cluster.machine_named("db").unwrap().id(), id(STRANGER));
        }
        Err(problem) => expected.assert_eq(&problem.to_string()),
    }
}

#[test]
fn adding() {
    added(
        FILE,
        &["*"],
        expect![[r#"


        [machine.db]
        id52 = "pa9qo5o531o73ljrgf3vu3nug44ehr2561blqtp6gu9j7muqnpu0"
        allow_from = "*"
    "#]],
    );
    added(
        FILE,
        &["laptop", "admins"],
        expect![[r#"


        [machine.db]
        id52 = "pa9qo5o531o73ljrgf3vu3nug44ehr2561blqtp6gu9j7muqnpu0"
        allow_from = ["laptop", "admins"]
    "#]],
    );
    added(
        FILE,
        &[],
        expect![[r#"


        [machine.db]
        id52 = "pa9qo5o531o73ljrgf3vu3nug44ehr2561blqtp6gu9j7muqnpu0"
    "#]],
    );
    let manager = format!("[cluster_manager]\nid52 = \"{MANAGER}\"\n");
    added(
        &manager,
        &["*"],
        expect![[r#"

        [machine.db]
        id52 = "pa9qo5o531o73ljrgf3vu3nug44ehr2561blqtp6gu9j7muqnpu0"
        allow_from = "*"
    "#]],
    );
    let inline = format!("machine = {{ laptop = {{ id52 = \"{LAPTOP}\" }} }} # all\n{manager}");
    added(
        &inline,
        &["laptop"],
        expect![[r#"
        machine = { laptop = { id52 = "tl4ihhh8q71cdqn90cs90mclc4kli9pqbhhvidhmo5319b476v8g" } , db = { id52 = "pa9qo5o531o73ljrgf3vu3nug44ehr2561blqtp6gu9j7muqnpu0", allow_from = ["laptop"] } } # all
        [cluster_manager]
        id52 = "ha4e7nbk17opbvaircmjpeiteb56e2dv3ma146vjei403d0fdte0"
    "#]],
    );
    let dotted = format!("machine.laptop.id52 = \"{LAPTOP}\" # mine\n{manager}");
    added(
        &dotted,
        &["*"],
        expect![[r#"

        [machine.db]
        id52 = "pa9qo5o531o73ljrgf3vu3nug44ehr2561blqtp6gu9j7muqnpu0"
        allow_from = "*"
    "#]],
    );
    added(
        &format!("{manager}[machine.db]\nid52 = \"{WEB01}\"\n"),
        &["*"],
        expect!["a machine `db` already exists: choose another name, or remove that machine first"],
    );
    added(
        "machine = 3\n",
        &["*"],
        expect!["`machine` is not a section: run `malai rescan --check` and fix the file first"],
    );
    added(
        "[machine",
        &["*"],
        expect![
            "the file is not valid TOML (unclosed table, expected `]`): run `malai rescan --check` and fix it first"
        ],
    );
}

fn removed(name: &str, expected: Expect) {
    let name = MachineName::parse(name).unwrap();
    match remove_machine(FILE, &name) {
        Ok(text) => {
            expected.assert_eq(&text);
            let checked = super::super::check("f", &text);
            assert!(checked.cluster.is_some(), "{:?}", checked.diagnostics);
        }
        Err(problem) => expected.assert_eq(&problem.to_string()),
    }
}

#[test]
fn removing() {
    removed(
        "laptop",
        expect![[r##"
        # our machines
        [cluster_manager]
        id52 = "ha4e7nbk17opbvaircmjpeiteb56e2dv3ma146vjei403d0fdte0"   # do not lose

        # the web server
        [machine.web01]
          id52 = "g4sne3l8fkblull3ahjc6j3upj5or2khmjn3f8ituo7ln3u9mea0"
          allow_from = "web01,admins"   # who
        [machine.web01.command.x]
        allow_from = []

        # people
        [group.admins]
        members = [
          "web01",   # itself
        ]
    "##]],
    );
    removed(
        "web01",
        expect![[r##"
        # our machines
        [cluster_manager]
        id52 = "ha4e7nbk17opbvaircmjpeiteb56e2dv3ma146vjei403d0fdte0"   # do not lose

        # Ann's
        [machine.laptop]
        id52 = 'tl4ihhh8q71cdqn90cs90mclc4kli9pqbhhvidhmo5319b476v8g'
        allow_from = "*"

        # people
        [group.admins]
        members = [
          "laptop",  # Ann
          "tl4ihhh8q71cdqn90cs90mclc4kli9pqbhhvidhmo5319b476v8g",   # itself
        ]
    "##]],
    );
    removed("db", expect!["there is no machine `db`"]);
}

#[test]
fn folders_follow_their_machine() {
    let source = format!(
        "{FILE}\n\n[folder.logs]\nmachine = \"web01\" # the disk\npath = \"/var/log\"\nallow_from = \"laptop,web01\"\n\n# Ann's\n[folder.home]\nmachine = 'laptop'\npath = \"/home\"\nallow_from = [\"web01\"]\n"
    );
    let [web01, www] = ["web01", "www"].map(|name| MachineName::parse(name).unwrap());
    let removed = remove_machine(&source, &web01).unwrap();
    let (_, folders) = removed.split_once("# Ann's\n[folder").unwrap();
    assert!(!removed.contains("[folder.logs]") && folders.ends_with("allow_from = []\n"));
    let renamed = rename_machine(&source, &web01, &www).unwrap();
    for line in [
        "machine = \"www\" # the disk",
        "\"laptop,www\"",
        "[\"www\"]",
    ] {
        assert!(renamed.contains(line), "{renamed}");
    }
    for edited in [removed, renamed] {
        let checked = super::super::check("f", &edited);
        assert!(checked.cluster.is_some(), "{:?}", checked.diagnostics);
    }
}

#[test]
fn every_list_of_a_machine_follows_a_name() {
    let source = FILE.replace(
        "allow_from = \"*\"",
        "allow_from = \"*\"\nallow_shell = \"web01\"\nallow_files = \"web01\"\nallow_forward = \"web01\"",
    );
    let [web01, www] = ["web01", "www"].map(|name| MachineName::parse(name).unwrap());
    for edited in [
        remove_machine(&source, &web01).unwrap(),
        rename_machine(&source, &web01, &www).unwrap(),
    ] {
        let checked = super::super::check("f", &edited);
        assert!(checked.cluster.is_some(), "{:?}", checked.diagnostics);
    }
}

#[test]
fn added_and_removed_again() {
    let name = MachineName::parse("db").unwrap();
    let added = add_machine(FILE, &name, &id(STRANGER), &["*".to_owned()]).unwrap();
    let again = remove_machine(&added, &name).unwrap();
    assert_eq!(again.trim_end(), FILE);
}

#[test]
fn a_file_from_windows_stays_one() {
    let file = format!("\u{feff}{}\r\n", FILE.replace('\n', "\r\n"));
    let (db, web01) = (
        MachineName::parse("db").unwrap(),
        MachineName::parse("web01").unwrap(),
    );
    for edited in [
        add_machine(&file, &db, &id(STRANGER), &["*".to_owned()]).unwrap(),
        remove_machine(&file, &web01).unwrap(),
    ] {
        assert!(edited.starts_with("\u{feff}# our machines\r\n"));
        assert!(!edited.replace("\r\n", "").contains('\n'), "{edited:?}");
        assert!(super::super::check("f", &edited).cluster.is_some());
    }
}

#[test]
fn comments_that_are_set_off_from_a_removed_section_stay() {
    let manager = format!("[cluster_manager]\nid52 = \"{MANAGER}\"\n");
    let section = |name: &str, id: &str| format!("[machine.{name}]\nid52 = \"{id}\"\n");
    let (laptop, web) = (section("laptop", LAPTOP), section("web", STRANGER));
    for (source, after) in [
        // About the file, and about the section.
        (
            format!("{manager}\n# all machines\n\n# mine\n{laptop}\n# theirs\n{web}"),
            format!("{manager}\n# all machines\n\n# theirs\n{web}"),
        ),
        (
            format!("{manager}\n# a\n\n# b\n\n{laptop}{web}"),
            format!("{manager}\n# a\n\n# b\n\n{web}"),
        ),
        (
            format!("{manager}\n# a\n# b\n\n{laptop}"),
            format!("{manager}\n# a\n# b\n"),
        ),
        (
            format!("{manager}\n# a\n\n{laptop}\n# the end\n"),
            format!("{manager}\n# a\n\n# the end\n"),
        ),
        (
            format!("# the file\n\n{laptop}\n[machine.laptop.command.x]\n\n# last\n\n{manager}"),
            format!("# the file\n\n# last\n\n{manager}"),
        ),
    ] {
        let name = MachineName::parse("laptop").unwrap();
        assert_eq!(remove_machine(&source, &name).unwrap(), after);
    }
}
