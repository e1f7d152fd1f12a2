//! Moves a cluster's folder out of `clusters/`, or renames it. A key is deleted only when asked to.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use malai_cluster::{ClusterAlias, EditError, follow_alias, forget_alias};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::home::keystore;
use crate::home::no_such_cluster::no_such_cluster;
use crate::home::{ClusterDir, Home, HomeError, Role};
use crate::os::fs::{self, StoreError, display_path};

/// The maximum size in bytes of a `malai.toml` that is edited.
const MAX_SETTINGS_BYTES: u64 = 1 << 20;

/// Why a cluster's folder was not moved.
#[derive(Debug, thiserror::Error)]
pub enum AsideError {
    /// There is no such cluster here.
    #[error(
        "{}",
        no_such_cluster(alias.as_str(), clusters, known.iter().map(ClusterAlias::as_str))
    )]
    Unknown {
        /// The alias asked for.
        alias: ClusterAlias,
        /// Where it was looked for.
        clusters: PathBuf,
        /// The clusters there are.
        known: Vec<ClusterAlias>,
    },
    /// The cluster is managed here, so it cannot be left.
    #[error(
        "this computer is the manager of `{alias}`, and the manager cannot leave its cluster. To end the cluster, so that nobody can change it any more: malai cluster delete {alias}"
    )]
    Managed {
        /// The cluster.
        alias: ClusterAlias,
    },
    /// The cluster is managed elsewhere, so it cannot be deleted here.
    #[error(
        "only the manager can delete `{alias}`, and this computer is not its manager. To take only this computer out: malai cluster leave {alias}"
    )]
    NotManaged {
        /// The cluster.
        alias: ClusterAlias,
    },
    /// The new alias is taken.
    #[error(
        "the alias `{alias}` is taken: {} exists; nothing was changed",
        display_path(path)
    )]
    Taken {
        /// The new alias.
        alias: ClusterAlias,
        /// What exists there.
        path: PathBuf,
    },
    /// `malai.toml` cannot be changed to the new alias.
    #[error("{}: {source}; nothing was changed", display_path(path))]
    Settings {
        /// The file.
        path: PathBuf,
        /// Why.
        source: EditError,
    },
    /// The home cannot be used.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// A file or folder cannot be moved.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Identifies a cluster's folder and checks whether [`set_aside`] would move it. Changes nothing.
///
/// # Errors
///
/// There is no such cluster, or its role is not the expected `role`. A folder without a recognizable role can be left.
pub fn find(home: &Home, alias: &ClusterAlias, role: Role) -> Result<ClusterDir, AsideError> {
    let dir = home.cluster_dir(alias);
    if dir.path.symlink_metadata().is_err() {
        let known = home.survey()?.dirs;
        return Err(AsideError::Unknown {
            alias: alias.clone(),
            clusters: home.clusters(),
            known: known.into_iter().map(|dir| dir.alias).collect(),
        });
    }
    // A folder with both roles has a cluster's key, so it must not be left by accident.
    let managed =
        dir.cluster_key().symlink_metadata().is_ok() || dir.role().ok() == Some(Role::Manager);
    match (role, managed) {
        (Role::Machine, true) => Err(AsideError::Managed {
            alias: alias.clone(),
        }),
        (Role::Manager, false) => Err(AsideError::NotManaged {
            alias: alias.clone(),
        }),
        _ => Ok(dir),
    }
}

/// Moves a cluster's folder, with its key, from `clusters/` to [`Home::removed`], where no daemon reads it. Returns its
/// new path.
///
/// # Errors
///
/// As [`find`], or the system refuses; then the folder stays where it was.
pub fn set_aside(home: &Home, alias: &ClusterAlias, role: Role) -> Result<PathBuf, AsideError> {
    home.prepare()?;
    let _clusters = lock(&home.clusters())?;
    let dir = find(home, alias, role)?;
    let removed = home.removed();
    make_folder(&removed)?;
    let key = match role {
        Role::Manager => dir.cluster_key(),
        Role::Machine => dir.machine_key(),
    };
    let id = keystore::load(&key).ok().map(|seed| seed.id().short());
    let id: String = id
        .unwrap_or_else(|| "unknown".to_owned())
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .collect();
    let seconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let name = format!("{alias}-{id}-{seconds}");
    let mut goal = removed.join(&name);
    for number in 2.. {
        match renameat_with(CWD, &dir.path, CWD, &goal, RenameFlags::NOREPLACE) {
            Ok(()) => break,
            Err(rustix::io::Errno::EXIST) => goal = removed.join(format!("{name}-{number}")),
            Err(error) => return Err(StoreError::io("move", &dir.path)(error.into()).into()),
        }
    }
    fs::sync_folder(&home.clusters())?;
    fs::sync_folder(&removed)?;
    Ok(goal)
}

/// Deletes a folder that was set aside, including the key in it. This cannot be undone. (Deleted data may stay on the disk
/// for longer.)
///
/// # Errors
///
/// The system refuses; part of the folder may have been deleted.
pub fn destroy(aside: &Path) -> Result<(), StoreError> {
    std::fs::remove_dir_all(aside).map_err(StoreError::io("delete", aside))?;
    match aside.parent() {
        Some(parent) => fs::sync_folder(parent),
        None => Ok(()),
    }
}

/// Renames a cluster on this computer. `malai.toml` follows, so that at no instant more is accepted than before.
///
/// # Errors
///
/// There is no such cluster, the new alias is taken, or `malai.toml` cannot follow. Nothing was changed then.
pub fn rename_alias(home: &Home, old: &ClusterAlias, new: &ClusterAlias) -> Result<(), AsideError> {
    home.prepare()?;
    let _clusters = lock(&home.clusters())?;
    let (from, to) = (home.cluster_dir(old), home.cluster_dir(new));
    if from.path.symlink_metadata().is_err() {
        let known = home.survey()?.dirs;
        return Err(AsideError::Unknown {
            alias: old.clone(),
            clusters: home.clusters(),
            known: known.into_iter().map(|dir| dir.alias).collect(),
        });
    }
    let taken = || AsideError::Taken {
        alias: new.clone(),
        path: to.path.clone(),
    };
    if to.path.symlink_metadata().is_ok() {
        return Err(taken());
    }
    let path = home.settings();
    let settings = fs::read_text(&path, MAX_SETTINGS_BYTES)?;
    let edit = |source: EditError| AsideError::Settings {
        path: path.clone(),
        source,
    };
    let both = match &settings {
        Some(text) => Some(follow_alias(text, old, new).map_err(edit)?),
        None => None,
    };
    let only_new = match &both {
        Some(text) => Some(forget_alias(text, old).map_err(edit)?),
        None => None,
    };
    let write = |text: &Option<String>, before: &Option<String>| match text {
        Some(text) if Some(text) != before.as_ref() => {
            let mode = std::fs::metadata(&path).map_err(StoreError::io("examine", &path))?;
            let mode = mode.permissions().mode() & 0o7777;
            fs::write_configuration(&path, text.as_bytes(), mode)
        }
        _ => Ok(()),
    };
    write(&both, &settings)?;
    match renameat_with(CWD, &from.path, CWD, &to.path, RenameFlags::NOREPLACE) {
        Ok(()) => {}
        Err(error) => {
            write(&settings, &both)?;
            return Err(match error {
                rustix::io::Errno::EXIST => taken(),
                error => StoreError::io("rename", &from.path)(error.into()).into(),
            });
        }
    }
    fs::sync_folder(&home.clusters())?;
    write(&only_new, &both)?;
    Ok(())
}

/// The lock on `clusters/`, which protects adding, moving and renaming folders in it.
fn lock(clusters: &Path) -> Result<File, StoreError> {
    let folder = File::open(clusters).map_err(StoreError::io("open", clusters))?;
    folder.lock().map_err(StoreError::io("lock", clusters))?;
    Ok(folder)
}

fn make_folder(path: &Path) -> Result<(), StoreError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other.map_err(StoreError::io("create", path)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use malai_cluster::ClusterId;
    use tempfile::{TempDir, tempdir};

    use super::*;
    use crate::home::init::{init_cluster, init_machine};

    const ID: &str = "e87aeds2fajaeu10tjdio5ppcdha410n6tu4665u7el9as9b7v80";

    fn alias(text: &str) -> ClusterAlias {
        ClusterAlias::parse(text).unwrap()
    }

    fn world() -> (TempDir, Home) {
        let folder = tempdir().unwrap();
        let home = Home::at(folder.path().join("home"));
        init_cluster(&home, &alias("company")).unwrap();
        init_machine(&home, &alias("work"), &ClusterId::parse(ID).unwrap(), &[]).unwrap();
        (folder, home)
    }

    #[test]
    fn a_folder_leaves_with_its_key_and_only_the_right_way() {
        let (_folder, home) = world();
        let key = fs::read(home.cluster_dir(&alias("company")).cluster_key()).unwrap();
        let refused = |alias_: &str, role, words: &str| {
            let error = set_aside(&home, &alias(alias_), role)
                .unwrap_err()
                .to_string();
            assert!(error.contains(words), "{error}");
        };
        refused("company", Role::Machine, "cluster delete company");
        refused("work", Role::Manager, "cluster leave work");
        refused("other", Role::Machine, "(found: company, work)");
        let aside = set_aside(&home, &alias("company"), Role::Manager).unwrap();
        assert_eq!(fs::read(aside.join("cluster.private-key")).unwrap(), key);
        set_aside(&home, &alias("work"), Role::Machine).unwrap();
        assert!(home.survey().unwrap().dirs.is_empty());
        destroy(&aside).unwrap();
        assert!(!aside.exists());
    }

    #[test]
    fn an_alias_is_renamed_with_what_malai_toml_says_of_it() {
        let (_folder, home) = world();
        let said = "[aliases]\nw = \"web.work\"\n[accept.work]\nfrom = []\n";
        fs::write(home.settings(), said).unwrap();
        let taken = rename_alias(&home, &alias("work"), &alias("company"));
        assert!(matches!(taken, Err(AsideError::Taken { .. })));
        let unknown = rename_alias(&home, &alias("x"), &alias("y"));
        assert!(matches!(unknown, Err(AsideError::Unknown { .. })));
        assert_eq!(fs::read_to_string(home.settings()).unwrap(), said);
        rename_alias(&home, &alias("work"), &alias("job")).unwrap();
        let now = fs::read_to_string(home.settings()).unwrap();
        assert_eq!(now, said.replace("work", "job"));
        assert!(home.cluster_dir(&alias("job")).machine_key().exists());
        rename_alias(&home, &alias("company"), &alias("corp")).unwrap();
        assert_eq!(fs::read_to_string(home.settings()).unwrap(), now);
    }
}
