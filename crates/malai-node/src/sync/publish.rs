//! A manager's file becomes the next revision, if it says anything new and is not older than what
//! members have.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use malai_cluster::{Cluster, Snapshot, next_revision};

use crate::cluster::state::ClusterState;
use crate::home::Role;
use crate::home::cluster_files::{LoadedCluster, behind, says};
use crate::os::fs::{self, StoreError};
use crate::sync::{self, keep_newer};

/// Whether a file may be published that may be older than what members have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PublishMode {
    /// No.
    Current,
    /// Yes: the administrator has asked for just that.
    EvenIfOlder,
}

/// What publishing a manager's file did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Published {
    /// The content is what is in force.
    Unchanged(u64),
    /// A new revision is in force here.
    Revision(u64),
    /// The file says what a newer revision that members have says: that one is in force here now.
    Adopted(u64),
}

/// Why nothing was published; what was in force stays in force.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublishError {
    /// Members have a newer revision than this manager knows to have published.
    #[error("nothing was published: {0}")]
    Behind(String),
    /// A file cannot be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Publishes what `cluster.toml` says, if that differs from what is in force.
///
/// # Errors
///
/// Members have a newer revision and `mode` does not allow to publish above it, or the snapshot cannot
/// be stored. Then nothing has changed.
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
    cluster_state
        .config
        .install(snapshot, |snapshot| store(cluster_state, snapshot))?;
    settle(cluster_state, revision);
    tracing::info!(cluster = %cluster_state.alias(), revision, "published");
    Ok(Published::Revision(revision))
}

/// Puts a revision in force that this manager had published and does not know of any more.
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

/// With this revision in force, older ones that members have shown are of no interest any more.
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
            "{} is not needed any more and cannot be removed: {error}",
            path.display()
        );
    }
}

/// Looks whether the folder was restored from an old backup under the running daemon: what it says to
/// have published last is older than what is in force. From then on that counts as a newer revision.
pub(crate) fn notice_restored(cluster_state: &ClusterState, files: &LoadedCluster) {
    let Some(current) = cluster_state.config.snapshot() else {
        return;
    };
    let stored = files.snapshot.as_ref().map(Snapshot::revision);
    // What is damaged is written again with the next revision.
    if files.snapshot_is_damaged || stored >= Some(current.revision()) {
        return;
    }
    let revision = current.revision();
    if let Err(error) = keep_newer(cluster_state, current) {
        tracing::error!(cluster = %cluster_state.alias(), "revision {revision} cannot be kept for comparison: {error}");
    }
    tracing::error!(cluster = %cluster_state.alias(), revision, "{}", sync::newer_notice(cluster_state, revision));
}
