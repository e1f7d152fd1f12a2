//! What the check of a home finds, on homes made for it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use malai_cluster::{MachineName, SecretSeed, initial_document, machine_section};
use tempfile::{TempDir, tempdir};

use super::*;

use crate::home::init::{NewCluster, init_cluster, init_machine};

fn home() -> (TempDir, Home) {
    let folder = tempdir().unwrap();
    let home = Home::at(folder.path().join("home"));
    (folder, home)
}

fn alias(text: &str) -> ClusterAlias {
    ClusterAlias::parse(text).unwrap()
}

fn managed(home: &Home) -> NewCluster {
    init_cluster(home, &alias("company")).unwrap()
}

fn only(home: &Home) -> ClusterReport {
    let mut reports = verify_home(home, None).unwrap();
    assert_eq!(reports.len(), 1, "{reports:#?}");
    reports.remove(0)
}

fn messages(report: &ClusterReport) -> String {
    let shown: Vec<_> = report.problems.iter().map(ToString::to_string).collect();
    shown.join("\n")
}

/// A machine's folder and the key that may sign for it.
fn joined(home: &Home) -> (ClusterDir, SecretSeed) {
    let seed = SecretSeed::from_bytes([7; 32]);
    let made = init_machine(home, &alias("work"), &ClusterId::new(seed.id()), &[]).unwrap();
    (made.dir, seed)
}

fn snapshot(seed: &SecretSeed, machine: &MachineId) -> Snapshot {
    let name = MachineName::parse("web01").unwrap();
    let text = initial_document(&seed.id(), "work") + &machine_section(&name, machine);
    let checked = check("cluster.toml", &text);
    Snapshot::seal(seed, 5, &checked.cluster.unwrap())
}

#[test]
fn a_fresh_cluster_is_sound() {
    let (_folder, home) = home();
    let made = managed(&home);
    let report = only(&home);
    assert_eq!(report.condition, Condition::Sound, "{}", messages(&report));
    assert_eq!(report.id, Some(made.id));
    assert_eq!(report.machines, Some(0));
    assert!(report.cluster.is_some() && report.is_sound());
}

#[test]
fn a_mistake_in_the_configuration_breaks_it_and_machines_are_counted_nonetheless() {
    let (_folder, home) = home();
    let made = managed(&home);
    let path = made.dir.cluster_toml();
    let text = fs::read_to_string(&path).unwrap() + "[machine.a]\nid52 = \"x\"\n[machine.b]\n";
    fs::write(&path, text).unwrap();
    let report = only(&home);
    assert_eq!(report.condition, Condition::Broken);
    assert_eq!(report.machines, Some(2));
    assert!(report.count(Severity::Error) >= 2);
    assert!(report.cluster.is_none() && report.prevents_start());
    let place = format!("{}:", path.display());
    assert!(messages(&report).contains(&place), "{}", messages(&report));
}

#[test]
fn the_key_must_be_the_configurations() {
    let (_folder, home) = home();
    let made = managed(&home);
    fs::remove_file(made.dir.cluster_key()).unwrap();
    let new_id = keystore::create(&made.dir.cluster_key()).unwrap().id();
    let report = only(&home);
    assert_eq!(report.condition, Condition::Broken);
    let [Problem::InFile(problem)] = &report.problems[..] else {
        panic!("{:#?}", report.problems);
    };
    assert!(problem.source_line.starts_with("id52 ="), "{problem}");
    assert_eq!(problem.column, 8);
    assert!(problem.help.as_ref().unwrap().contains(&new_id.to_string()));
}

#[test]
fn keys_that_are_missing_or_exposed_break_a_cluster() {
    let (_folder, home) = home();
    let made = managed(&home);
    let key = made.dir.cluster_key();
    fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    let report = only(&home);
    assert_eq!(report.condition, Condition::Broken);
    assert!(
        messages(&report).contains("chmod 600"),
        "{}",
        messages(&report)
    );
    fs::remove_file(&key).unwrap();
    let report = only(&home);
    assert!(
        messages(&report).contains("is missing"),
        "{}",
        messages(&report)
    );

    let (dir, _) = joined(&home);
    fs::remove_file(dir.machine_key()).unwrap();
    let report = verify_cluster(&dir);
    assert_eq!(report.condition, Condition::Broken);
}

#[test]
fn a_machine_waits_then_has_its_configuration() {
    let (_folder, home) = home();
    let (dir, seed) = joined(&home);
    let report = only(&home);
    assert_eq!(report.condition, Condition::Waiting);
    assert!(report.problems.is_empty() && report.is_sound());

    let snapshot = snapshot(&seed, &report.own_id.unwrap());
    fs::write(dir.machine_toml(), snapshot.to_file()).unwrap();
    let report = only(&home);
    assert_eq!(report.condition, Condition::Sound, "{}", messages(&report));
    assert_eq!((report.revision, report.machines), (Some(5), Some(1)));
}

#[test]
fn a_damaged_snapshot_is_reported_and_keeps_no_daemon_from_starting() {
    let (_folder, home) = home();
    let (dir, seed) = joined(&home);
    let snapshot = snapshot(&seed, &seed.id());
    let edited = snapshot.to_file().replace("web01", "web02");
    for text in ["", "torn", &edited] {
        fs::write(dir.machine_toml(), text).unwrap();
        let report = only(&home);
        assert_eq!(report.condition, Condition::Damaged, "{text:?}");
        assert!(!report.prevents_start() && !report.is_sound());
        assert!(
            messages(&report).contains("machine.toml"),
            "{}",
            messages(&report)
        );
    }
    fs::write(dir.manager_file(), "nobody\n").unwrap();
    assert_eq!(only(&home).condition, Condition::Broken);
}

#[test]
fn folders_that_are_no_clusters_are_problems_too() {
    let (_folder, home) = home();
    let made = managed(&home);
    fs::create_dir(home.clusters().join("Bad Name")).unwrap();
    fs::create_dir(home.clusters().join("empty")).unwrap();
    fs::write(made.dir.manager_file(), "x").unwrap();
    let reports = verify_home(&home, None).unwrap();
    let names: Vec<_> = reports.iter().map(|report| report.alias.as_str()).collect();
    assert_eq!(names, ["company", "empty", "Bad Name"]);
    assert!(reports.iter().all(ClusterReport::prevents_start));
    assert!(messages(&reports[0]).contains("cluster.toml, which makes it a manager's"));
}

#[test]
fn a_copied_folder_is_the_same_cluster_twice() {
    let (_folder, home) = home();
    let made = managed(&home);
    let copy = home.cluster_dir(&alias("copy"));
    fs::create_dir(&copy.path).unwrap();
    fs::copy(made.dir.cluster_toml(), copy.cluster_toml()).unwrap();
    fs::copy(made.dir.cluster_key(), copy.cluster_key()).unwrap();
    let reports = verify_home(&home, Some("copy")).unwrap();
    assert!(
        messages(&reports[0]).contains("copy and company are the same cluster"),
        "{}",
        messages(&reports[0])
    );
}

#[test]
fn one_cluster_can_be_asked_for_and_an_unknown_one_is_an_error() {
    let (_folder, home) = home();
    let error = verify_home(&home, Some("x")).unwrap_err().to_string();
    assert!(error.contains("none at all yet"), "{error}");
    managed(&home);
    joined(&home);
    let reports = verify_home(&home, Some("work")).unwrap();
    assert_eq!(reports.len(), 1);
    let error = verify_home(&home, Some("w\x1bork"))
        .unwrap_err()
        .to_string();
    let end = "there are: company, work; did you mean work?";
    assert!(error.ends_with(end), "{error}");
    assert!(!error.contains('\x1b'));
}
