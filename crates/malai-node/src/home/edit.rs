//! malai's own edits of a cluster.toml: one at a time, checked as a whole, and written only if the result is valid.

use std::fs::{File, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use malai_cluster::{
    Change, Cluster, ClusterAlias, Diagnostic, EditError, GroupName, MAX_CONTENT, MachineChange,
    MachineId, MachineName, SecretSeed, Severity, add_machine, change_machine, changes,
    remove_machine, rename_machine,
};

use crate::home::cluster_files::{Condition, LoadedCluster, behind, check_cluster_toml};
use crate::home::keystore::{self, KeyError};
use crate::home::no_such_cluster::no_such_cluster;
use crate::home::{ClusterDir, Home, HomeError, Role};
use crate::os::fs::{self, StoreError, display_path};

/// How long to wait for another edit of the same cluster.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// How often to check whether the other edit has finished.
const PAUSE: Duration = Duration::from_millis(20);

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum EditFailure {
    /// There is no such cluster here.
    #[error("{0}")]
    Unknown(String),
    /// The cluster is managed elsewhere.
    #[error(
        "this computer is a machine of `{alias}`, not its manager: change the cluster on its manager"
    )]
    NotManager {
        /// The cluster.
        alias: ClusterAlias,
    },
    /// The edit cannot be made.
    #[error("{}: {source}; nothing was changed", display_path(path))]
    Edit {
        /// The file.
        path: PathBuf,
        /// Why.
        source: EditError,
    },
    /// There already is a machine with the name of a new one.
    #[error(
        "{alias} already has a machine `{name}`: if {id} is its new key, malai cluster set {alias} {name} --id52 {id}; otherwise choose another name; nothing was changed"
    )]
    Exists {
        /// The cluster.
        alias: ClusterAlias,
        /// The name.
        name: MachineName,
        /// The new machine's key.
        id: MachineId,
    },
    /// The file would not be valid afterwards; every problem.
    #[error(
        "{}\nwith this change {} would not be valid (line numbers are those after the change); nothing was changed",
        .problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
        display_path(path)
    )]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The problems.
        problems: Vec<Diagnostic>,
    },
    /// Members have a newer revision than this manager.
    #[error("{message}\nnothing was changed")]
    Behind {
        /// What is wrong, what publishing the file would change, and what to do.
        message: String,
    },
    /// Someone has the file in an editor.
    #[error("another `malai cluster edit` is editing `{alias}`; try again when it is done")]
    BeingEdited {
        /// The cluster.
        alias: ClusterAlias,
    },
    /// The file has changed while a person edited a copy of it.
    #[error(
        "{} has changed meanwhile and was not overwritten: merge your text into it and run malai cluster edit again",
        display_path(path)
    )]
    ChangedMeanwhile {
        /// The file.
        path: PathBuf,
    },
    /// Another edit takes too long.
    #[error(
        "another edit of `{alias}` has been running for {} s; nothing was changed, try again",
        LOCK_TIMEOUT.as_secs()
    )]
    Busy {
        /// The cluster.
        alias: ClusterAlias,
    },
    /// The home cannot be used.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The cluster's key cannot be used.
    #[error(transparent)]
    Key52(#[from] KeyError),
    /// A file cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A completed edit.
#[derive(Debug)]
pub struct Edited {
    /// The file.
    pub path: PathBuf,
    /// What it changed; empty if the file already said so.
    pub changes: Vec<Change>,
    /// Lines of comments that it removed, without the space around them.
    pub removed_comments: Vec<String>,
}

/// Adds a machine's section to the cluster's file, and the machine to these groups.
///
/// # Errors
///
/// As [`EditFailure`]. Nothing was changed then.
pub fn add(
    home: &Home,
    alias: &ClusterAlias,
    name: &MachineName,
    id: &MachineId,
    allow_from: &[String],
    groups: &[GroupName],
) -> Result<Edited, EditFailure> {
    let into_groups = MachineChange {
        add_to: groups.to_vec(),
        ..MachineChange::default()
    };
    let added = edit(home, alias, |source| {
        let added = add_machine(source, name, id, allow_from)?;
        match groups.is_empty() {
            true => Ok(added),
            false => change_machine(&added, name, &into_groups),
        }
    });
    added.map_err(|failure| match failure {
        EditFailure::Edit {
            source: EditError::Exists { .. },
            ..
        } => EditFailure::Exists {
            alias: alias.clone(),
            name: name.clone(),
            id: *id,
        },
        other => other,
    })
}

/// Checks that a machine could be added to these groups with this list, and returns the cluster as it is without it.
/// Changes nothing.
///
/// # Errors
///
/// As [`EditFailure`]: there is no such group, or the list is wrong.
pub fn would_admit(
    dir: &ClusterDir,
    groups: &[GroupName],
    allow_from: &[String],
) -> Result<Cluster, EditFailure> {
    let path = dir.cluster_toml();
    let key = keystore::load(&dir.cluster_key())?.id();
    let source = read(&path)?;
    let refused = |source| EditFailure::Edit {
        path: path.clone(),
        source,
    };
    let valid = |text: &str| {
        let checked = check_cluster_toml(&path, text, Some(key));
        checked.cluster.ok_or_else(|| EditFailure::Invalid {
            path: path.clone(),
            problems: errors_first(checked.problems),
        })
    };
    let cluster = valid(&source)?;
    let mut groups = groups.iter();
    if let Some(missing) = groups.find(|group| cluster.group_named(group.as_str()).is_none()) {
        let name = missing.clone();
        return Err(refused(EditError::UnknownGroup { name }));
    }
    let mut number = 0;
    let name = loop {
        let name = MachineName::parse(&format!("invited-{number}"));
        match name {
            Ok(name) if cluster.machine_named(name.as_str()).is_none() => break name,
            _ => number += 1,
        }
    };
    let id = SecretSeed::from_bytes(rand::random()).id();
    valid(&add_machine(&source, &name, &id, allow_from).map_err(refused)?)?;
    Ok(cluster)
}

/// Changes a machine's section in the cluster's file, and the machine's groups.
///
/// # Errors
///
/// As [`EditFailure`]. Nothing was changed then.
pub fn change(
    home: &Home,
    alias: &ClusterAlias,
    name: &MachineName,
    change: &MachineChange,
) -> Result<Edited, EditFailure> {
    edit(home, alias, |source| change_machine(source, name, change))
}

/// Renames a machine in the cluster's file, in its section and in every list.
///
/// # Errors
///
/// As [`EditFailure`]. Nothing was changed then.
pub fn rename(
    home: &Home,
    alias: &ClusterAlias,
    old: &MachineName,
    new: &MachineName,
) -> Result<Edited, EditFailure> {
    edit(home, alias, |source| rename_machine(source, old, new))
}

/// Removes a machine's section from the cluster's file, and the machine from all its lists.
///
/// # Errors
///
/// As [`EditFailure`]. Nothing was changed then.
pub fn remove(
    home: &Home,
    alias: &ClusterAlias,
    name: &MachineName,
) -> Result<Edited, EditFailure> {
    edit(home, alias, |source| remove_machine(source, name))
}

fn edit(
    home: &Home,
    alias: &ClusterAlias,
    change: impl Fn(&str) -> Result<String, EditError>,
) -> Result<Edited, EditFailure> {
    let dir = managed(home, alias)?;
    home.prepare()?;
    let key = keystore::load(&dir.cluster_key())?.id();
    let path = dir.cluster_toml();
    refuse_behind(&dir)?;
    loop {
        let source = read(&path)?;
        let text = change(&source).map_err(|source| EditFailure::Edit {
            path: path.clone(),
            source,
        })?;
        let checked = check_cluster_toml(&path, &text, Some(key));
        let Some(cluster) = checked.cluster else {
            return Err(EditFailure::Invalid {
                path,
                problems: errors_first(checked.problems),
            });
        };
        if text == source || replace(&dir, &source, &text)? {
            let before = check_cluster_toml(&path, &source, Some(key)).cluster;
            let changes = before.map_or_else(Vec::new, |before| changes(&before, &cluster));
            return Ok(Edited {
                path,
                changes,
                removed_comments: removed_comments(&source, &text),
            });
        }
    }
}

/// The lines of comments that are in the first text and no longer in the second.
fn removed_comments(before: &str, after: &str) -> Vec<String> {
    fn comments(text: &str) -> impl Iterator<Item = &str> {
        text.lines()
            .map(str::trim)
            .filter(|line| line.starts_with('#'))
    }
    let mut kept: Vec<&str> = comments(after).collect();
    let mut removed = Vec::new();
    for line in comments(before) {
        match kept.iter().position(|other| *other == line) {
            Some(at) => drop(kept.swap_remove(at)),
            None => removed.push(line.to_owned()),
        }
    }
    removed
}

/// Replaces the cluster's file with a text, unless the file has changed since `before` was read: no edit is overwritten,
/// not even one by an editor, which takes no lock. Returns whether it was replaced.
///
/// # Errors
///
/// Another edit takes too long, or the file cannot be written.
pub(crate) fn replace(dir: &ClusterDir, before: &str, text: &str) -> Result<bool, EditFailure> {
    let path = dir.cluster_toml();
    let _lock = lock(dir)?;
    let mode = std::fs::metadata(&path)
        .map_err(StoreError::io("read", &path))?
        .mode()
        & 0o7777;
    if read(&path)? != before {
        return Ok(false);
    }
    fs::write_configuration(&path, text.as_bytes(), mode)?;
    Ok(true)
}

/// Refuses to change a file that must not be published because it may be older than what members have.
fn refuse_behind(dir: &ClusterDir) -> Result<(), EditFailure> {
    let files = LoadedCluster::load(dir);
    match &files.newer {
        Some(newer) if files.condition == Condition::Behind => Err(EditFailure::Behind {
            message: behind(dir, newer, files.draft.as_ref()),
        }),
        _ => Ok(()),
    }
}

/// The folder of a cluster that is managed here.
///
/// # Errors
///
/// There is no such cluster, or it is managed elsewhere.
pub fn managed(home: &Home, alias: &ClusterAlias) -> Result<ClusterDir, EditFailure> {
    let dirs = home.survey()?.dirs;
    let known: Vec<ClusterAlias> = dirs.iter().map(|dir| dir.alias.clone()).collect();
    let Some(dir) = dirs.into_iter().find(|dir| dir.alias == *alias) else {
        return Err(EditFailure::Unknown(no_such_cluster(
            alias.as_str(),
            &home.clusters(),
            known.iter().map(ClusterAlias::as_str),
        )));
    };
    match dir.role()? {
        Role::Manager => Ok(dir),
        Role::Machine => Err(EditFailure::NotManager {
            alias: alias.clone(),
        }),
    }
}

/// Locks the cluster's folder for one edit, until dropped.
pub(crate) fn lock(dir: &ClusterDir) -> Result<File, EditFailure> {
    let folder = File::open(&dir.path).map_err(StoreError::io("open", &dir.path))?;
    let deadline = Instant::now() + LOCK_TIMEOUT;
    loop {
        match folder.try_lock() {
            Ok(()) => return Ok(folder),
            // There is no way to wait for a lock with a timeout.
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(PAUSE),
            Err(TryLockError::WouldBlock) => {
                return Err(EditFailure::Busy {
                    alias: dir.alias.clone(),
                });
            }
            Err(TryLockError::Error(error)) => {
                return Err(StoreError::io("lock", &dir.path)(error).into());
            }
        }
    }
}

pub(crate) fn read(path: &Path) -> Result<String, StoreError> {
    fs::read_text(path, MAX_CONTENT as u64)?.ok_or_else(|| {
        StoreError::io("read", path)(std::io::Error::from(std::io::ErrorKind::NotFound))
    })
}

pub(crate) fn errors_first(mut problems: Vec<Diagnostic>) -> Vec<Diagnostic> {
    problems.sort_by_key(|problem| problem.severity != Severity::Error);
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::init::{init_cluster, init_machine};
    use std::os::unix::fs::PermissionsExt;
    use tempfile::{TempDir, tempdir};

    const ID: &str = "e87aeds2fajaeu10tjdio5ppcdha410n6tu4665u7el9as9b7v80";

    fn name(text: &str) -> MachineName {
        MachineName::parse(text).unwrap()
    }

    #[test]
    fn changed_and_renamed_with_what_differs() {
        let (_folder, home, alias, path) = world();
        let id = ID.parse().unwrap();
        let web = GroupName::parse("web").unwrap();
        let added = add(&home, &alias, &name("web01"), &id, &["*".into()], &[web]).unwrap();
        assert_eq!(added.changes.len(), 3, "{:?}", added.changes);
        let to = MachineChange {
            allow_shell: Some(malai_cluster::ListChange::To(Vec::new())),
            ..MachineChange::default()
        };
        let changed = change(&home, &alias, &name("web01"), &to).unwrap();
        assert_eq!(
            changed.changes[0].to_string(),
            "+ [machine.web01] allow_shell = []"
        );
        let again = change(&home, &alias, &name("web01"), &to).unwrap();
        assert!(again.changes.is_empty());
        let before = std::fs::read_to_string(&path).unwrap();
        rename(&home, &alias, &name("web01"), &name("www")).unwrap();
        let after = std::fs::read_to_string(&path).unwrap();
        let (_, section) = after.split_once("\n[machine.www]\n").unwrap();
        assert!(!section.contains("web01") && section.contains("members = \"www\""));
        assert!(before.starts_with(after.split("\n[machine.www]").next().unwrap()));
    }

    fn world() -> (TempDir, Home, ClusterAlias, PathBuf) {
        let folder = tempdir().unwrap();
        let home = Home::at(folder.path().join("home"));
        let alias = ClusterAlias::parse("company").unwrap();
        let made = init_cluster(&home, &alias).unwrap();
        (folder, home, alias, made.dir.cluster_toml())
    }

    #[test]
    fn added_and_removed_with_the_mode_kept() {
        let (_folder, home, alias, path) = world();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let before = std::fs::read_to_string(&path).unwrap();
        let id = ID.parse().unwrap();
        add(&home, &alias, &name("web01"), &id, &["*".into()], &[]).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with(&before) && text.contains("[machine.web01]"));
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
        remove(&home, &alias, &name("web01")).unwrap();
        let after = std::fs::read_to_string(&path).unwrap();
        assert_eq!(after.trim_end(), before.trim_end());
    }

    #[test]
    fn what_would_not_be_valid_is_refused_and_the_file_untouched() {
        let (_folder, home, alias, path) = world();
        let id = ID.parse().unwrap();
        add(&home, &alias, &name("web01"), &id, &[], &[]).unwrap();
        let before = std::fs::read_to_string(&path).unwrap();
        let refused = |made: Result<Edited, EditFailure>, words: &[&str]| {
            let error = made.unwrap_err().to_string();
            for words in words {
                assert!(error.contains(words), "{error}");
            }
            assert_eq!(std::fs::read_to_string(&path).unwrap(), before);
        };
        refused(
            add(&home, &alias, &name("web01"), &id, &[], &[]),
            &["set company web01 --id52 e87aeds2"],
        );
        refused(
            add(
                &home,
                &alias,
                &name("web02"),
                &id,
                &["nobody-knows".into()],
                &[],
            ),
            // All that is wrong: the id52 twice, and an unknown name.
            &["nobody-knows", "id52", "nothing was changed"],
        );
        refused(
            remove(&home, &alias, &name("web03")),
            &["no machine `web03`"],
        );
        let other = ClusterAlias::parse("other").unwrap();
        refused(remove(&home, &other, &name("web01")), &["(found: company)"]);
        let joined = ClusterAlias::parse("joined").unwrap();
        let cluster = malai_cluster::ClusterId::parse(ID).unwrap();
        init_machine(&home, &joined, &cluster, &[]).unwrap();
        refused(remove(&home, &joined, &name("web01")), &["not its manager"]);
    }

    #[test]
    fn a_file_that_is_broken_already_is_not_edited() {
        let (_folder, home, alias, path) = world();
        let broken = format!(
            "{}\n[machine.x]\nid = 3\n",
            std::fs::read_to_string(&path).unwrap()
        );
        std::fs::write(&path, &broken).unwrap();
        let id = ID.parse().unwrap();
        let error = add(&home, &alias, &name("web01"), &id, &[], &[]).unwrap_err();
        assert!(matches!(error, EditFailure::Invalid { .. }), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), broken);
    }

    #[test]
    fn of_edits_at_once_none_is_lost() {
        let (_folder, home, alias, path) = world();
        std::thread::scope(|scope| {
            for number in 0..12 {
                let (home, alias) = (&home, &alias);
                scope.spawn(move || {
                    let id = malai_cluster::SecretSeed::from_bytes([number + 1; 32]).id();
                    let name = name(&format!("m{number}"));
                    add(home, alias, &name, &id, &["*".into()], &[]).unwrap();
                });
            }
        });
        let text = std::fs::read_to_string(&path).unwrap();
        let cluster = malai_cluster::check("f", &text).cluster.unwrap();
        assert_eq!(cluster.machines().count(), 12);
    }
}
