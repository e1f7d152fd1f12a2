//! `$MALAI_HOME`: its layout, who may own it, and which clusters it is in.

pub(crate) mod admission;
pub mod aside;
pub(crate) mod cluster_files;
pub mod draft;
pub mod edit;
pub(crate) mod init;
pub mod invitations;
pub mod joining;
pub mod keystore;
pub mod lock;
pub mod manager_file;
pub(crate) mod no_such_cluster;
pub(crate) mod problem;

use std::fs::{self, DirBuilder, File, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use malai_cluster::ClusterAlias;
use serde::Serialize;

use crate::os::fs::display_path;
use crate::os::trust::{self, Unsafe};

/// The environment variable that names the home.
pub(crate) const HOME_VARIABLE: &str = "MALAI_HOME";

/// Why a home cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// `MALAI_HOME` is set but empty.
    #[error(
        "the environment variable MALAI_HOME is empty; unset it to use ~/.malai, or set it to a folder"
    )]
    EmptyVariable,
    /// Neither `MALAI_HOME` nor `HOME` is set.
    #[error(
        "cannot find malai's home: neither MALAI_HOME nor HOME is set; set MALAI_HOME to a folder"
    )]
    Unknown,
    /// The system refused an operation.
    #[error("cannot {action} {}: {source}", display_path(path))]
    Io {
        /// The attempted operation.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// There is something other than a folder at its path.
    #[error(
        "{} is not a folder; move it away, or set MALAI_HOME to another place",
        display_path(path)
    )]
    NotAFolder {
        /// What is there.
        path: PathBuf,
    },
    /// Another user owns the folder, or the symbolic link that leads to it.
    #[error(
        "{} belongs to user id {owner}, but malai runs as user id {user}; run malai as its owner, or set MALAI_HOME to a folder of your own",
        display_path(path)
    )]
    ForeignOwner {
        /// What somebody else owns.
        path: PathBuf,
        /// Its owner's user id.
        owner: u32,
        /// The user id malai runs as.
        user: u32,
    },
    /// Every user can replace a folder on the path to the home.
    #[error(
        "every user can change {} (mode {mode:04o}), and with it what malai reads there; fix it (chmod o-w), or set MALAI_HOME to another place",
        display_path(path)
    )]
    OpenToAll {
        /// The folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A folder in `clusters/` has a name that cannot be an alias.
    #[error(
        "the folder {} is not served: {reason}; rename it, or move it out of clusters/",
        display_path(path)
    )]
    BadAlias {
        /// The folder.
        path: PathBuf,
        /// The rule its name breaks.
        reason: String,
    },
    /// A folder in `clusters/` has the files of a manager and those of a machine.
    #[error(
        "{} contains {}, which make it a manager's, and {}, which make it a machine's; it can only be one of them: move the other's files away",
        display_path(path),
        manager_files.join(" and "),
        machine_files.join(" and ")
    )]
    BothRoles {
        /// The folder.
        path: PathBuf,
        /// The files of a manager that are there.
        manager_files: Vec<&'static str>,
        /// The files of a machine that are there.
        machine_files: Vec<&'static str>,
    },
    /// A folder in `clusters/` has no file that shows its role.
    #[error(
        "{} contains neither cluster.toml (a cluster managed here) nor machine.toml or manager (a cluster this computer is a machine of); it is not a cluster's folder; move it out of clusters/",
        display_path(path)
    )]
    NoRole {
        /// The folder.
        path: PathBuf,
    },
}

impl HomeError {
    /// Whether the only problem is a folder in `clusters/` that does not belong to a cluster.
    pub(crate) fn is_stray(&self) -> bool {
        matches!(self, HomeError::BadAlias { .. } | HomeError::NoRole { .. })
    }

    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> HomeError {
        let path = path.to_path_buf();
        move |source| HomeError::Io {
            action,
            path,
            source,
        }
    }
}

/// This computer's role in one of its clusters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It has `cluster.toml` and the cluster's key.
    Manager,
    /// It is a machine of a cluster that is managed elsewhere.
    Machine,
}

/// The folder in which malai keeps everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    root: PathBuf,
}

impl Home {
    /// The home of this process: `$MALAI_HOME`, or else `~/.malai`. A relative path starts at the current folder.
    ///
    /// # Errors
    ///
    /// `MALAI_HOME` is empty, or neither variable is set.
    pub fn from_env() -> Result<Home, HomeError> {
        let chosen = match std::env::var_os(HOME_VARIABLE) {
            Some(value) if value.is_empty() => return Err(HomeError::EmptyVariable),
            Some(value) => PathBuf::from(value),
            None => std::env::home_dir()
                .filter(|folder| !folder.as_os_str().is_empty())
                .ok_or(HomeError::Unknown)?
                .join(".malai"),
        };
        let root = std::path::absolute(&chosen).map_err(HomeError::io("find", &chosen))?;
        Ok(Home::at(root))
    }

    /// The home in this folder.
    pub fn at(root: PathBuf) -> Home {
        // Collecting the components drops trailing slashes, which would show in every message.
        Home {
            root: root.components().collect(),
        }
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder with one folder per cluster.
    pub fn clusters(&self) -> PathBuf {
        self.root.join("clusters")
    }

    /// The folder of one cluster, whether it exists or not.
    pub fn cluster_dir(&self, alias: &ClusterAlias) -> ClusterDir {
        ClusterDir {
            alias: alias.clone(),
            path: self.clusters().join(alias.to_string()),
        }
    }

    /// `malai.lock`, the visible sign of the daemon's lock.
    pub fn lock_file(&self) -> PathBuf {
        self.root.join("malai.lock")
    }

    /// `malai.socket`, on which the daemon answers the command line.
    pub fn socket(&self) -> PathBuf {
        self.root.join("malai.socket")
    }

    /// `malai.log`, the background daemon's log.
    pub fn log(&self) -> PathBuf {
        self.root.join("malai.log")
    }

    /// `audit.jsonl`, the audit record.
    pub fn audit(&self) -> PathBuf {
        self.root.join("audit.jsonl")
    }

    /// `replaced/`, the folders of identities whose manager was replaced. No daemon reads them.
    pub fn replaced(&self) -> PathBuf {
        self.root.join("replaced")
    }

    /// `removed/`, the folders of clusters that were left or given up. No daemon reads them.
    pub fn removed(&self) -> PathBuf {
        self.root.join("removed")
    }

    /// `relay.private-key`, the key of the certificate that `malai relay` makes itself.
    pub fn relay_key(&self) -> PathBuf {
        self.root.join("relay.private-key")
    }

    /// `malai.toml`, the optional hand-written settings.
    pub fn settings(&self) -> PathBuf {
        self.root.join("malai.toml")
    }

    /// Creates the home and `clusters/` if they are missing, and removes the access of others.
    ///
    /// # Errors
    ///
    /// Another user owns one of them, or the symbolic link that leads there, or the system refuses.
    pub fn prepare(&self) -> Result<(), HomeError> {
        prepare_folder(&self.root)?;
        prepare_folder(&self.clusters())
    }

    /// Checks that the content of this home can be trusted: it belongs to this user, and only root could replace it. A
    /// missing home passes.
    ///
    /// # Errors
    ///
    /// [`HomeError::ForeignOwner`] or [`HomeError::OpenToAll`], for the home or something on the path to it.
    pub fn require_trusted_owner(&self) -> Result<(), HomeError> {
        trust::check_path(&self.root).map_err(|found| match found {
            Unsafe::ForeignOwner { path, owner } => HomeError::ForeignOwner {
                path,
                owner,
                user: trust::own_user(),
            },
            Unsafe::Writable { path, mode } => HomeError::OpenToAll { path, mode },
        })
    }

    /// The clusters of this home, and the folders in `clusters/` that cannot be one. Hidden folders and regular files are
    /// ignored.
    ///
    /// # Errors
    ///
    /// `clusters/` exists but cannot be listed.
    pub fn survey(&self) -> Result<Survey, HomeError> {
        let mut survey = Survey::default();
        let clusters = self.clusters();
        let entries = match fs::read_dir(&clusters) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(survey),
            Err(error) => return Err(HomeError::io("list", &clusters)(error)),
        };
        for entry in entries {
            let entry = entry.map_err(HomeError::io("list", &clusters))?;
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            match cluster_dir(entry.path()) {
                Ok(Some(dir)) => survey.dirs.push(dir),
                Ok(None) => {}
                Err(problem) => survey.problems.push((entry.path(), problem)),
            }
        }
        survey.dirs.sort_by(|a, b| a.path.cmp(&b.path));
        survey.problems.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(survey)
    }
}

/// The result of [`Home::survey`].
#[derive(Debug, Default)]
pub struct Survey {
    /// The folders whose names are valid aliases, sorted.
    pub dirs: Vec<ClusterDir>,
    /// The folders that cannot be clusters, and why, sorted.
    pub problems: Vec<(PathBuf, HomeError)>,
}

/// The folder of one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterDir {
    /// The cluster's alias, which is the name of the folder.
    pub alias: ClusterAlias,
    /// The folder.
    pub path: PathBuf,
}

impl ClusterDir {
    /// This computer's role in that cluster, according to the files in the folder.
    ///
    /// # Errors
    ///
    /// [`HomeError::BothRoles`], [`HomeError::NoRole`], or the folder cannot be read.
    ///
    /// If the files that show the role are gone, the remaining key shows it.
    pub fn role(&self) -> Result<Role, HomeError> {
        let present = |names: &[&'static str]| -> Result<Vec<&'static str>, HomeError> {
            let mut found = Vec::new();
            for name in names {
                let path = self.path.join(name);
                // Not followed: a dangling link is a damaged file, not an absent one.
                match path.symlink_metadata() {
                    Ok(_) => found.push(*name),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(HomeError::io("examine", &path)(error)),
                }
            }
            Ok(found)
        };
        let manager_files = present(&["cluster.toml"])?;
        let machine_files = present(&["machine.toml", "manager"])?;
        let path = self.path.clone();
        match (manager_files.is_empty(), machine_files.is_empty()) {
            (false, true) => Ok(Role::Manager),
            (true, false) => Ok(Role::Machine),
            (false, false) => Err(HomeError::BothRoles {
                path,
                manager_files,
                machine_files,
            }),
            (true, true) if !present(&["cluster.private-key"])?.is_empty() => Ok(Role::Manager),
            (true, true) if !present(&["machine.private-key"])?.is_empty() => Ok(Role::Machine),
            (true, true) => Err(HomeError::NoRole { path }),
        }
    }

    /// `cluster.toml`: the configuration of a cluster managed here, edited by hand.
    pub fn cluster_toml(&self) -> PathBuf {
        self.path.join("cluster.toml")
    }

    /// `cluster.private-key`: the manager's key.
    pub fn cluster_key(&self) -> PathBuf {
        self.path.join("cluster.private-key")
    }

    /// `machine.toml`: the last snapshot received, written only by malai.
    pub fn machine_toml(&self) -> PathBuf {
        self.path.join("machine.toml")
    }

    /// `machine.private-key`: this computer's key in a cluster managed elsewhere.
    pub fn machine_key(&self) -> PathBuf {
        self.path.join("machine.private-key")
    }

    /// `manager`: the manager's id52 and address hints, as given to `machine init`.
    pub fn manager_file(&self) -> PathBuf {
        self.path.join("manager")
    }

    /// `published`: the last snapshot that this manager published.
    pub fn published(&self) -> PathBuf {
        self.path.join("published")
    }

    /// `newer`: a validly signed snapshot with a revision above this manager's own, kept for comparison.
    pub fn newer(&self) -> PathBuf {
        self.path.join("newer")
    }

    /// `invitations/`: the invitations of a cluster managed here.
    pub fn invitations(&self) -> PathBuf {
        self.path.join("invitations")
    }

    /// `invitation`: the one that this computer joins with, until it has joined.
    pub fn invitation(&self) -> PathBuf {
        self.path.join("invitation")
    }

    /// `addresses`: the remembered addresses of members.
    pub fn addresses(&self) -> PathBuf {
        self.path.join("addresses")
    }
}

/// The cluster folder at this path; `None` if there is something other than a folder.
fn cluster_dir(path: PathBuf) -> Result<Option<ClusterDir>, HomeError> {
    let name = path.file_name().unwrap_or_default();
    let parsed = match name.to_str() {
        Some(name) => ClusterAlias::parse(name).map_err(|error| error.to_string()),
        None => Err("its name is not UTF-8".to_owned()),
    };
    let metadata = fs::metadata(&path);
    if metadata.as_ref().is_ok_and(|metadata| !metadata.is_dir()) {
        return Ok(None);
    }
    // A folder with another name is never read, so its owner does not matter.
    let alias = match parsed {
        Ok(alias) => alias,
        Err(reason) => return Err(HomeError::BadAlias { path, reason }),
    };
    let metadata = metadata.map_err(HomeError::io("examine", &path))?;
    let owner = match trust::is_trusted(&metadata) {
        true => trust::foreign_link(&path),
        false => Some(metadata.uid()),
    };
    match owner {
        None => Ok(Some(ClusterDir { alias, path })),
        Some(owner) => {
            let user = trust::own_user();
            Err(HomeError::ForeignOwner { path, owner, user })
        }
    }
}

/// Creates this folder if it is missing, and restricts it to its owner.
fn prepare_folder(path: &Path) -> Result<(), HomeError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .or_else(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Ok(()),
            _ => Err(HomeError::io("create", path)(error)),
        })?;
    // The owner of a link can change its target, so both owners count.
    let connection = path
        .symlink_metadata()
        .map_err(HomeError::io("examine", path))?;
    let user = rustix::process::geteuid().as_raw();
    if connection.is_symlink() && connection.uid() != 0 {
        require_owner(path, &connection, user)?;
    }
    let folder = File::open(path).map_err(HomeError::io("open", path))?;
    let metadata = folder.metadata().map_err(HomeError::io("examine", path))?;
    if !metadata.is_dir() {
        return Err(HomeError::NotAFolder {
            path: path.to_path_buf(),
        });
    }
    require_owner(path, &metadata, user)?;
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        // On the opened folder, not the path: the path may lead elsewhere by now.
        folder
            .set_permissions(fs::Permissions::from_mode(mode & !0o077))
            .map_err(HomeError::io("tighten the mode of", path))?;
    }
    Ok(())
}

fn require_owner(path: &Path, metadata: &Metadata, user: u32) -> Result<(), HomeError> {
    if metadata.uid() == user {
        return Ok(());
    }
    Err(HomeError::ForeignOwner {
        path: path.to_path_buf(),
        owner: metadata.uid(),
        user,
    })
}

#[cfg(test)]
mod tests;
