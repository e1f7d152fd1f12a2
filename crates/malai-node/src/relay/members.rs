//! The members of the home's clusters, as the signed configurations in it say at the moment.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use malai_cluster::{Cluster, MachineId, SecretSeed};

use crate::home::cluster_files::LoadedCluster;
use crate::home::{ClusterDir, Home, HomeError};

/// The identity of a file's content: a new one has another inode or time.
type FileState = Option<(u64, i64, i64, u64)>;

/// A cluster whose members are admitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// Its alias.
    pub alias: String,
    /// The revision in force; `None` if the home has no configuration yet; then only the manager is admitted.
    pub revision: Option<u64>,
    /// How many members it has.
    pub members: usize,
}

impl fmt::Display for Admitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.revision {
            Some(revision) => write!(
                f,
                "{} (revision {revision}, {} members)",
                self.alias, self.members
            ),
            None => write!(
                f,
                "{} (no configuration yet: its manager alone)",
                self.alias
            ),
        }
    }
}

/// The members, by cluster.
#[derive(Debug)]
pub(super) struct Members {
    home: Home,
    clusters: BTreeMap<String, Known>,
}

#[derive(Debug)]
struct Known {
    files: [FileState; 2],
    revision: Option<u64>,
    cluster: Option<Arc<Cluster>>,
    /// The manager and this home's own key: they are admitted without a configuration, or the first one could not come
    /// through the relay.
    always: Vec<MachineId>,
}

impl Members {
    pub(super) fn of(home: &Home) -> Self {
        Self {
            home: home.clone(),
            clusters: BTreeMap::new(),
        }
    }

    /// Reads the configurations that have changed. Returns whether there were any.
    ///
    /// # Errors
    ///
    /// The home cannot be listed.
    pub(super) fn refresh(&mut self) -> Result<bool, HomeError> {
        let dirs = self.home.survey()?.dirs;
        let before = self.clusters.len();
        let aliases: Vec<String> = dirs.iter().map(|dir| dir.alias.to_string()).collect();
        self.clusters.retain(|alias, _| aliases.contains(alias));
        let mut changed = self.clusters.len() != before;
        for (dir, alias) in dirs.iter().zip(aliases) {
            let files = files_of(dir);
            let known = self.clusters.get(&alias);
            if known.is_some_and(|known| known.files == files) {
                continue;
            }
            changed = true;
            let loaded = LoadedCluster::load_in_force(dir);
            let manager = loaded.id.map(|id| id.manager());
            let own = loaded.seed.as_ref().map(SecretSeed::id);
            let always: Vec<MachineId> = manager.into_iter().chain(own).collect();
            let known = match loaded.snapshot {
                Some(snapshot) => Known {
                    files,
                    always,
                    revision: Some(snapshot.revision()),
                    cluster: Some(snapshot.cluster().clone()),
                },
                // Its members stay: a file that a disk has damaged must not take the way to the machines.
                None if loaded.snapshot_is_damaged && known.is_some() => {
                    tracing::warn!(cluster = %alias, "its configuration cannot be read; the members stay those of the last one");
                    let before = self.clusters.remove(&alias);
                    let (revision, cluster) =
                        before.map_or((None, None), |known| (known.revision, known.cluster));
                    Known {
                        files,
                        always,
                        revision,
                        cluster,
                    }
                }
                None => Known {
                    files,
                    always,
                    revision: None,
                    cluster: None,
                },
            };
            self.clusters.insert(alias, known);
        }
        Ok(changed)
    }

    /// The keys of all members.
    pub(super) fn ids(&self) -> HashSet<MachineId> {
        let mut ids = HashSet::new();
        for known in self.clusters.values() {
            ids.extend(&known.always);
            ids.extend(known.cluster.iter().flat_map(|cluster| cluster.members()));
        }
        ids
    }

    /// The clusters, by alias.
    pub(super) fn admitted(&self) -> Vec<Admitted> {
        let clusters = self.clusters.iter();
        clusters
            .map(|(alias, known)| Admitted {
                alias: alias.clone(),
                revision: known.revision,
                members: known
                    .cluster
                    .as_ref()
                    .map_or(0, |cluster| cluster.members().count()),
            })
            .collect()
    }
}

fn files_of(dir: &ClusterDir) -> [FileState; 2] {
    [dir.published(), dir.machine_toml()].map(|path| state(&path))
}

fn state(path: &Path) -> FileState {
    let metadata = std::fs::metadata(path).ok()?;
    Some((
        metadata.ino(),
        metadata.mtime(),
        metadata.mtime_nsec(),
        metadata.len(),
    ))
}
