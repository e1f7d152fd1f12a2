//! Which cluster a folder in `clusters/` belongs to: the `manager` file, and other sources of the cluster's id.

use std::path::PathBuf;

use malai_cluster::{ClusterId, ClusterRef, IdError};

use crate::home::keystore::{self, KeyError};
use crate::home::{ClusterDir, HomeError, Role};
use crate::os::fs::{self, StoreError, display_path};

/// The maximum size of a `manager` file in bytes.
const MAX_MANAGER_FILE: u64 = 64 * 1024;

/// The maximum length of an address hint in bytes. A relay's address with a path is much shorter.
const MAX_HINT: usize = 1024;

/// The arguments of `machine init`: who manages the cluster, and where the manager may be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManagerFile {
    /// The cluster, by its manager's key.
    pub cluster: ClusterId,
    /// Addresses to try, as typed. They are hints and prove nothing.
    pub hints: Vec<String>,
}

/// Why a `manager` file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MembershipError {
    /// A machine's folder has no `manager` file.
    #[error(
        "{} is missing: it names the manager that may configure this computer. Write the manager's id52 into it (`malai status` on the manager shows it)",
        display_path(path)
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// Its first line is not an id52.
    #[error("{}, line 1: {source}", display_path(path))]
    BadId {
        /// The file.
        path: PathBuf,
        /// What is wrong with the line.
        source: IdError,
    },
    /// An invalid address hint.
    #[error(
        "invalid address hint {hint:?}: it must be one line of at most {MAX_HINT} visible characters"
    )]
    BadHint {
        /// The hint as given.
        hint: String,
    },
    /// The file cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The manager's key cannot be read.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The folder's role is unknown.
    #[error(transparent)]
    Home(#[from] HomeError),
}

impl ManagerFile {
    /// Reads the `manager` file of this folder.
    ///
    /// # Errors
    ///
    /// It is missing, its first line is not an id52, or a further line cannot be an address.
    pub fn load(dir: &ClusterDir) -> Result<ManagerFile, MembershipError> {
        let path = dir.manager_file();
        let Some(text) = fs::read_text(&path, MAX_MANAGER_FILE)? else {
            return Err(MembershipError::Missing { path });
        };
        let mut lines = text.lines().map(str::trim);
        let cluster = ClusterId::parse(lines.next().unwrap_or_default())
            .map_err(|source| MembershipError::BadId { path, source })?;
        let hints = lines
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
            .collect();
        ManagerFile::new(cluster, hints)
    }

    /// Checks the hints.
    ///
    /// # Errors
    ///
    /// [`MembershipError::BadHint`] for a hint that is empty, too long, or not a line of visible characters.
    pub fn new(cluster: ClusterId, hints: Vec<String>) -> Result<ManagerFile, MembershipError> {
        let bad = |hint: &String| {
            hint.trim().is_empty() || hint.len() > MAX_HINT || hint.chars().any(char::is_control)
        };
        match hints.iter().find(|hint| bad(hint)) {
            Some(hint) => Err(MembershipError::BadHint { hint: hint.clone() }),
            None => Ok(ManagerFile { cluster, hints }),
        }
    }

    /// The file's content.
    pub fn to_file(&self) -> String {
        let mut text = format!("{}\n", self.cluster);
        for hint in &self.hints {
            text.push_str(hint.trim());
            text.push('\n');
        }
        text
    }
}

/// This computer's role in the cluster of this folder, and the cluster's id.
///
/// # Errors
///
/// The folder's files contradict each other, or the file with the id cannot be read.
pub fn identify(dir: &ClusterDir) -> Result<(Role, ClusterId), MembershipError> {
    let role = dir.role()?;
    let cluster = match role {
        Role::Machine => ManagerFile::load(dir)?.cluster,
        Role::Manager => ClusterId::new(keystore::load(&dir.cluster_key())?.id()),
    };
    Ok((role, cluster))
}

/// Whether this folder belongs to a cluster, given by its alias or by its id.
pub fn is_of(dir: &ClusterDir, cluster: &ClusterRef) -> bool {
    match cluster {
        ClusterRef::Alias(alias) => dir.alias == *alias,
        ClusterRef::Id(id) => identify(dir).is_ok_and(|(_, found)| found == *id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use malai_cluster::ClusterAlias;
    use tempfile::tempdir;

    use crate::home::Home;

    const ID: &str = "i66fo538lfl5ombdf6tcdbrabp4hmp9asv7nrffuc2im13ct4q60";

    #[test]
    fn the_manager_file_comes_back_as_it_was_written() {
        let folder = tempdir().unwrap();
        let home = Home::at(folder.path().to_path_buf());
        let dir = home.cluster_dir(&ClusterAlias::parse("company").unwrap());
        std::fs::create_dir_all(&dir.path).unwrap();
        assert!(matches!(
            ManagerFile::load(&dir),
            Err(MembershipError::Missing { .. })
        ));
        let file = ManagerFile::new(
            ClusterId::parse(ID).unwrap(),
            vec!["192.0.2.1:28772".to_owned(), "[2001:db8::1]:1".to_owned()],
        )
        .unwrap();
        std::fs::write(dir.manager_file(), file.to_file()).unwrap();
        assert_eq!(ManagerFile::load(&dir).unwrap(), file);
        assert_eq!(identify(&dir).unwrap(), (Role::Machine, file.cluster));

        std::fs::write(dir.manager_file(), format!("{ID}\r\n\r\n")).unwrap();
        assert_eq!(ManagerFile::load(&dir).unwrap().hints, Vec::<String>::new());
        std::fs::write(dir.manager_file(), "").unwrap();
        let message = ManagerFile::load(&dir).unwrap_err().to_string();
        assert!(
            message.contains("manager, line 1: an id52 has 52"),
            "{message}"
        );
    }

    #[test]
    fn hints_are_single_visible_lines() {
        let cluster = ClusterId::parse(ID).unwrap();
        for hint in ["", "  ", "a\nb", "a\x1b[2Jb", &"x".repeat(2000)] {
            let made = ManagerFile::new(cluster, vec![hint.to_owned()]);
            assert!(
                matches!(made, Err(MembershipError::BadHint { .. })),
                "{hint:?}"
            );
        }
    }
}
