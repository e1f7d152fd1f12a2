//! Reads what the home knows of a cluster.

use std::sync::Arc;

use malai_cluster::{ClusterId, MAX_CONTENT, Snapshot, check};

use crate::cluster::config::{ConfigStore, State};
use crate::cluster::state::ClusterState;
use crate::home::keystore::{self, KeyError};
use crate::home::manager_file::{self, MembershipError};
use crate::home::{ClusterDir, Role};
use crate::node::Node;
use crate::os::fs::{self, StoreError};

/// Largest snapshot file that is read, in bytes: the content and its comment line.
const MAX_SNAPSHOT_FILE: u64 = MAX_CONTENT as u64 + 4096;

/// A cluster's folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It does not say what it is.
    #[error(transparent)]
    Membership(#[from] MembershipError),
    /// Its key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A file cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Reads a cluster's folder.
///
/// # Errors
///
/// The folder, the key or a file cannot be used. A damaged snapshot is not an error: that cluster denies
/// everything until it has a new one.
pub(crate) fn load(dir: ClusterDir, node: Arc<Node>) -> Result<ClusterState, LoadError> {
    let (role, cluster) = manager_file::identify(&dir)?;
    let (seed, state) = match role {
        Role::Manager => (
            keystore::load(&dir.cluster_key())?,
            manager_state(&dir, &cluster)?,
        ),
        Role::Machine => (
            keystore::load(&dir.machine_key())?,
            machine_state(&dir, &cluster)?,
        ),
    };
    let config = ConfigStore::new(state);
    Ok(ClusterState::new(dir, cluster, role, seed, config, node))
}

/// What a manager has published, and its file for names before the first time.
fn manager_state(dir: &ClusterDir, cluster: &ClusterId) -> Result<State, LoadError> {
    let mut state = State::default();
    if let Some(text) = fs::read_text(&dir.published(), MAX_SNAPSHOT_FILE)? {
        match Snapshot::from_file(cluster, &text) {
            Ok(snapshot) => state.snapshot = Some(Arc::new(snapshot)),
            Err(error) => {
                state.problem = Some(format!(
                    "{}: {error}; the next rescan publishes again",
                    dir.published().display()
                ))
            }
        }
    }
    let published = state
        .snapshot
        .as_ref()
        .map_or(0, |snapshot| snapshot.revision());
    if let Some(text) = fs::read_text(&dir.newer(), MAX_SNAPSHOT_FILE)? {
        state.newer = Snapshot::from_file(cluster, &text)
            .ok()
            .map(|newer| newer.revision())
            .filter(|newer| *newer > published);
    }
    if state.snapshot.is_none()
        && let Some(text) = fs::read_text(&dir.cluster_toml(), MAX_SNAPSHOT_FILE)?
    {
        state.draft = check(&dir.cluster_toml().to_string_lossy(), &text)
            .cluster
            .map(Arc::new);
    }
    Ok(state)
}

/// What a machine has received. A file that is torn or was edited is reported and never obeyed.
fn machine_state(dir: &ClusterDir, cluster: &ClusterId) -> Result<State, LoadError> {
    let mut state = State::default();
    if let Some(text) = fs::read_text(&dir.machine_toml(), MAX_SNAPSHOT_FILE)? {
        match Snapshot::from_file(cluster, &text) {
            Ok(snapshot) => state.snapshot = Some(Arc::new(snapshot)),
            Err(error) => {
                let problem = format!(
                    "{} cannot be used: {error}. This cluster denies everything until the manager or a member has sent the configuration again, which is being asked for",
                    dir.machine_toml().display()
                );
                tracing::error!(cluster = %dir.alias, "{problem}");
                state.problem = Some(problem);
            }
        }
    }
    Ok(state)
}

/// Puts back what a machine has received if its file was edited, and says so: a local edit is never obeyed.
pub(crate) fn restore_edited(cluster_state: &ClusterState) -> Option<String> {
    let snapshot = cluster_state.config.snapshot()?;
    let path = cluster_state.dir.machine_toml();
    let written = snapshot.to_file();
    if fs::read_text(&path, MAX_SNAPSHOT_FILE)
        .ok()
        .flatten()
        .as_deref()
        == Some(&written)
    {
        return None;
    }
    Some(match fs::write_atomic(&path, written.as_bytes(), 0o600) {
        Ok(()) => format!(
            "{} was changed here; only the manager changes it, so what it sent (revision {}) was put back",
            path.display(),
            snapshot.revision()
        ),
        Err(error) => format!(
            "{} was changed here, and what the manager sent cannot be put back: {error}",
            path.display()
        ),
    })
}
