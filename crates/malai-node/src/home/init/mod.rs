//! New clusters and new memberships: made whole in a hidden folder and renamed into place, or not at all.

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

/// What the names of folders under construction begin with. Hidden, so nobody takes one for a cluster.
const STAGING_PREFIX: &str = ".malai-init-";

/// Why a cluster or a membership was not made. Nothing was changed then.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// There is something of that name already.
    #[error(
        "the alias {alias} is taken: {} is there already; nothing was changed, choose another alias",
        display_path(path)
    )]
    AliasTaken {
        /// The alias asked for.
        alias: ClusterAlias,
        /// What is there.
        path: PathBuf,
    },
    /// This home is in that cluster already.
    #[error(
        "this computer is in the cluster {} already, as {}, under the alias {existing}; nothing was changed, use that alias (a second membership needs a home of its own: set MALAI_HOME)",
        cluster.short(),
        match role { Role::Manager => "its manager", Role::Machine => "a machine" }
    )]
    AlreadyMember {
        /// The cluster.
        cluster: ClusterId,
        /// What this home is in it.
        role: Role,
        /// The alias it has here.
        existing: ClusterAlias,
    },
    /// There is nothing of that name whose manager could be replaced.
    #[error("cannot replace the manager of {alias}: {why}; nothing was changed")]
    NothingToReplace {
        /// The alias asked for.
        alias: ClusterAlias,
        /// What is there instead, and what to do.
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

/// A cluster that [`init_cluster`] has made.
#[derive(Debug)]
pub struct NewCluster {
    /// The cluster's identity, which is its manager's.
    pub id: ClusterId,
    /// Where its files are.
    pub dir: ClusterDir,
}

/// A membership that [`init_machine`] has made.
#[derive(Debug)]
pub struct NewMachine {
    /// This computer's identity in the cluster.
    pub id: MachineId,
    /// The cluster.
    pub cluster: ClusterId,
    /// Where its files are.
    pub dir: ClusterDir,
}

/// Makes a cluster managed here: its key, and a `cluster.toml` to be filled in by hand.
///
/// # Errors
///
/// When the alias is taken or the system refuses; nothing is left behind then.
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

/// Makes this computer's identity in a cluster that is managed elsewhere.
///
/// # Errors
///
/// When the alias is taken, this home is in that cluster already, a hint cannot be used, or the system
/// refuses; nothing is left behind then.
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

/// Makes a new identity under a new manager, in the place of one whose manager's key is lost or stolen. The
/// old folder is kept, outside of `clusters/`, where no daemon reads it.
///
/// Returns what was made, and where the old folder is now. At every instant the alias leads to the whole old
/// folder or to the whole new one.
///
/// # Errors
///
/// When there is no membership of that name, it follows this manager already, or the system refuses.
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
            "this computer has no such cluster; malai machine init {cluster} {alias} joins it"
        )));
    }
    home.prepare()?;
    let clusters = home.clusters();
    let lock = File::open(&clusters).map_err(StoreError::io("open", &clusters))?;
    lock.lock().map_err(StoreError::io("lock", &clusters))?;
    if goal.role().ok() == Some(Role::Manager) {
        return Err(nothing(
            "it is managed here; who manages a cluster is its key, and another key is another cluster"
                .to_owned(),
        ));
    }
    // A folder that does not tell whom it follows can be replaced all the same.
    let old = manager_file::identify(&goal).ok().map(|(_, id)| id);
    if old == Some(*cluster) {
        return Err(nothing("it follows that manager already".to_owned()));
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
    // The new folder is made under the name that the old one is to have, and then the two change places: so
    // nothing is ever deleted.
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
        // A folder that cannot tell its cluster is `rescan --check`'s business and no reason to refuse another.
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

/// A folder under construction; removed again unless it is published.
struct Staging {
    goal: ClusterDir,
    path: PathBuf,
    published: bool,
    /// The lock on `clusters/`: of two inits at once, the second sees what the first has made.
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

    /// The folder as it is now, for the names of the files in it.
    fn dir(&self) -> ClusterDir {
        ClusterDir {
            alias: self.goal.alias.clone(),
            path: self.path.clone(),
        }
    }

    fn publish(mut self) -> Result<ClusterDir, InitError> {
        let goal = &self.goal.path;
        // A plain rename would replace an empty folder that somebody made meanwhile.
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

/// Removes what killed inits left. The lock on `clusters/` says that no live one is at work.
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
