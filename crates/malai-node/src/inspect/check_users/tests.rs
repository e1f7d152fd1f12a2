//! What is said of the users that commands run as, by role, list and user.

use std::fs;

use malai_cluster::{SecretSeed, Snapshot, check, initial_document};
use tempfile::tempdir;

use super::*;

use crate::home::init::{init_cluster, init_machine};
use crate::inspect::check::{Condition, verify_home};

const OTHER: &str = "e87aeds2fajaeu10tjdio5ppcdha410n6tu4665u7el9as9b7v80";

/// A daemon's user, or `user>default`.
fn own(name: &str) -> Own {
    let (name, default) = match name.split_once('>') {
        Some((name, default)) => (name, Some(default.to_owned())),
        None => (name, None),
    };
    Own::of(Some(&DaemonFacts {
        user: name.to_owned(),
        default_user: default,
        ..DaemonFacts::default()
    }))
}

/// What is said on a manager whose cluster has these sections; `ME` is its own id52.
fn on_a_manager(sections: &str, user: &str, settings: &str) -> Vec<String> {
    let folder = tempdir().unwrap();
    let home = Home::at(folder.path().join("home"));
    let made = init_cluster(&home, &ClusterAlias::parse("company").unwrap()).unwrap();
    let path = made.dir.cluster_toml();
    let id = malai_cluster::ClusterId::to_string(&made.id);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text + &sections.replace("ME", &id)).unwrap();
    said(&home, user, settings)
}

/// The same on a machine.
fn on_a_machine(sections: &str, user: &str, settings: &str) -> Vec<String> {
    let folder = tempdir().unwrap();
    let home = Home::at(folder.path().join("home"));
    let seed = SecretSeed::from_bytes([7; 32]);
    let cluster = malai_cluster::ClusterId::new(seed.id());
    let alias = ClusterAlias::parse("work").unwrap();
    let made = init_machine(&home, &alias, &cluster, &[]).unwrap();
    let local_id = crate::home::keystore::load(&made.dir.machine_key())
        .unwrap()
        .id();
    let sections = sections.replace("ME", &local_id.to_string());
    let text = initial_document(&seed.id(), "work") + &sections;
    let snapshot = Snapshot::seal(&seed, 5, &check("", &text).cluster.unwrap());
    fs::write(made.dir.machine_toml(), snapshot.to_file()).unwrap();
    said(&home, user, settings)
}

fn said(home: &Home, user: &str, settings: &str) -> Vec<String> {
    let settings = Settings::parse("malai.toml", settings).unwrap();
    let mut reports = verify_home(home, None).unwrap();
    let before = reports[0].problems.len();
    let added = note(&settings, &own(user), &reports[0]);
    reports[0].problems.extend(added);
    assert_eq!(reports[0].condition, Condition::Sound, "{reports:#?}");
    let added = reports[0].problems[before..].iter();
    added
        .map(|problem| {
            let (line, text) = match problem {
                Problem::InFile(found) => (found.source_line.clone(), found.message.clone()),
                Problem::Whole { message, .. } => (String::new(), message.clone()),
            };
            format!("{} [{line}] {text}", problem.severity())
        })
        .collect()
}

#[track_caller]
fn one(said: &[String], start: &str) {
    assert_eq!(said.len(), 1, "{said:#?}");
    assert!(said[0].starts_with(start), "{said:#?}");
}

#[test]
fn a_manager_that_can_be_commanded() {
    let boss = "[machine.boss]\nid52 = \"ME\"\nallow_from = \"*\"\n";
    let web = format!("[machine.web]\nid52 = \"{OTHER}\"\nallow_from = \"*\"\n");
    let start = "warning [allow_from = \"*\"] this is the manager, and commands on it run as";
    one(&on_a_manager(boss, "malai", ""), start);
    let both = on_a_manager(&format!("{boss}{web}"), "root", "");
    one(&both, &format!("{start} root, who can read"));
    // Its own user by its name is no other.
    let named = format!("{boss}username = \"malai\"\n");
    one(&on_a_manager(&named, "malai", ""), start);
    assert!(on_a_manager(&named, "else", "").is_empty());
    // Nor is it open where its owner accepts nothing of the kind.
    for settings in [
        "[accept.company]\nfrom = []\n",
        "[accept.company]\nusers = \"deploy\"\n",
    ] {
        assert!(on_a_manager(boss, "malai", settings).is_empty());
    }
    let accepted = "[accept.company]\nusers = \"malai\"\n";
    one(&on_a_manager(boss, "malai", accepted), start);
}

#[test]
fn a_manager_on_other_machines() {
    let web = format!("[machine.web]\nid52 = \"{OTHER}\"\n");
    let open = format!("{web}allow_from = \"web\"\n");
    let start = "note [allow_from = \"web\"] on `web` commands run as the daemon's user there";
    one(&on_a_manager(&open, "malai", ""), start);
    assert!(on_a_manager("", "malai", "").is_empty());
    assert!(on_a_manager(&web, "malai", "").is_empty());
    let command = format!("{web}[machine.web.command.x]\nallow_from = \"web\"\n");
    let start = "note [[machine.web]] on `web` commands run as";
    one(&on_a_manager(&command, "malai", ""), start);
    for closed in [
        format!("{open}username = \"deploy\"\n"),
        format!("{command}username = \"deploy\"\n"),
        format!("{web}allow_from = []\n"),
    ] {
        assert!(on_a_manager(&closed, "malai", "").is_empty(), "{closed}");
    }
    let more = format!(
        "{open}[machine.boss2]\nid52 = \"{}\"\nallow_from = \"*\"\n",
        SecretSeed::from_bytes([9; 32]).id()
    );
    let start = "note [allow_from = \"*\"] on 2 machines, as on `boss2`, commands run";
    one(&on_a_manager(&more, "malai", ""), start);
}

#[test]
fn a_machine() {
    let own = "[machine.web]\nid52 = \"ME\"\nallow_from = \"*\"\n";
    let start = "note [] commands on this computer (`web`) run as the daemon's user `malai`, who can read the keys in this home";
    one(&on_a_machine(own, "malai", ""), start);
    let start = "warning [] commands on this computer (`web`) run as root: anyone who may run them controls it";
    one(&on_a_machine(own, "root", ""), start);
    let other = format!(
        "[machine.web]\nid52 = \"ME\"\n[machine.x]\nid52 = \"{OTHER}\"\nallow_from = \"*\"\n"
    );
    assert!(on_a_machine(&other, "root", "").is_empty());
    // The package's service separates them.
    assert!(on_a_machine(own, "malai>malai-run", "").is_empty());
    one(&on_a_machine(own, "malai>malai", ""), "note [] commands on");
    let named = format!("{own}username = \"malai\"\n");
    one(&on_a_machine(&named, "malai>malai-run", ""), "note []");
    let accepts = "[accept.work]\nusers = \"deploy\"\n";
    assert!(on_a_machine(own, "root", accepts).is_empty());
}
