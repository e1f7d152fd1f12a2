//! What the loader finds in folders made for it.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use malai_cluster::{initial_document, machine_section};
use tempfile::{TempDir, tempdir};

use super::*;
use crate::home::Home;
use crate::home::init::{init_cluster, init_machine};

/// A manager's folder with one machine in its file, and the manager's key.
fn managed() -> (TempDir, ClusterDir, SecretSeed) {
    let folder = tempdir().unwrap();
    let home = Home::at(folder.path().join("home"));
    let made = init_cluster(&home, &"company".parse().unwrap()).unwrap();
    let seed = keystore::load(&made.dir.cluster_key()).unwrap();
    fs::write(made.dir.cluster_toml(), document(&seed, "web01")).unwrap();
    (folder, made.dir, seed)
}

/// A machine's folder, and the key that may sign for it.
fn joined() -> (TempDir, ClusterDir, SecretSeed) {
    let folder = tempdir().unwrap();
    let home = Home::at(folder.path().join("home"));
    let seed = SecretSeed::from_bytes([7; 32]);
    let cluster = ClusterId::new(seed.id());
    let made = init_machine(&home, &"work".parse().unwrap(), &cluster, &[]).unwrap();
    (folder, made.dir, seed)
}

/// A configuration with one machine of this name.
fn document(manager: &SecretSeed, name: &str) -> String {
    let machine = SecretSeed::from_bytes([9; 32]).id();
    initial_document(&manager.id(), "company") + &machine_section(&name.parse().unwrap(), &machine)
}

fn snapshot(manager: &SecretSeed, name: &str, revision: u64) -> String {
    let checked = check("cluster.toml", &document(manager, name));
    Snapshot::seal(manager, revision, &checked.cluster.unwrap()).to_file()
}

#[track_caller]
fn assert_is(dir: &ClusterDir, condition: Condition, servable: bool, words: &str) -> LoadedCluster {
    let loaded = LoadedCluster::load(dir);
    let problems: Vec<String> = loaded.problems.iter().map(ToString::to_string).collect();
    let problems = problems.join("\n");
    assert_eq!(loaded.condition, condition, "{problems}");
    assert_eq!(loaded.is_servable(), servable, "{problems}");
    assert!(problems.contains(words), "no {words:?} in {problems}");
    if words.is_empty() {
        assert_eq!(problems, "");
    }
    loaded
}

#[test]
fn a_manager_with_a_sound_file() {
    let (_folder, dir, seed) = managed();
    let loaded = assert_is(&dir, Condition::Sound, true, "");
    assert_eq!(loaded.id, Some(ClusterId::new(seed.id())));
    assert_eq!(loaded.own_id(), Some(seed.id()));
    assert_eq!(loaded.machines, Some(1));
    assert!(loaded.draft.is_some() && loaded.snapshot.is_none());
    assert!(loaded.configuration().is_some());
}

#[test]
fn a_broken_file_is_served_as_far_as_something_was_published() {
    let (_folder, dir, seed) = managed();
    for (text, words) in [
        (Some("[machine.web01]\nid = 3\n"), "cluster.toml:1"),
        (Some("[broken"), "cluster.toml:1"),
        (None, "is missing"),
    ] {
        match text {
            Some(text) => fs::write(dir.cluster_toml(), text).unwrap(),
            None => fs::remove_file(dir.cluster_toml()).unwrap(),
        }
        let _ = fs::remove_file(dir.published());
        assert_is(&dir, Condition::Broken, false, words);
        fs::write(dir.published(), snapshot(&seed, "web01", 5)).unwrap();
        let loaded = assert_is(&dir, Condition::Broken, true, words);
        assert_eq!(loaded.role, Some(Role::Manager));
        assert_eq!(loaded.snapshot.unwrap().revision(), 5);
    }
}

#[test]
fn what_is_in_force_is_read_without_the_file() {
    let (_folder, dir, seed) = managed();
    fs::write(dir.published(), snapshot(&seed, "web01", 5)).unwrap();
    fs::write(dir.cluster_toml(), "[broken").unwrap();
    let loaded = LoadedCluster::load_in_force(&dir);
    assert!(loaded.is_servable() && loaded.problems.is_empty());
    fs::remove_file(dir.published()).unwrap();
    assert!(!LoadedCluster::load_in_force(&dir).is_servable());
}

#[test]
fn a_manager_that_was_shown_a_newer_revision_is_behind() {
    let (_folder, dir, seed) = managed();
    fs::write(dir.published(), snapshot(&seed, "web01", 5)).unwrap();
    fs::write(dir.newer(), snapshot(&seed, "db", 9)).unwrap();
    let loaded = assert_is(&dir, Condition::Behind, true, "revision 9");
    let message = loaded.problems[0].to_string();
    for line in [
        "- [machine.db]",
        "+ [machine.web01]",
        "--publish-older",
        "tail -n +2",
    ] {
        assert!(message.contains(line), "no {line:?} in {message}");
    }
    assert!(!loaded.problems[0].brief().contains('\n'));
    // A file that says the same is what the hint leads to.
    let newer = fs::read_to_string(dir.newer()).unwrap();
    fs::write(dir.cluster_toml(), newer.split_once('\n').unwrap().1).unwrap();
    assert_is(&dir, Condition::Sound, true, "");
    // What is not newer has been settled.
    fs::write(dir.published(), snapshot(&seed, "web01", 9)).unwrap();
    let loaded = LoadedCluster::load(&dir);
    assert!(loaded.newer.is_none() && loaded.problems.is_empty());
    // A broken file is not compared, and the newer revision not forgotten.
    fs::write(dir.newer(), snapshot(&seed, "db", 10)).unwrap();
    fs::write(dir.cluster_toml(), "[broken").unwrap();
    assert_is(&dir, Condition::Broken, true, "revision 10");
}

#[test]
fn a_damaged_snapshot_is_told_apart_from_a_missing_one() {
    let (_folder, dir, seed) = managed();
    assert!(!LoadedCluster::load(&dir).snapshot_is_damaged);
    let other = snapshot(&SecretSeed::from_bytes([3; 32]), "web01", 5);
    let torn = snapshot(&seed, "web01", 5)[..90].to_owned();
    for text in [other.as_str(), &torn, "", "\u{0}"] {
        fs::write(dir.published(), text).unwrap();
        let loaded = assert_is(&dir, Condition::Sound, true, "cannot be used");
        assert!(loaded.snapshot_is_damaged && loaded.snapshot.is_none());
        assert_eq!(loaded.all_errors(), "", "publishing again fixes it");
    }
}

#[test]
fn without_its_key_a_cluster_cannot_be_served() {
    let (_folder, dir, seed) = managed();
    fs::write(dir.published(), snapshot(&seed, "web01", 5)).unwrap();
    let mode = |mode| {
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(dir.cluster_key(), mode).unwrap();
    };
    mode(0o644);
    assert_is(&dir, Condition::Broken, false, "chmod 600");
    mode(0o600);
    fs::remove_file(dir.cluster_key()).unwrap();
    assert_is(&dir, Condition::Broken, false, "is missing");
    let new = keystore::create(&dir.cluster_key()).unwrap();
    assert_is(&dir, Condition::Broken, false, &new.id().to_string());
}

#[test]
fn a_machine_waits_receives_and_loses() {
    let (_folder, dir, seed) = joined();
    let loaded = assert_is(&dir, Condition::Waiting, true, "");
    assert_eq!(loaded.id, Some(ClusterId::new(seed.id())));
    assert!(loaded.configuration().is_none());
    fs::write(dir.machine_toml(), snapshot(&seed, "web01", 5)).unwrap();
    let loaded = assert_is(&dir, Condition::Sound, true, "");
    assert_eq!(loaded.machines, Some(1));
    assert!(loaded.source.is_some() && loaded.configuration().is_some());
    fs::write(dir.machine_toml(), "torn").unwrap();
    let loaded = assert_is(&dir, Condition::Damaged, true, "denies everything");
    assert!(loaded.snapshot_is_damaged);
    fs::remove_file(dir.manager_file()).unwrap();
    assert_is(&dir, Condition::Broken, false, "is missing");
    // The key alone still tells whose folder it is.
    fs::remove_file(dir.machine_toml()).unwrap();
    let loaded = assert_is(&dir, Condition::Broken, false, "is missing");
    assert_eq!(loaded.role, Some(Role::Machine));
}

#[test]
fn a_folder_without_a_clusters_files_is_a_stray() {
    let (_folder, dir, _) = managed();
    let empty = ClusterDir {
        alias: "empty".parse().unwrap(),
        path: dir.path.with_file_name("empty"),
    };
    fs::create_dir(&empty.path).unwrap();
    fs::write(empty.path.join("notes.txt"), "").unwrap();
    let loaded = assert_is(&empty, Condition::Stray, false, "warning: ");
    assert_eq!(loaded.all_errors(), "");
}
