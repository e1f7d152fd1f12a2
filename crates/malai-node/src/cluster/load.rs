//! Loads a cluster's state from its files.

use std::sync::Arc;

use crate::cluster::config::{ConfigStore, State};
use crate::cluster::state::ClusterState;
use crate::home::Role;
use crate::home::cluster_files::LoadedCluster;
use crate::home::problem::Problem;
use crate::node::Node;
use crate::os::fs;

/// A cluster's files cannot be used: every problem.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct LoadError(String);

/// The state of a cluster.
///
/// # Errors
///
/// The files do not show this computer's identity in the cluster, or no configuration can be in force. A damaged snapshot
/// is not an error: that cluster denies everything until it has a new one.
pub(crate) fn load(files: &LoadedCluster, node: Arc<Node>) -> Result<ClusterState, LoadError> {
    let (Some(role), Some(cluster), Some(seed), true) = (
        files.role,
        files.id,
        files.seed.clone(),
        files.is_servable(),
    ) else {
        return Err(LoadError(files.all_problems()));
    };
    let (dir, config) = (files.dir.clone(), ConfigStore::new(state(files)));
    let cluster_state = ClusterState::new(dir, cluster, role, seed, config, node);
    if role == Role::Machine {
        cluster_state.own_invitation.load(&files.dir);
    }
    Ok(cluster_state)
}

/// The state according to the files.
fn state(files: &LoadedCluster) -> State {
    let is_machine = files.role == Some(Role::Machine);
    let problem = files.problems.first().filter(|_| files.snapshot_is_damaged);
    if let Some(problem) = problem.filter(|_| is_machine) {
        tracing::error!(cluster = %files.dir.alias, "{}", problem.brief());
    }
    State {
        snapshot: files.snapshot.clone().map(Arc::new),
        draft: match files.snapshot {
            Some(_) => None,
            None => files.draft.clone().map(Arc::new),
        },
        problem: problem.map(Problem::brief),
        newer: files.newer.clone().map(Arc::new),
        fork: None,
        refused: None,
    }
}

/// Restores what a machine has received if its file was edited, and reports that. A local edit is never obeyed.
pub(crate) fn restore_edited(
    cluster_state: &ClusterState,
    files: &LoadedCluster,
) -> Option<String> {
    let snapshot = cluster_state.config.snapshot()?;
    let path = cluster_state.dir.machine_toml();
    let written = snapshot.to_file();
    if files.source.as_ref() == Some(&written) {
        return None;
    }
    Some(match fs::write_atomic(&path, written.as_bytes(), 0o600) {
        Ok(()) => format!(
            "{} was edited here; only the manager may change it, so revision {} was restored",
            path.display(),
            snapshot.revision()
        ),
        Err(error) => format!(
            "{} was edited here, and the manager's version cannot be restored: {error}",
            path.display()
        ),
    })
}
