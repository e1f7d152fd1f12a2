//! Creates clusters and memberships: completely, in a hidden folder that is renamed into place, or not at all.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use malai_cluster::{ClusterAlias, ClusterId, MachineId, initial_document};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::home::keystore::{self, KeyError};
use crate::home::manager_file::{self, ManagerFile, MembershipError};
use crate::home::{ClusterDir, Home, HomeError, Role};
use crate::os::fs::{self, StoreError, display_path};

/// The name prefix of folders under construction. They are hidden, so they are never taken for a cluster.
const STAGING_PREFIX: &str = ".malai-init-";

/// Why a cluster or a membership was not created. Nothing was changed then.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The alias is taken.
    #[error(
        "the alias `{alias}` is taken: {} already exists; nothing was changed, choose another alias",
        display_path(path)
    )]
    AliasTaken {
        /// The alias asked for.
        alias: ClusterAlias,
        /// What exists there.
        path: PathBuf,
    },
    /// This home is already in that cluster.
    #[error(
        "this computer is already in the cluster {}, as {}, under the alias `{existing}`; nothing was changed, use that alias (to join it a second time, set MALAI_HOME to another folder)",
        cluster.short(),
        match role { Role::Manager => "its manager", Role::Machine => "a machine" }
    )]
    AlreadyMember {
        /// The cluster.
        cluster: ClusterId,
        /// This home's role in it.
        role: Role,
        /// Its alias here.
        existing: ClusterAlias,
    },
    /// There is no membership with that alias whose manager could be replaced.
    #[error("cannot replace the manager of {alias}: {why}; nothing was changed")]
    NothingToReplace {
        /// The alias asked for.
        alias: ClusterAlias,
        /// What exists instead, and what to do.
        why: String,
    },
    /// The home cannot be used.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The key cannot be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// An address hint cannot be used.
    #[error(transparent)]
    ClusterState(#[from] MembershipError),
    /// A file cannot be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A cluster created by [`init_cluster`].
#[derive(Debug)]
pub struct NewCluster {
    /// The cluster's identity, which is its manager's.
    pub id: ClusterId,
    /// The folder of its files.
    pub dir: ClusterDir,
}

/// A membership created by [`init_machine`].
#[derive(Debug)]
pub struct NewMachine {
    /// This computer's identity in the cluster.
    pub id: MachineId,
    /// The cluster.
    pub cluster: ClusterId,
    /// The folder of its files.
    pub dir: ClusterDir,
}

/// Creates a cluster managed here: its key, and a `cluster.toml` to fill in by hand.
///
/// # Errors
///
/// The alias is taken or the system refuses. Nothing is left behind then.
pub fn init_cluster(home: &Home, alias: &ClusterAlias) -> Result<NewCluster, InitError> {
    let staging = Staging::start(home, alias)?;
    let made = staging.dir();
    let id = keystore::create(&made.cluster_key())?.id();
    let document = initial_document(&id, alias.as_str());
    fs::write_atomic(&made.cluster_toml(), document.as_bytes(), 0o600)?;
    let dir = staging.publish()?;
    Ok(NewCluster {
        id: ClusterId::new(id),
        dir,
    })
}

/// Creates this computer's identity in a cluster that is managed elsewhere.
///
/// # Errors
///
/// The alias is taken, this home is already in that cluster, a hint cannot be used, or the system refuses. Nothing is left
/// behind then.
pub fn init_machine(
    home: &Home,
    alias: &ClusterAlias,
    cluster: &ClusterId,
    hints: &[String],
) -> Result<NewMachine, InitError> {
    let manager = ManagerFile::new(*cluster, hints.to_vec())?;
    let staging = Staging::start(home, alias)?;
    refuse_second_membership(home, cluster)?;
    let made = staging.dir();
    let id = keystore::create(&made.machine_key())?.id();
    fs::write_atomic(&made.manager_file(), manager.to_file().as_bytes(), 0o600)?;
    let dir = staging.publish()?;
    Ok(NewMachine {
        id,
        cluster: *cluster,
        dir,
    })
}

/// Creates a new identity under a new manager, replacing one whose manager's key is lost or stolen. The old folder is
/// kept outside of `clusters/`, where no daemon reads it.
///
/// Returns the new membership and the old folder's new path. At every instant the alias leads either to the complete old
/// folder or to the complete new one.
///
/// # Errors
///
/// There is no membership with that alias, it already follows this manager, or the system refuses.
pub fn replace_machine(
    home: &Home,
    alias: &ClusterAlias,
    cluster: &ClusterId,
    hints: &[String],
) -> Result<(NewMachine, PathBuf), InitError> {
    let manager = ManagerFile::new(*cluster, hints.to_vec())?;
    let goal = home.cluster_dir(alias);
    let nothing = |why: String| InitError::NothingToReplace {
        alias: alias.clone(),
        why,
    };
    if goal.path.symlink_metadata().is_err() {
        return Err(nothing(format!(
            "this computer has no such cluster; join it with malai machine init {cluster} {alias}"
        )));
    }
    home.prepare()?;
    let clusters = home.clusters();
    let lock = File::open(&clusters).map_err(StoreError::io("open", &clusters))?;
    lock.lock().map_err(StoreError::io("lock", &clusters))?;
    if goal.role().ok() == Some(Role::Manager) {
        return Err(nothing(
            "it is managed here; a cluster is identified by its manager's key, so another key means another cluster"
                .to_owned(),
        ));
    }
    // A folder whose manager is unknown can be replaced, too.
    let old = manager_file::identify(&goal).ok().map(|(_, id)| id);
    if old == Some(*cluster) {
        return Err(nothing(format!(
            "it already follows that manager. For a new key here: malai cluster leave {alias}, then malai machine init {cluster} {alias}, and on the manager malai cluster set <its name for the cluster> <machine> --id52 <the new key>"
        )));
    }
    refuse_second_membership(home, cluster)?;
    let own = keystore::load(&goal.machine_key())
        .ok()
        .map(|seed| seed.id());
    let own = own.map_or_else(|| "unknown".to_owned(), |id| id.short());
    let own: String = own.chars().filter(char::is_ascii_alphanumeric).collect();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let seconds = now.map_or(0, |now| now.as_secs());
    let replaced = home.replaced();
    make_folder(&replaced, true)?;
    // The new folder is created under the name that the old one is to have, and then the two are exchanged, so nothing
    // is ever deleted.
    let aside = ClusterDir {
        alias: alias.clone(),
        path: replaced.join(format!("{alias}-{own}-{seconds}")),
    };
    make_folder(&aside.path, false)?;
    let made = (|| {
        let id = keystore::create(&aside.machine_key())?.id();
        fs::write_atomic(&aside.manager_file(), manager.to_file().as_bytes(), 0o600)?;
        exchange(&aside.path, &goal.path)?;
        Ok::<_, InitError>(id)
    })();
    let id = made.inspect_err(|_| drop(std::fs::remove_dir_all(&aside.path)))?;
    fs::sync_folder(&clusters)?;
    fs::sync_folder(&replaced)?;
    let made = NewMachine {
        id,
        cluster: *cluster,
        dir: goal,
    };
    Ok((made, aside.path))
}

fn make_folder(path: &Path, may_exist: bool) -> Result<(), StoreError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if may_exist && error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other.map_err(StoreError::io("create", path)),
    }
}

fn exchange(new: &Path, old: &Path) -> Result<(), StoreError> {
    renameat_with(CWD, new, CWD, old, RenameFlags::EXCHANGE)
        .map_err(|error| StoreError::io("replace", old)(error.into()))
}

fn refuse_second_membership(home: &Home, cluster: &ClusterId) -> Result<(), InitError> {
    for dir in home.survey()?.dirs {
        // A folder without a recognizable cluster is reported by `rescan --check`; it is not a reason to refuse another.
        match manager_file::identify(&dir) {
            Ok((role, id)) if id == *cluster => {
                return Err(InitError::AlreadyMember {
                    cluster: id,
                    role,
                    existing: dir.alias,
                });
            }
            _ => {}
        }
    }
    Ok(())
}

/// A folder under construction, which is removed unless it is published.
struct Staging {
    goal: ClusterDir,
    path: PathBuf,
    published: bool,
    /// The lock on `clusters/`: of two parallel inits, the second sees what the first has created.
    _clusters: File,
}

impl Staging {
    fn start(home: &Home, alias: &ClusterAlias) -> Result<Staging, InitError> {
        home.prepare()?;
        let clusters = home.clusters();
        let lock = File::open(&clusters).map_err(StoreError::io("open", &clusters))?;
        lock.lock().map_err(StoreError::io("lock", &clusters))?;
        remove_leftovers(&clusters);
        let goal = home.cluster_dir(alias);
        if goal.path.symlink_metadata().is_ok() {
            return Err(taken(&goal));
        }
        let path = clusters.join(format!("{STAGING_PREFIX}{alias}"));
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(StoreError::io("create", &path))?;
        Ok(Staging {
            goal,
            path,
            published: false,
            _clusters: lock,
        })
    }

    /// The folder as it is now, for the names of its files.
    fn dir(&self) -> ClusterDir {
        ClusterDir {
            alias: self.goal.alias.clone(),
            path: self.path.clone(),
        }
    }

    fn publish(mut self) -> Result<ClusterDir, InitError> {
        let goal = &self.goal.path;
        // A plain rename would replace an empty folder created meanwhile.
        let renamed = match renameat_with(CWD, &self.path, CWD, goal, RenameFlags::NOREPLACE) {
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
                std::fs::rename(&self.path, goal)
            }
            other => other.map_err(io::Error::from),
        };
        match renamed {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(taken(&self.goal));
            }
            Err(error) => return Err(StoreError::io("create", goal)(error).into()),
        }
        self.published = true;
        let clusters = goal.parent().unwrap_or(goal);
        fs::sync_folder(clusters)?;
        Ok(self.goal.clone())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.published {
            // What cannot be removed now is hidden, and the next init removes it.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

fn taken(goal: &ClusterDir) -> InitError {
    InitError::AliasTaken {
        alias: goal.alias.clone(),
        path: goal.path.clone(),
    }
}

/// Removes what killed inits left behind. The lock on `clusters/` ensures that no live one is running.
fn remove_leftovers(clusters: &Path) {
    let Ok(entries) = std::fs::read_dir(clusters) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name
            .as_encoded_bytes()
            .starts_with(STAGING_PREFIX.as_bytes())
        {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests;
