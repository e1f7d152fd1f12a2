//! Publishes a manager's file as the next revision, if it differs from the last one and is not older than what members
//! have.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use malai_cluster::{Cluster, Snapshot, next_revision};

use crate::cluster::state::ClusterState;
use crate::home::Role;
use crate::home::cluster_files::{LoadedCluster, behind, says};
use crate::os::fs::{self, StoreError};
use crate::sync::{self, keep_newer};

/// Whether to publish a file that may be older than what members have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PublishMode {
    /// No.
    Current,
    /// Yes: the administrator has asked for exactly that.
    EvenIfOlder,
}

/// The result of publishing a manager's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Published {
    /// The content is already in force.
    Unchanged(u64),
    /// A new revision is in force.
    Revision(u64),
    /// The file has the content of a newer revision that members have; that revision is now in force here.
    Adopted(u64),
}

/// Why nothing was published. The previous configuration stays in force.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublishError {
    /// Members have a newer revision than any that this manager remembers publishing.
    #[error("nothing was published: {0}")]
    Behind(String),
    /// A file cannot be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Publishes `cluster.toml` if it differs from the configuration in force.
///
/// # Errors
///
/// Members have a newer revision and `mode` does not permit publishing above it, or the snapshot cannot be stored. Nothing
/// has changed then.
pub(crate) fn publish(
    cluster_state: &ClusterState,
    draft: &Cluster,
    mode: PublishMode,
) -> Result<Published, PublishError> {
    debug_assert_eq!(cluster_state.role, Role::Manager);
    let state = cluster_state.config.state();
    let current = state.snapshot.as_deref();
    match (&state.newer, current) {
        (Some(newer), _) if says(draft, newer) => return adopt(cluster_state, newer),
        (Some(newer), _) if mode == PublishMode::Current => {
            let message = behind(&cluster_state.dir, newer, Some(draft));
            return Err(PublishError::Behind(message));
        }
        (None, Some(current)) if says(draft, current) => {
            return Ok(Published::Unchanged(current.revision()));
        }
        _ => {}
    }
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let newest = state.newer.as_deref().map(Snapshot::revision);
    let newest = newest.max(current.map(Snapshot::revision));
    let revision = next_revision(newest, now);
    let snapshot = Arc::new(Snapshot::seal(&cluster_state.seed, revision, draft));
    let before = cluster_state.config.cluster();
    cluster_state
        .config
        .install(snapshot, |snapshot| store(cluster_state, snapshot))?;
    settle(cluster_state, revision);
    if let (Some(before), Some(current)) = (before, current) {
        cluster_state.record_former(&before, draft, current.revision());
    }
    tracing::info!(cluster = %cluster_state.alias(), revision, "published");
    Ok(Published::Revision(revision))
}

/// Puts a revision in force that this manager had published but no longer remembers.
fn adopt(cluster_state: &ClusterState, newer: &Arc<Snapshot>) -> Result<Published, PublishError> {
    let revision = newer.revision();
    store(cluster_state, newer)?;
    let stored = |_: &Snapshot| Ok::<(), StoreError>(());
    cluster_state.config.install(newer.clone(), stored)?;
    settle(cluster_state, revision);
    tracing::info!(cluster = %cluster_state.alias(), revision, "in force again");
    Ok(Published::Adopted(revision))
}

fn store(cluster_state: &ClusterState, snapshot: &Snapshot) -> Result<(), StoreError> {
    let path = cluster_state.dir.published();
    fs::write_atomic(&path, snapshot.to_file().as_bytes(), 0o600)
}

/// Discards older revisions from members once this revision is in force.
fn settle(cluster_state: &ClusterState, revision: u64) {
    let mut is_settled = false;
    cluster_state.config.note(|state| {
        state.draft = None;
        is_settled = state
            .newer
            .take_if(|newer| newer.revision() <= revision)
            .is_some();
    });
    if !is_settled {
        return;
    }
    let path = cluster_state.dir.newer();
    if let Err(error) = std::fs::remove_file(&path) {
        tracing::warn!(
            "cannot remove {}, which is no longer needed: {error}",
            path.display()
        );
    }
}

/// Detects that the folder was restored from an old backup while the daemon is running: the revision published last
/// according to the files is older than the one in force, which then counts as a newer revision from members.
pub(crate) fn notice_restored(cluster_state: &ClusterState, files: &LoadedCluster) {
    let Some(current) = cluster_state.config.snapshot() else {
        return;
    };
    let stored = files.snapshot.as_ref().map(Snapshot::revision);
    // A damaged file is rewritten with the next revision.
    if files.snapshot_is_damaged || stored >= Some(current.revision()) {
        return;
    }
    let revision = current.revision();
    if let Err(error) = keep_newer(cluster_state, current) {
        tracing::error!(cluster = %cluster_state.alias(), "cannot keep revision {revision} for comparison: {error}");
    }
    tracing::error!(cluster = %cluster_state.alias(), revision, "{}", sync::newer_notice(cluster_state, revision));
}
