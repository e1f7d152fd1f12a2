//! Homes: their owner, their modes, and which clusters are in them.

use super::*;
use std::os::unix::fs::{lchown, symlink};
use tempfile::{TempDir, tempdir};

fn home() -> (TempDir, Home) {
    let folder = tempdir().unwrap();
    let home = Home::at(folder.path().join("home"));
    (folder, home)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

fn aliases(dirs: &[ClusterDir]) -> Vec<String> {
    dirs.iter().map(|dir| dir.alias.to_string()).collect()
}

#[test]
fn a_new_home_is_its_owners_alone() {
    let (_folder, home) = home();
    home.prepare().unwrap();
    assert_eq!(mode(home.root()), 0o700);
    assert_eq!(mode(&home.clusters()), 0o700);
    home.prepare().unwrap();
}

#[test]
fn wider_modes_are_tightened() {
    let (_folder, home) = home();
    fs::create_dir_all(home.clusters()).unwrap();
    for path in [home.root().to_path_buf(), home.clusters()] {
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
    }
    home.prepare().unwrap();
    assert_eq!(mode(home.root()), 0o700);
    assert_eq!(mode(&home.clusters()), 0o700);
}

#[test]
fn a_file_where_the_home_should_be_is_refused() {
    let (_folder, home) = home();
    fs::write(home.root(), "x").unwrap();
    let error = home.prepare().unwrap_err();
    assert!(matches!(error, HomeError::NotAFolder { .. }), "{error}");
}

/// Giving files away needs root; without it there is nobody else to own them in a test.
#[test]
fn what_somebody_else_owns_is_refused() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (folder, home) = home();
    let real = folder.path().join("real");
    fs::create_dir(&real).unwrap();
    symlink(&real, home.root()).unwrap();
    home.prepare().unwrap();

    lchown(home.root(), Some(12345), None).unwrap();
    let error = home.prepare().unwrap_err();
    assert!(
        matches!(error, HomeError::ForeignOwner { owner: 12345, .. }),
        "the link: {error}"
    );

    lchown(home.root(), Some(0), None).unwrap();
    lchown(&real, Some(12345), None).unwrap();
    let error = home.prepare().unwrap_err();
    assert!(
        matches!(error, HomeError::ForeignOwner { owner: 12345, .. }),
        "its goal: {error}"
    );
}

#[test]
fn clusters_are_listed_by_alias_and_bad_names_reported() {
    let (_folder, home) = home();
    assert!(home.survey().unwrap().dirs.is_empty());
    for name in ["work", "company", ".hidden"] {
        fs::create_dir_all(home.clusters().join(name)).unwrap();
    }
    fs::write(home.clusters().join("notes.txt"), "x").unwrap();
    assert_eq!(aliases(&home.survey().unwrap().dirs), ["company", "work"]);

    fs::create_dir(home.clusters().join("Old Stuff")).unwrap();
    symlink("nowhere", home.clusters().join("dangling")).unwrap();
    let survey = home.survey().unwrap();
    assert_eq!(aliases(&survey.dirs), ["company", "work"]);
    let problems: Vec<_> = survey.problems.iter().map(|(_, error)| error).collect();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].is_stray() && problems[0].to_string().contains("Old Stuff"));
    // It may be a cluster's: a link to a folder that is not mounted.
    assert!(!problems[1].is_stray(), "{problems:?}");
}

#[test]
fn the_files_say_the_role() {
    let (_folder, home) = home();
    let path = home.clusters().join("a");
    fs::create_dir_all(&path).unwrap();
    let dir = home.survey().unwrap().dirs.remove(0);
    assert!(dir.role().unwrap_err().is_stray());
    for (key, role) in [
        (dir.machine_key(), Role::Machine),
        (dir.cluster_key(), Role::Manager),
    ] {
        fs::write(&key, "x").unwrap();
        assert_eq!(dir.role().unwrap(), role, "what is left tells");
        fs::remove_file(&key).unwrap();
    }
    fs::write(dir.manager_file(), "x").unwrap();
    assert_eq!(dir.role().unwrap(), Role::Machine);
    fs::write(dir.machine_toml(), "x").unwrap();
    assert_eq!(dir.role().unwrap(), Role::Machine);
    fs::write(dir.cluster_toml(), "x").unwrap();
    let message = dir.role().unwrap_err().to_string();
    assert!(
        message.contains("cluster.toml") && message.contains("machine.toml and manager"),
        "{message}"
    );
    fs::remove_file(dir.manager_file()).unwrap();
    fs::remove_file(dir.machine_toml()).unwrap();
    assert_eq!(dir.role().unwrap(), Role::Manager);
}

#[test]
fn a_trailing_slash_does_not_show() {
    let home = Home::at(PathBuf::from("/opt/malai/"));
    assert_eq!(home.socket(), Path::new("/opt/malai/malai.socket"));
    assert_eq!(home.root().as_os_str(), "/opt/malai");
}
