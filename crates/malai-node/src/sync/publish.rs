//! A manager's file becomes the next revision, if it is sound and says anything new.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use malai_cluster::{Diagnostic, MAX_CONTENT, Severity, Snapshot, check, next_revision};

use crate::cluster::state::ClusterState;
use crate::home::Role;
use crate::os::fs::{self, StoreError};
use crate::sync;

/// What a rescan of a manager's file did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Published {
    /// The content is what is in force.
    Unchanged(u64),
    /// A new revision is in force here.
    Revision(u64),
    /// Members have a newer revision than this manager knows to have published; nothing is published
    /// until the administrator says so.
    Withheld(String),
}

/// Why nothing was published; what was in force stays in force.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RescanError {
    /// The file has errors; all of them.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Invalid(Vec<Diagnostic>),
    /// The file is gone.
    #[error(
        "{0} is gone; the last published revision stays in force. Restore the file, or remove the cluster's folder"
    )]
    Missing(String),
    /// A file cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file is for another key.
    #[error("{file}: [cluster_manager].id52 is {written}, but the key beside it is {key}")]
    Key {
        /// The file.
        file: String,
        /// The id52 in it.
        written: String,
        /// The id52 of the key.
        key: String,
    },
}

/// Checks `cluster.toml` and publishes it, if its rendered content differs from what is in force.
/// `typed` says that the administrator asked for it, in the knowledge of what status shows.
///
/// # Errors
///
/// The file is not sound, or the snapshot cannot be stored. Then nothing has changed.
pub(crate) fn publish(cluster_state: &ClusterState, typed: bool) -> Result<Published, RescanError> {
    debug_assert_eq!(cluster_state.role, Role::Manager);
    let path = cluster_state.dir.cluster_toml();
    let file = path.to_string_lossy().into_owned();
    let Some(text) = fs::read_text(&path, MAX_CONTENT as u64)? else {
        return Err(RescanError::Missing(file));
    };
    let checked = check(&file, &text);
    let Some(cluster) = checked.cluster else {
        let errors = checked
            .diagnostics
            .into_iter()
            .filter(|diagnostic| diagnostic.severity == Severity::Error)
            .collect();
        return Err(RescanError::Invalid(errors));
    };
    if cluster.id() != cluster_state.cluster {
        return Err(RescanError::Key {
            file,
            written: cluster.id().to_string(),
            key: cluster_state.cluster.to_string(),
        });
    }
    let state = cluster_state.config.state();
    let current = state.snapshot.as_deref();
    if state.newer.is_none()
        && let Some(current) = current
        && current.content() == cluster.render()
    {
        return Ok(Published::Unchanged(current.revision()));
    }
    if let Some(newer) = state.newer.filter(|_| !typed) {
        return Ok(Published::Withheld(sync::newer_notice(
            cluster_state,
            newer,
            &cluster_state.dir.newer(),
        )));
    }
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let revision = next_revision(current.map(Snapshot::revision).max(state.newer), now);
    let snapshot = Arc::new(Snapshot::seal(&cluster_state.seed, revision, &cluster));
    let published = cluster_state.dir.published();
    cluster_state.config.install(snapshot, |snapshot| {
        fs::write_atomic(&published, snapshot.to_file().as_bytes(), 0o600)
    })?;
    if state.newer.is_some() {
        cluster_state
            .config
            .note(|state| state.newer = state.newer.filter(|newer| *newer > revision));
        if let Err(error) = std::fs::remove_file(cluster_state.dir.newer()) {
            tracing::warn!(
                "{} is not needed any more and cannot be removed: {error}",
                cluster_state.dir.newer().display()
            );
        }
    }
    cluster_state.config.note(|state| state.draft = None);
    tracing::info!(cluster = %cluster_state.alias(), revision, "published");
    Ok(Published::Revision(revision))
}
