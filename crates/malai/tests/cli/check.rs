//! `malai rescan --check`: every problem with its place, a line for each cluster, and the exit code.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use crate::world::World;
use expect_test::expect;

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
        malai: there is no cluster nowhere in [HOME]/clusters; there are: company, work
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
        error: "lann" is no reach: it is public, lan or loopback
          --> [HOME]/malai.toml:2:9
           |
         2 | reach = "lann"
           |         ^^^^^^
           = help: did you mean "lan"?

        error: an id52 has 52 characters, this has 3: copy the whole of what `malai machine init` or `malai status` printed
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
    "#]].assert_eq(&world.picture(&["rescan", "--check"]));
}

#[test]
fn keys_are_checked_too() {
    let world = world();
    let key = world.cluster_file("company/cluster.private-key");
    fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    expect![[r#"
        exit code: 1
        ----- stdout -----
        error: the private key [HOME]/clusters/company/cluster.private-key has mode 0644, so that other users can get at it; if it is still yours alone, mend it with: chmod 600 [HOME]/clusters/company/cluster.private-key

        ❌ company: 0 machines, 1 error
    "#]].assert_eq(&world.picture(&["rescan", "--check", "company"]));

    world.succeed(&["cluster", "init", "other"]);
    fs::copy(world.cluster_file("other/cluster.private-key"), &key).unwrap();
    fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    fs::remove_dir_all(world.cluster_file("other")).unwrap();
    expect![[r#"
        exit code: 1
        ----- stdout -----
        error: this is not the id52 of the key in cluster.private-key
          --> [HOME]/clusters/company/cluster.toml:5:8
           |
         5 | id52 = "[ID52]"
           |        ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
           = help: write "[ID52]" here, or restore the key file that belongs to this configuration

        ❌ company: 0 machines, 1 error
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
        error: [HOME]/clusters/work/machine.toml: its first line is torn or was changed, so there is no telling who signed it (until it is fetched again, everything is denied in this cluster; `malai daemon` fetches it)

        error: the folder [HOME]/clusters/Old Stuff cannot be a cluster: "Old Stuff" cannot be a cluster alias: only a-z, 0-9 and "-" may be in it, not "O"; rename it, or move it out of clusters/

        ✅ company: 0 machines, no problems
        ❌ work: 1 error
        ❌ Old Stuff: 1 error
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
