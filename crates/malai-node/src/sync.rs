//! Configurations between two peers: what a header means here, and fetching what goes with it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use malai_cluster::{Header, Snapshot, SnapshotError, Standing};
use malai_wire::peer::RequestKind;
use malai_wire::peer::sync::{Compare, Fetch, Fetched};
use malai_wire::{Refusal, frame};

use crate::frames::{self, PATIENCE, StreamError};
use crate::home::Role;
use crate::link::Link;
use crate::member::Membership;
use crate::store::{self, StoreError};

/// How long fetching a whole configuration (16 MiB at most) may take.
const FETCH: Duration = Duration::from_secs(60);

/// Why what a peer announced was not taken up.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// Its signature, cluster, hash or content is wrong.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// Two contents under one revision, both signed by the manager's key.
    #[error(
        "fork: revision {revision} exists with two contents, both signed by the manager's key; this machine keeps the one it has"
    )]
    Fork {
        /// The revision.
        revision: u64,
    },
    /// The peer or the connection failed.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The peer did not give the content.
    #[error("the peer refused to give its configuration: {}", malai_cluster::escape(&.0.message))]
    Refused(Refusal),
    /// It could not be stored; what was in force stays in force.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Looks at a header that a peer announced; if it is newer than what is in force here, fetches the
/// content and puts it in force. A machine takes it up; a manager only takes note, since it alone
/// publishes; a command that runs without a daemon leaves the home as it is.
///
/// # Errors
///
/// The header is not the manager's, it is a fork, or the content could not be had or stored.
pub async fn consider(link: &Arc<Link>, header: &Header) -> Result<(), SyncError> {
    let membership = &link.membership;
    let current = membership.header();
    match header.standing(current.as_ref()) {
        Standing::Same | Standing::Older => return Ok(()),
        Standing::Newer => header.verify(&membership.cluster)?,
        Standing::Fork => {
            header.verify(&membership.cluster)?;
            let fork = SyncError::Fork {
                revision: header.revision,
            };
            membership
                .configuration
                .note(|state| state.fork = Some(format!("{fork} (shown by {})", link.peer)));
            return Err(fork);
        }
    }
    if !membership.serves {
        return Ok(());
    }
    // Each can be 16 MiB: few at a time, and strangers, who may only have heard of this header, take no
    // member's turn.
    let _turn = membership.limiter.fetch(membership.knows(&link.peer)).await;
    if header.standing(membership.header().as_ref()) != Standing::Newer {
        return Ok(());
    }
    let snapshot = match fetch(link, header).await {
        Ok(snapshot) => Arc::new(snapshot),
        Err(error) => {
            if let SyncError::Snapshot(
                why @ (SnapshotError::TooNew { .. } | SnapshotError::Invalid(_)),
            ) = &error
            {
                let problem = format!(
                    "revision {} cannot be used here: {why}; what was in force stays in force",
                    header.revision
                );
                membership
                    .configuration
                    .note(|state| state.problem = Some(problem));
            }
            return Err(error);
        }
    };
    match membership.role {
        Role::Machine => take_up(membership, snapshot),
        Role::Manager => note_newer(membership, &snapshot),
    }
}

/// Puts a verified snapshot in force on a machine, stored first.
fn take_up(membership: &Membership, snapshot: Arc<Snapshot>) -> Result<(), SyncError> {
    let revision = snapshot.revision();
    let path = membership.dir.machine_toml();
    let save =
        |snapshot: &Snapshot| store::write_atomic(&path, snapshot.to_file().as_bytes(), 0o600);
    match membership.configuration.take_up(snapshot, save)? {
        Standing::Newer => {
            tracing::info!(cluster = %membership.alias(), revision, "new configuration in force");
            Ok(())
        }
        Standing::Fork => Err(SyncError::Fork { revision }),
        Standing::Same | Standing::Older => Ok(()),
    }
}

/// A manager that is shown a revision above its own keeps that content for comparison, says so, and
/// publishes nothing by itself from then on.
fn note_newer(membership: &Membership, snapshot: &Snapshot) -> Result<(), SyncError> {
    let revision = snapshot.revision();
    let path = membership.dir.newer();
    let mut news = false;
    membership.configuration.note(|state| {
        // The administrator may have published past it while it was being fetched.
        let own = state.snapshot.as_ref().map(|own| own.revision());
        news = own.max(state.newer).is_none_or(|known| known < revision);
        if news {
            state.newer = Some(revision);
        }
    });
    if news {
        store::write_atomic(&path, snapshot.to_file().as_bytes(), 0o600)?;
        tracing::error!(cluster = %membership.alias(), revision, "{}", newer_notice(membership, revision, &path));
    }
    Ok(())
}

/// What a manager says that has seen a revision above its own.
pub fn newer_notice(membership: &Membership, revision: u64, kept: &Path) -> String {
    format!(
        "members have revision {revision}, newer than anything this manager knows to have published: its cluster.toml may be older than what is out there. \
         That content is kept in {} for comparison; nothing is published until `malai rescan {}` is typed",
        kept.display(),
        membership.alias()
    )
}

/// Fetches and checks the content that goes with a verified header, or a newer one.
async fn fetch(link: &Arc<Link>, header: &Header) -> Result<Snapshot, SyncError> {
    let _occupied = link.occupied();
    let (mut send, mut recv) = link.open(RequestKind::Fetch).await?;
    frames::write(&mut send, &Fetch::Revision(header.revision)).await?;
    let _ = send.finish();
    match frames::expect(&mut recv, frame::CONTENT, FETCH).await? {
        Fetched::Content(content)
            if content.header.standing(Some(header)) == Standing::Same
                || content.header.revision > header.revision =>
        {
            Ok(Snapshot::open(
                &link.membership.cluster,
                content.header,
                content.content,
            )?)
        }
        Fetched::Content(_) => Err(SyncError::Fork {
            revision: header.revision,
        }),
        Fetched::Refused(refusal) => Err(SyncError::Refused(refusal)),
    }
}

/// Tells a peer what is in force here and learns what it has, after either side has taken up what
/// the other had newer. Returns the peer's header.
///
/// # Errors
///
/// The peer did not answer or refused, or what it has was not taken up.
pub async fn compare(link: &Arc<Link>) -> Result<Option<Header>, SyncError> {
    let _occupied = link.occupied();
    let (mut send, mut recv) = link.open(RequestKind::Compare).await?;
    frames::write(&mut send, &Compare::Header(link.membership.header())).await?;
    let _ = send.finish();
    // The peer may have to fetch from here first.
    let theirs = match frames::expect(&mut recv, frame::SMALL, FETCH + PATIENCE).await? {
        Compare::Header(header) => header,
        Compare::Refused(refusal) => return Err(SyncError::Refused(refusal)),
    };
    link.heard_now();
    link.membership
        .heard_from(link.peer, link.instance(), theirs.as_ref());
    if let Some(header) = &theirs {
        consider(link, header).await?;
    }
    Ok(theirs)
}
