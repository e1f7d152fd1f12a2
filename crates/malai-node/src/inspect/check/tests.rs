//! What the check of a home finds, on homes made for it.

use std::fs;

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
    let checked = malai_cluster::check("cluster.toml", &text);
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
    assert!(report.cluster().is_some() && report.is_sound());
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
fn folders_that_are_no_clusters_are_problems_too() {
    let (_folder, home) = home();
    let made = managed(&home);
    fs::create_dir(home.clusters().join("Bad Name")).unwrap();
    fs::create_dir(home.clusters().join("empty")).unwrap();
    fs::write(made.dir.manager_file(), "x").unwrap();
    let reports = verify_home(&home, None).unwrap();
    let found: Vec<_> = reports
        .iter()
        .map(|report| (report.alias.as_str(), report.condition, report.is_sound()))
        .collect();
    assert_eq!(
        found,
        [
            ("company", Condition::Broken, false),
            ("empty", Condition::Stray, true),
            ("Bad Name", Condition::Stray, true),
        ]
    );
    assert!(reports.iter().all(|report| !report.servable));
    assert!(messages(&reports[0]).contains("cluster.toml, which make it a manager's"));
}

#[test]
fn of_a_cluster_in_two_folders_one_is_served() {
    let (_folder, home) = home();
    let made = managed(&home);
    let seed = crate::home::keystore::load(&made.dir.cluster_key()).unwrap();
    let copy = home.cluster_dir(&alias("copy"));
    fs::create_dir(&copy.path).unwrap();
    let text = fs::read_to_string(made.dir.cluster_toml()).unwrap();
    let warned = format!("{text}\n[group.unused]\nmembers = \"\"\n");
    fs::write(copy.cluster_toml(), warned).unwrap();
    fs::copy(made.dir.cluster_key(), copy.cluster_key()).unwrap();
    let servable = |served: &[ClusterAlias]| {
        let reports = verify_home_serving(&home, None, served).unwrap();
        let servable = reports.into_iter().filter(|report| report.servable);
        servable.map(|report| report.alias).collect::<Vec<_>>()
    };
    assert_eq!(servable(&[]), ["company"], "the first");
    assert_eq!(
        servable(&[alias("copy")]),
        ["copy"],
        "the one that is served"
    );
    let reports = verify_home(&home, Some("copy")).unwrap();
    assert!(
        messages(&reports[0]).contains("copy and company are the same cluster"),
        "{}",
        messages(&reports[0])
    );
    assert_eq!(
        reports[0].problems.len(),
        1,
        "what else is wrong has no effect"
    );
    let snapshot = snapshot(&seed, &seed.id());
    fs::write(copy.published(), snapshot.to_file()).unwrap();
    assert_eq!(servable(&[]), ["copy"], "the one with the newest revision");
}

#[test]
fn one_cluster_can_be_asked_for_and_an_unknown_one_is_an_error() {
    let (_folder, home) = home();
    let error = verify_home(&home, Some("x")).unwrap_err().to_string();
    assert!(error.contains("none yet"), "{error}");
    managed(&home);
    joined(&home);
    let reports = verify_home(&home, Some("work")).unwrap();
    assert_eq!(reports.len(), 1);
    let error = verify_home(&home, Some("w\x1bork"))
        .unwrap_err()
        .to_string();
    let end = "did you mean `work`?";
    assert!(error.ends_with(end), "{error}");
    assert!(!error.contains('\x1b'));
}
