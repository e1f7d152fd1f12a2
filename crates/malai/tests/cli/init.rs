//! `malai cluster init` and `malai machine init`: what they print, make, and refuse.

use std::fs;
use std::os::unix::fs::MetadataExt;

use expect_test::expect;

use crate::world::World;

const ID: &str = "i66fo538lfl5ombdf6tcdbrabp4hmp9asv7nrffuc2im13ct4q60";

/// The name that `machine init` proposes on this computer.
fn host() -> String {
    let host = gethostname::gethostname();
    malai_cluster::sanitize_host(&host.to_string_lossy()).to_string()
}

#[test]
fn a_new_cluster_says_where_it_is_and_what_to_do() {
    let world = World::new();
    expect![[r#"
        exit code: 0
        ----- stdout -----
        Cluster created with ID: [ID52]
        📄 Config: [HOME]/clusters/company/cluster.toml
        🔑 Private key: [HOME]/clusters/company/cluster.private-key (keep it secure, and back it up)
        📋 Next steps:
        1. Start the daemon here:
           malai daemon
        2. On each machine that is to join:
           malai machine init [ID52] company
        3. Add the section that it prints to the config above, then:
           malai rescan company
        💤 No daemon is running here: start it with malai daemon
    "#]]
    .assert_eq(&world.picture(&["cluster", "init", "company"]));
    for (path, mode) in [
        ("", 0o700),
        ("clusters", 0o700),
        ("clusters/company/cluster.private-key", 0o600),
    ] {
        let metadata = fs::metadata(world.home().join(path)).unwrap();
        assert_eq!(metadata.mode() & 0o7777, mode, "{path}");
    }
    expect![[r#"
        exit code: 0
        ----- stdout -----
        ✅ company: 0 machines, no problems
    "#]]
    .assert_eq(&world.picture(&["rescan", "--check"]));
}

#[test]
fn a_new_machine_prints_the_section_that_the_manager_adds() {
    let manager = World::new();
    manager.succeed(&["cluster", "init", "company"]);
    let config = manager.cluster_file("company/cluster.toml");
    let text = fs::read_to_string(&config).unwrap();
    let id = text.split('"').find(|piece| piece.len() == 52).unwrap();

    let machine = World::new();
    let output = machine.output(&["machine", "init", id, "work"]);
    let shown = machine.show(&output).replace(&host(), "[HOST]");
    expect![[r#"
        exit code: 0
        ----- stdout -----
        Machine created with ID: [ID52]
        📋 Next steps:
        1. Cluster admin should add this machine to cluster config:
           [machine.[HOST]]
           id52 = "[ID52]"
           allow_from = "*"
        2. Cluster admin should then update the running daemon there:
           malai rescan
        3. Start the daemon on this machine:
           malai daemon
        💤 No daemon is running here: start it with malai daemon
    "#]]
    .assert_eq(&shown);

    // What is printed can be pasted as it is, indentation and all.
    let printed = String::from_utf8(output.stdout).unwrap();
    let section: Vec<_> = printed
        .lines()
        .filter(|line| line.starts_with("   "))
        .collect();
    let section = section[..3].join("\n");
    fs::write(&config, format!("{text}\n{section}\n")).unwrap();
    let check = manager.succeed(&["rescan", "--check", "company"]);
    assert!(
        check.contains("✅ company: 1 machine, no problems"),
        "{check}"
    );
}

#[test]
fn what_cannot_be_an_alias_is_refused_and_nothing_is_made() {
    let world = World::new();
    let long = "a".repeat(64);
    for alias in [
        "../../evil",
        "",
        " ",
        &long,
        "Company",
        "a.b",
        "-",
        "a/b",
        "a\nb",
        ID,
    ] {
        for args in [&["cluster", "init"][..], &["machine", "init", ID]] {
            let args = [args, &["--", alias]].concat();
            let output = world.output(&args);
            assert_eq!(output.status.code(), Some(2), "{args:?}: {output:?}");
            let stderr = String::from_utf8(output.stderr).unwrap();
            assert!(stderr.starts_with("malai: cannot "), "{stderr}");
            assert!(output.stdout.is_empty());
        }
    }
    assert!(!world.home().exists());
    expect![[r#"
        exit code: 2
        ----- stderr -----
        malai: cannot create the cluster: "../../evil" cannot be a cluster alias: it contains "."; use only a-z, 0-9 and "-"
    "#]].assert_eq(&world.picture(&["cluster", "init", "../../evil"]));
}

#[test]
fn what_cannot_be_an_id52_is_refused_and_nothing_is_made() {
    let world = World::new();
    let spare_bits = format!("{}1", &ID[..51]);
    let upper = ID.to_uppercase();
    let weak = "0".repeat(52);
    for id in ["", "abc", &spare_bits, &upper, &weak, &ID[..51]] {
        let output = world.output(&["machine", "init", id, "company"]);
        assert_eq!(output.status.code(), Some(2), "{id}: {output:?}");
    }
    assert!(!world.home().exists());
    expect![[r#"
        exit code: 2
        ----- stderr -----
        malai: cannot join the cluster: the manager's id52 is wrong: an id52 has 52 characters, this has 3: copy all of it from where it was printed (on the manager, malai status shows it)
    "#]].assert_eq(&world.picture(&["machine", "init", "abc", "company"]));
    expect![[r#"
        exit code: 2
        ----- stderr -----
        malai: cannot join the cluster: the id52 and the alias are swapped: malai machine init [ID52] company
    "#]]
    .assert_eq(&world.picture(&["machine", "init", "company", ID]));
}

#[test]
fn an_alias_that_is_taken_and_a_cluster_that_is_joined_are_refused() {
    let world = World::new();
    world.succeed(&["cluster", "init", "company"]);
    world.succeed(&["machine", "init", ID, "work"]);
    let key = fs::read(world.cluster_file("company/cluster.private-key")).unwrap();
    expect![[r#"
        exit code: 1
        ----- stderr -----
        malai: the alias `company` is taken: [HOME]/clusters/company already exists; nothing was changed, choose another alias
    "#]].assert_eq(&world.picture(&["cluster", "init", "company"]));
    expect![[r#"
        exit code: 1
        ----- stderr -----
        malai: this computer is already in the cluster i66fo538…, as a machine, under the alias `work`; nothing was changed, use that alias (to join it a second time, set MALAI_HOME to another folder)
    "#]].assert_eq(&world.picture(&["machine", "init", ID, "again"]));
    assert_eq!(
        fs::read(world.cluster_file("company/cluster.private-key")).unwrap(),
        key
    );
    assert!(!world.cluster_file("again").exists());
}

#[test]
fn a_home_that_cannot_be_is_an_error() {
    let world = World::new();
    let mut command = world.command(&["cluster", "init", "company"]);
    let output = command.env("MALAI_HOME", "").output().unwrap();
    expect![[r#"
        exit code: 1
        ----- stderr -----
        malai: the environment variable MALAI_HOME is empty; unset it to use ~/.malai, or set it to a folder
    "#]].assert_eq(&world.show(&output));
    fs::write(world.home(), "a file").unwrap();
    expect![[r#"
        exit code: 1
        ----- stderr -----
        malai: [HOME] is not a folder; move it away, or set MALAI_HOME to another place
    "#]]
    .assert_eq(&world.picture(&["cluster", "init", "company"]));
}

#[test]
fn a_relative_home_is_shown_and_used_in_full() {
    let world = World::new();
    let mut command = world.command(&["cluster", "init", "company"]);
    let output = command.env("MALAI_HOME", "home/").output().unwrap();
    assert!(output.status.success());
    assert!(
        world
            .show(&output)
            .contains("[HOME]/clusters/company/cluster.toml")
    );
    assert!(world.cluster_file("company/cluster.toml").exists());
}
