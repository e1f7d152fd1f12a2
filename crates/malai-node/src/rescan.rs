//! A manager's file becomes the next revision, if it is sound and says anything new.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use malai_cluster::{Diagnostic, MAX_CONTENT, Severity, Snapshot, check, next_revision};

use crate::home::Role;
use crate::member::Membership;
use crate::store::{self, StoreError};
use crate::sync;

/// What a rescan of a manager's file did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Published {
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
pub enum RescanError {
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
pub fn publish(membership: &Membership, typed: bool) -> Result<Published, RescanError> {
    debug_assert_eq!(membership.role, Role::Manager);
    let path = membership.dir.cluster_toml();
    let file = path.to_string_lossy().into_owned();
    let Some(text) = store::read_text(&path, MAX_CONTENT as u64)? else {
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
    if cluster.id() != membership.cluster {
        return Err(RescanError::Key {
            file,
            written: cluster.id().to_string(),
            key: membership.cluster.to_string(),
        });
    }
    let state = membership.configuration.state();
    let current = state.snapshot.as_deref();
    if state.newer.is_none()
        && let Some(current) = current
        && current.content() == cluster.render()
    {
        return Ok(Published::Unchanged(current.revision()));
    }
    if let Some(newer) = state.newer.filter(|_| !typed) {
        return Ok(Published::Withheld(sync::newer_notice(
            membership,
            newer,
            &membership.dir.newer(),
        )));
    }
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let revision = next_revision(current.map(Snapshot::revision).max(state.newer), now);
    let snapshot = Arc::new(Snapshot::seal(&membership.seed, revision, &cluster));
    let published = membership.dir.published();
    membership.configuration.take_up(snapshot, |snapshot| {
        store::write_atomic(&published, snapshot.to_file().as_bytes(), 0o600)
    })?;
    if state.newer.is_some() {
        membership
            .configuration
            .note(|state| state.newer = state.newer.filter(|newer| *newer > revision));
        if let Err(error) = std::fs::remove_file(membership.dir.newer()) {
            tracing::warn!(
                "{} is not needed any more and cannot be removed: {error}",
                membership.dir.newer().display()
            );
        }
    }
    membership.configuration.note(|state| state.draft = None);
    tracing::info!(cluster = %membership.alias(), revision, "published");
    Ok(Published::Revision(revision))
}
