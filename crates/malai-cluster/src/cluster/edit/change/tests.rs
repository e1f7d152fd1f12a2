//! Changes keep everything that they are not about.

use expect_test::{Expect, expect};

use super::super::tests::FILE;
use super::*;
use crate::testing::*;

fn name(text: &str) -> MachineName {
    MachineName::parse(text).unwrap()
}

fn group(text: &str) -> GroupName {
    GroupName::parse(text).unwrap()
}

fn list(entries: &[&str]) -> Option<ListChange> {
    let entries = entries.iter().map(ToString::to_string);
    Some(ListChange::To(entries.collect()))
}

/// The lines that differ, as `diff` writes them; the result is a valid cluster.
fn shown(before: &str, after: Result<String, EditError>) -> String {
    let after = match after {
        Ok(after) => after,
        Err(error) => return error.to_string(),
    };
    let checked = crate::check("f", &after);
    assert!(
        checked.cluster.is_some(),
        "{:#?}\n{after}",
        checked.diagnostics
    );
    let (old, new): (Vec<_>, Vec<_>) = (before.lines().collect(), after.lines().collect());
    let same = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let (old, new) = (&old[same..], &new[same..]);
    let tail = old.iter().rev().zip(new.iter().rev());
    let tail = tail.take_while(|(a, b)| a == b).count();
    let old = old[..old.len() - tail]
        .iter()
        .map(|line| format!("-{line}\n"));
    let new = new[..new.len() - tail]
        .iter()
        .map(|line| format!("+{line}\n"));
    old.chain(new).collect()
}

fn changed(machine: &str, change: MachineChange, expected: Expect) {
    let after = change_machine(FILE, &name(machine), &change);
    expected.assert_eq(&shown(FILE, after));
}

#[test]
fn lists_keep_their_form_and_comments() {
    changed(
        "web01",
        MachineChange {
            allow_from: list(&["laptop"]),
            ..MachineChange::default()
        },
        expect![[r#"
            -  allow_from = "laptop, web01 ,admins"   # who
            +  allow_from = "laptop"   # who
        "#]],
    );
    changed(
        "web01",
        MachineChange {
            allow_shell: list(&["laptop", "admins"]),
            ..MachineChange::default()
        },
        expect![[r#"
            +allow_shell = ["laptop", "admins"]
        "#]],
    );
    changed(
        "web01",
        MachineChange {
            allow_files: list(&[]),
            ..MachineChange::default()
        },
        expect![[r#"
            +allow_files = []
        "#]],
    );
    changed(
        "web01",
        MachineChange {
            allow_from: Some(ListChange::Unset),
            ..MachineChange::default()
        },
        expect![[r#"
            -  allow_from = "laptop, web01 ,admins"   # who
        "#]],
    );
    // The same list, written as it is.
    changed(
        "web01",
        MachineChange {
            allow_from: list(&["laptop", "web01", "admins"]),
            ..MachineChange::default()
        },
        expect![[r#""#]],
    );
    changed(
        "laptop",
        MachineChange {
            username: Some(UserChange::To(vec![UserName::parse("ann").unwrap()])),
            ..MachineChange::default()
        },
        expect![[r#"
            +username = "ann"
        "#]],
    );
}

#[test]
fn the_first_of_several_users_is_the_default() {
    let users = |names: &[&str]| {
        let names = names.iter().map(|name| UserName::parse(name).unwrap());
        MachineChange {
            username: Some(UserChange::To(names.collect())),
            ..MachineChange::default()
        }
    };
    let two = change_machine(FILE, &name("laptop"), &users(&["ann", "bob"])).unwrap();
    assert!(two.contains("username = [\"ann\", \"bob\"]"), "{two}");
    let turned = change_machine(&two, &name("laptop"), &users(&["bob", "ann"])).unwrap();
    assert!(turned.contains("username = [\"bob\", \"ann\"]"), "{turned}");
    let one = change_machine(&turned, &name("laptop"), &users(&["ann"])).unwrap();
    assert!(one.contains("username = \"ann\""), "{one}");
}

#[test]
fn a_new_key_is_the_same_machine_in_every_list() {
    changed(
        "laptop",
        MachineChange {
            id52: Some(id(STRANGER)),
            ..MachineChange::default()
        },
        expect![[r#"
            -id52 = 'tl4ihhh8q71cdqn90cs90mclc4kli9pqbhhvidhmo5319b476v8g'
            -allow_from = "*"
            -
            -# people
            -[group.admins]
            -members = [
            -  "laptop",  # Ann
            -  "tl4ihhh8q71cdqn90cs90mclc4kli9pqbhhvidhmo5319b476v8g",
            +id52 = "pa9qo5o531o73ljrgf3vu3nug44ehr2561blqtp6gu9j7muqnpu0"
            +allow_from = "*"
            +
            +# people
            +[group.admins]
            +members = [
            +  "laptop",  # Ann
            +  "pa9qo5o531o73ljrgf3vu3nug44ehr2561blqtp6gu9j7muqnpu0",
        "#]],
    );
}

#[test]
fn groups() {
    changed(
        "web01",
        MachineChange {
            remove_from: vec![group("admins")],
            ..MachineChange::default()
        },
        expect![[r#"
            -  "tl4ihhh8q71cdqn90cs90mclc4kli9pqbhhvidhmo5319b476v8g",
            -  "web01",   # itself
            +  "tl4ihhh8q71cdqn90cs90mclc4kli9pqbhhvidhmo5319b476v8g",   # itself
        "#]],
    );
    changed(
        "web01",
        MachineChange {
            add_to: vec![group("web"), group("admins")],
            ..MachineChange::default()
        },
        expect![[r#"
            +
            +[group.web]
            +members = "web01"
        "#]],
    );
    changed(
        "web01",
        MachineChange {
            remove_from: vec![group("nobody")],
            ..MachineChange::default()
        },
        expect!["there is no group `nobody`"],
    );
    // Comments belong to the entries before them, whatever the layout.
    let manager = format!("[cluster_manager]\nid52 = \"{MANAGER}\"\n");
    let machines = format!(
        "[machine.a]\nid52 = \"{WEB01}\"\n[machine.b]\nid52 = \"{LAPTOP}\"\n[machine.c]\nid52 = \"{STRANGER}\"\n"
    );
    let change = MachineChange {
        add_to: vec![group("g")],
        ..MachineChange::default()
    };
    for (members, after) in [
        (
            "[\n  \"a\",  # one\n  \"b\"  # two\n]",
            "[\n  \"a\",  # one\n  \"b\",  # two\n  \"c\"\n]",
        ),
        (
            "[\n  \"a\",  # one\n  \"b\",  # two\n]",
            "[\n  \"a\",  # one\n  \"b\",  # two\n  \"c\",\n]",
        ),
        (
            "[\n  \"a\",\n  # the last\n  \"b\"\n]",
            "[\n  \"a\",\n  # the last\n  \"b\",\n  \"c\"\n]",
        ),
        ("[\"a\", \"b\"]", "[\"a\", \"b\", \"c\"]"),
        ("[]", "[\"c\"]"),
        ("[ # nothing\n]", "[\"c\" # nothing\n]"),
        ("\"\"", "\"c\""),
        ("\"a , b\" # two", "\"a,b,c\" # two"),
    ] {
        let source = format!("{manager}{machines}[group.g]\nmembers = {members}\n");
        let edited = change_machine(&source, &name("c"), &change).unwrap();
        let (_, found) = edited.split_once("members = ").unwrap();
        assert_eq!(found.trim_end(), after, "{members}");
        let cluster = crate::check("f", &edited).cluster.unwrap();
        assert_eq!(
            cluster
                .members_of(cluster.group_named("g").unwrap())
                .count(),
            if members.contains('a') { 3 } else { 1 },
        );
    }
}

fn renamed(source: &str, old: &str, new: &str, expected: Expect) {
    let after = rename_machine(source, &name(old), &name(new));
    expected.assert_eq(&shown(source, after));
}

#[test]
fn a_machine_keeps_its_place_and_its_rights_under_another_name() {
    renamed(
        FILE,
        "laptop",
        "desk",
        expect![[r#"
        -  allow_from = "laptop, web01 ,admins"   # who
        -[machine.web01.command.x]
        -allow_from = ["laptop"]
        -
        -# Ann's
        -[machine.laptop]
        -id52 = 'tl4ihhh8q71cdqn90cs90mclc4kli9pqbhhvidhmo5319b476v8g'
        -allow_from = "*"
        -
        -# people
        -[group.admins]
        -members = [
        -  "laptop",  # Ann
        +  allow_from = "desk, web01 ,admins"   # who
        +[machine.web01.command.x]
        +allow_from = ["desk"]
        +
        +# Ann's
        +[machine.desk]
        +id52 = 'tl4ihhh8q71cdqn90cs90mclc4kli9pqbhhvidhmo5319b476v8g'
        +allow_from = "*"
        +
        +# people
        +[group.admins]
        +members = [
        +  "desk",  # Ann
    "#]],
    );
    renamed(
        FILE,
        "web01",
        "www",
        expect![[r#"
        -[machine.web01]
        -  id52 = "g4sne3l8fkblull3ahjc6j3upj5or2khmjn3f8ituo7ln3u9mea0"
        -  allow_from = "laptop, web01 ,admins"   # who
        -[machine.web01.command.x]
        -allow_from = ["laptop"]
        -
        -# Ann's
        -[machine.laptop]
        -id52 = 'tl4ihhh8q71cdqn90cs90mclc4kli9pqbhhvidhmo5319b476v8g'
        -allow_from = "*"
        -
        -# people
        -[group.admins]
        -members = [
        -  "laptop",  # Ann
        -  "tl4ihhh8q71cdqn90cs90mclc4kli9pqbhhvidhmo5319b476v8g",
        -  "web01",   # itself
        +[machine.www]
        +  id52 = "g4sne3l8fkblull3ahjc6j3upj5or2khmjn3f8ituo7ln3u9mea0"
        +  allow_from = "laptop, www ,admins"   # who
        +[machine.www.command.x]
        +allow_from = ["laptop"]
        +
        +# Ann's
        +[machine.laptop]
        +id52 = 'tl4ihhh8q71cdqn90cs90mclc4kli9pqbhhvidhmo5319b476v8g'
        +allow_from = "*"
        +
        +# people
        +[group.admins]
        +members = [
        +  "laptop",  # Ann
        +  "tl4ihhh8q71cdqn90cs90mclc4kli9pqbhhvidhmo5319b476v8g",
        +  "www",   # itself
    "#]],
    );
    renamed(
        FILE,
        "web01",
        "laptop",
        expect![
            "a machine `laptop` already exists: choose another name, or remove that machine first"
        ],
    );
    renamed(FILE, "db", "db2", expect!["there is no machine `db`"]);
    let inline = format!(
        "machine = {{ laptop = {{ id52 = \"{LAPTOP}\" }}, b = {{ id52 = \"{WEB01}\", allow_from = \"laptop\" }} }} # all\n[cluster_manager]\nid52 = \"{MANAGER}\"\n"
    );
    renamed(
        &inline,
        "laptop",
        "desk",
        expect![[r#"
        -machine = { laptop = { id52 = "tl4ihhh8q71cdqn90cs90mclc4kli9pqbhhvidhmo5319b476v8g" }, b = { id52 = "g4sne3l8fkblull3ahjc6j3upj5or2khmjn3f8ituo7ln3u9mea0", allow_from = "laptop" } } # all
        +machine = { b = { id52 = "g4sne3l8fkblull3ahjc6j3upj5or2khmjn3f8ituo7ln3u9mea0", allow_from = "desk" } , desk = { id52 = "tl4ihhh8q71cdqn90cs90mclc4kli9pqbhhvidhmo5319b476v8g" }} # all
    "#]],
    );
}

#[test]
fn what_a_rename_changes_is_names_only() {
    let before = crate::check("f", FILE).cluster.unwrap();
    let after = rename_machine(FILE, &name("laptop"), &name("desk")).unwrap();
    let after = crate::check("f", &after).cluster.unwrap();
    for from in before.members() {
        for to in before.members() {
            for argv in [vec![b"x".to_vec()], vec![b"ls".to_vec()]] {
                let ask = |cluster: &crate::Cluster| {
                    let action = crate::Action::Exec(&argv);
                    let request = crate::Request {
                        from,
                        to,
                        action,
                        user: None,
                    };
                    let decision = crate::decide(cluster, &request, None);
                    matches!(decision, crate::Decision::Allow(_))
                };
                assert_eq!(ask(&before), ask(&after));
            }
        }
    }
}

#[test]
fn a_service_follows_its_machine() {
    let file = format!(
        "[cluster_manager]\nid52 = \"{MANAGER}\"\n[machine.web01]\nid52 = \"{WEB01}\"\n[machine.laptop]\nid52 = \"{LAPTOP}\"\n[service.db]\nmachine = \"web01\"  # for now\ntcp = \"127.0.0.1:5432\"\nallow_from = \"web01,laptop\"\n[service.x]\nmachine = \"laptop\"\nunix = \"/x\"\nallow_from = [\"web01\"]\n"
    );
    renamed(
        &file,
        "web01",
        "web02",
        expect![[r#"
        -[machine.web01]
        -id52 = "g4sne3l8fkblull3ahjc6j3upj5or2khmjn3f8ituo7ln3u9mea0"
        -[machine.laptop]
        -id52 = "tl4ihhh8q71cdqn90cs90mclc4kli9pqbhhvidhmo5319b476v8g"
        -[service.db]
        -machine = "web01"  # for now
        -tcp = "127.0.0.1:5432"
        -allow_from = "web01,laptop"
        -[service.x]
        -machine = "laptop"
        -unix = "/x"
        -allow_from = ["web01"]
        +[machine.web02]
        +id52 = "g4sne3l8fkblull3ahjc6j3upj5or2khmjn3f8ituo7ln3u9mea0"
        +[machine.laptop]
        +id52 = "tl4ihhh8q71cdqn90cs90mclc4kli9pqbhhvidhmo5319b476v8g"
        +[service.db]
        +machine = "web02"  # for now
        +tcp = "127.0.0.1:5432"
        +allow_from = "web02,laptop"
        +[service.x]
        +machine = "laptop"
        +unix = "/x"
        +allow_from = ["web02"]
    "#]],
    );
    let without = super::super::remove_machine(&file, &name("web01"));
    expect![[r#"
        -[machine.web01]
        -id52 = "g4sne3l8fkblull3ahjc6j3upj5or2khmjn3f8ituo7ln3u9mea0"
        -[machine.laptop]
        -id52 = "tl4ihhh8q71cdqn90cs90mclc4kli9pqbhhvidhmo5319b476v8g"
        -[service.db]
        -machine = "web01"  # for now
        -tcp = "127.0.0.1:5432"
        -allow_from = "web01,laptop"
        -[service.x]
        -machine = "laptop"
        -unix = "/x"
        -allow_from = ["web01"]
        +[machine.laptop]
        +id52 = "tl4ihhh8q71cdqn90cs90mclc4kli9pqbhhvidhmo5319b476v8g"
        +[service.x]
        +machine = "laptop"
        +unix = "/x"
        +allow_from = []
    "#]]
    .assert_eq(&shown(&file, without));
}

/// A list that an edit does not know would keep a name that no longer exists.
#[test]
fn every_list_of_a_machine_follows_a_rename() {
    let lists = ["allow_from", "allow_shell", "allow_files", "allow_forward"]
        .map(|key| format!("{key} = \"laptop\"\n"));
    let file = FILE.replace("allow_from = \"*\"\n", &lists.concat());
    let after = rename_machine(&file, &name("laptop"), &name("desk")).unwrap();
    assert!(!after.contains("\"laptop\"\n"), "{after}");
    shown(&file, Ok(after));
    let without = super::super::remove_machine(&file, &name("web01")).unwrap();
    shown(&file, Ok(without));
}
