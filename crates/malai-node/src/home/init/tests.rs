//! What init makes, what it refuses, and that a refusal changes nothing.

use super::*;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use tempfile::{TempDir, tempdir};

const MANAGER: &str = "i66fo538lfl5ombdf6tcdbrabp4hmp9asv7nrffuc2im13ct4q60";

fn home() -> (TempDir, Home) {
    let folder = tempdir().unwrap();
    let home = Home::at(folder.path().join("home"));
    (folder, home)
}

fn alias(text: &str) -> ClusterAlias {
    ClusterAlias::parse(text).unwrap()
}

/// Every file under the home with its content, and every folder.
fn picture(home: &Home) -> BTreeMap<PathBuf, Option<String>> {
    let mut picture = BTreeMap::new();
    let mut folders = vec![home.root().to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path.clone());
                picture.insert(path, None);
            } else {
                let text = std::fs::read_to_string(&path).unwrap();
                picture.insert(path, Some(text));
            }
        }
    }
    picture
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn a_new_cluster_has_its_key_and_a_configuration_without_problems() {
    let (_folder, home) = home();
    let made = init_cluster(&home, &alias("company")).unwrap();
    assert_eq!(made.dir.role().unwrap(), Role::Manager);
    assert_eq!(mode(&made.dir.path), 0o700);
    assert_eq!(mode(&made.dir.cluster_key()), 0o600);
    let key = keystore::load(&made.dir.cluster_key()).unwrap();
    assert_eq!(ClusterId::new(key.id()), made.id);
    let text = std::fs::read_to_string(made.dir.cluster_toml()).unwrap();
    let checked = malai_cluster::check("cluster.toml", &text);
    assert!(checked.diagnostics.is_empty(), "{:?}", checked.diagnostics);
    assert_eq!(checked.cluster.unwrap().id(), made.id);
    assert_eq!(picture(&home).len(), 4, "clusters/, company/, two files");
}

#[test]
fn a_new_machine_has_its_key_and_knows_its_manager() {
    let (_folder, home) = home();
    let cluster = ClusterId::parse(MANAGER).unwrap();
    let hints = ["192.0.2.1:28772".to_owned()];
    let made = init_machine(&home, &alias("company"), &cluster, &hints).unwrap();
    assert_eq!(made.dir.role().unwrap(), Role::Machine);
    assert_eq!(mode(&made.dir.machine_key()), 0o600);
    let key = keystore::load(&made.dir.machine_key()).unwrap();
    assert_eq!(key.id(), made.id);
    let text = std::fs::read_to_string(made.dir.manager_file()).unwrap();
    assert_eq!(text, format!("{MANAGER}\n192.0.2.1:28772\n"));
}

#[test]
fn refusals_change_nothing() {
    let (_folder, home) = home();
    let own = init_cluster(&home, &alias("company")).unwrap().id;
    let other = ClusterId::parse(MANAGER).unwrap();
    init_machine(&home, &alias("work"), &other, &[]).unwrap();
    std::fs::create_dir(home.clusters().join("empty")).unwrap();
    let before = picture(&home);

    for name in ["company", "work", "empty"] {
        let error = init_cluster(&home, &alias(name)).unwrap_err();
        assert!(matches!(error, InitError::AliasTaken { .. }), "{error}");
        let error = init_machine(&home, &alias(name), &other, &[]).unwrap_err();
        assert!(matches!(error, InitError::AliasTaken { .. }), "{error}");
    }
    let error = init_machine(&home, &alias("again"), &other, &[]).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("as a machine, under the alias `work`"),
        "{error}"
    );
    let error = init_machine(&home, &alias("again"), &own, &[]).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("as its manager, under the alias `company`"),
        "{error}"
    );
    let bad = ["a\nb".to_owned()];
    assert!(init_machine(&home, &alias("again"), &other, &bad).is_err());
    assert_eq!(picture(&home), before);
}

#[test]
fn a_replaced_manager_leaves_a_new_identity_and_the_old_folder_aside() {
    let (_folder, home) = home();
    let own = init_cluster(&home, &alias("mine")).unwrap();
    let cluster = ClusterId::parse(MANAGER).unwrap();
    let other = ClusterId::new(keystore::create(&home.root().join("key")).unwrap().id());
    for name in ["work", "mine"] {
        let error = replace_machine(&home, &alias(name), &other, &[]).unwrap_err();
        assert!(
            matches!(error, InitError::NothingToReplace { .. }),
            "{error}"
        );
    }
    let old = init_machine(&home, &alias("work"), &cluster, &[]).unwrap();
    let before = picture(&home);
    for id in [&cluster, &own.id] {
        replace_machine(&home, &alias("work"), id, &[]).unwrap_err();
    }
    assert_eq!(picture(&home), before, "refusals change nothing");

    let (made, aside) = replace_machine(&home, &alias("work"), &other, &[]).unwrap();
    assert_ne!(made.id, old.id);
    assert_eq!(
        keystore::load(&made.dir.machine_key()).unwrap().id(),
        made.id
    );
    assert_eq!(ManagerFile::load(&made.dir).unwrap().cluster, other);
    assert_eq!(
        keystore::load(&aside.join("machine.private-key"))
            .unwrap()
            .id(),
        old.id
    );
    assert!(aside.starts_with(home.replaced()), "{}", aside.display());
    let name = aside.file_name().unwrap().to_string_lossy().into_owned();
    assert!(
        name.starts_with(&format!("work-{}", &old.id.to_string()[..4])),
        "{name}"
    );
    assert_eq!((mode(&aside), mode(&made.dir.path)), (0o700, 0o700));
    assert_eq!(home.survey().unwrap().dirs.len(), 2);
}

#[test]
fn what_a_killed_init_left_is_removed_and_never_listed() {
    let (_folder, home) = home();
    home.prepare().unwrap();
    let leftover = home.clusters().join(".malai-init-company");
    std::fs::create_dir(&leftover).unwrap();
    std::fs::write(leftover.join("cluster.private-key"), "half").unwrap();
    assert!(home.survey().unwrap().dirs.is_empty());
    init_cluster(&home, &alias("company")).unwrap();
    assert!(!leftover.exists());
}

#[test]
fn of_many_at_once_exactly_one_wins() {
    let (_folder, home) = home();
    let won = std::thread::scope(|scope| {
        let tries: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| init_cluster(&home, &alias("company")).is_ok()))
            .collect();
        tries
            .into_iter()
            .map(|t| t.join().unwrap())
            .filter(|won| *won)
            .count()
    });
    assert_eq!(won, 1);
    let cluster = ClusterId::parse(MANAGER).unwrap();
    let won = std::thread::scope(|scope| {
        let tries: Vec<_> = (0..8)
            .map(|n| {
                let home = &home;
                let alias = alias(&format!("a{n}"));
                scope.spawn(move || init_machine(home, &alias, &cluster, &[]).is_ok())
            })
            .collect();
        tries
            .into_iter()
            .map(|t| t.join().unwrap())
            .filter(|won| *won)
            .count()
    });
    assert_eq!(won, 1);
}
