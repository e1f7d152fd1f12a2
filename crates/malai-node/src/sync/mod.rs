//! Configurations between two peers: compares headers and fetches content.

pub(crate) mod publish;
pub(crate) mod serve;

use std::sync::Arc;
use std::time::Duration;

use malai_cluster::{Header, MachineId, Snapshot, SnapshotError, Standing};
use malai_wire::peer::RequestKind;
use malai_wire::peer::sync::{Compare, Fetch, Fetched};
use malai_wire::{Refusal, frame};

use crate::cluster::state::ClusterState;
use crate::home::Role;
use crate::home::cluster_files::behind_in_short;
use crate::home::invitations;
use crate::net::framing::{self, MESSAGE_TIMEOUT, StreamError};
use crate::os::fs::{self, StoreError};
use crate::os::malloc;
use crate::peer::connection::PeerConnection;

/// The maximum time for fetching a whole configuration (up to 16 MiB).
const FETCH: Duration = Duration::from_secs(60);

/// After checking a configuration of more bytes than this, the memory that was used for it is returned to the system:
/// otherwise the next ones would each take some more.
const LARGE: usize = 1 << 20;

/// Why a configuration that a peer announced was not loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SyncError {
    /// Its signature, cluster, hash or content is wrong.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// Two contents with the same revision, both signed by the manager's key.
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
    /// The peer refused the content.
    #[error("the peer refused to give its configuration: {}", malai_cluster::escape(&.0.message))]
    Refused(Refusal),
    /// It could not be stored; the previous configuration stays in force.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Examines a header that a peer announced. If it is newer than the one in force, fetches the content. A machine then puts it
/// in force; a manager only keeps it for comparison, because only the manager itself publishes; a command without a
/// daemon leaves the home unchanged.
///
/// # Errors
///
/// The header is not the manager's, it is a fork, or the content could not be fetched or stored.
pub(crate) async fn reconcile(
    connection: &Arc<PeerConnection>,
    header: &Header,
) -> Result<(), SyncError> {
    let cluster_state = &connection.cluster_state;
    if !is_wanted(cluster_state, connection.peer, header)? {
        return Ok(());
    }
    // Each may be 16 MiB, so few are fetched in parallel. Strangers, who may only have overheard this header, do not use
    // the members' permits.
    let _turn = cluster_state
        .node
        .limiter
        .fetch(cluster_state.is_member(&connection.peer))
        .await;
    if !is_wanted(cluster_state, connection.peer, header)? {
        return Ok(());
    }
    let snapshot = match fetch(connection, header).await {
        Ok(snapshot) => Arc::new(snapshot),
        Err(error) => {
            if let SyncError::Snapshot(
                why @ (SnapshotError::TooNew { .. } | SnapshotError::Invalid(_)),
            ) = &error
            {
                let problem = format!(
                    "revision {} cannot be used here: {why}; the previous configuration stays in force",
                    header.revision
                );
                let refused = Some((header.clone(), why.clone()));
                cluster_state.config.note(|state| {
                    state.problem = Some(problem);
                    state.refused = refused;
                });
            }
            if let SyncError::Refused(refusal) = &error {
                cluster_state.record_content_refused(header, refusal);
            }
            return Err(error);
        }
    };
    let cluster_state = cluster_state.clone();
    aside(move || match cluster_state.role {
        Role::Machine => install(&cluster_state, snapshot),
        Role::Manager => note_newer(&cluster_state, snapshot),
    })
    .await
}

/// Whether the content of a header that a peer has shown is to be fetched: it is newer, the manager has signed it, and it
/// was not fetched before and found unusable. Records a fork.
///
/// # Errors
///
/// The header is not the manager's, it is a fork, or its content is known to be unusable.
pub(crate) fn is_wanted(
    cluster_state: &ClusterState,
    peer: MachineId,
    header: &Header,
) -> Result<bool, SyncError> {
    match header.standing(cluster_state.header().as_ref()) {
        Standing::Same | Standing::Older => return Ok(false),
        Standing::Newer => header.verify(&cluster_state.cluster)?,
        Standing::Fork => {
            header.verify(&cluster_state.cluster)?;
            let fork = SyncError::Fork {
                revision: header.revision,
            };
            cluster_state
                .config
                .note(|state| state.fork = Some(format!("{fork} (shown by {peer})")));
            return Err(fork);
        }
    }
    let refused = cluster_state.config.state().refused;
    let refused = refused.filter(|(refused, _)| header.standing(Some(refused)) == Standing::Same);
    match refused {
        Some((_, why)) => Err(why.into()),
        None => Ok(cluster_state.node.serves),
    }
}

/// Runs work that occupies the processor or the disk on another thread, so that this process's other clusters, sessions
/// and command lines do not wait.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        // It is never cancelled, so it has panicked; the panic continues here.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Stores a verified snapshot on a machine and puts it in force.
fn install(cluster_state: &ClusterState, snapshot: Arc<Snapshot>) -> Result<(), SyncError> {
    let revision = snapshot.revision();
    let path = cluster_state.dir.machine_toml();
    let save = |snapshot: &Snapshot| fs::write_atomic(&path, snapshot.to_file().as_bytes(), 0o600);
    match cluster_state.config.install(snapshot, save)? {
        Standing::Newer => {
            cluster_state.record_accepted();
            tracing::info!(cluster = %cluster_state.alias(), revision, "new configuration in force");
            Ok(())
        }
        Standing::Fork => Err(SyncError::Fork { revision }),
        Standing::Same | Standing::Older => Ok(()),
    }
}

/// Keeps the content of a revision above a manager's own for comparison, and reports it. The manager publishes nothing by
/// itself from then on.
fn note_newer(cluster_state: &ClusterState, snapshot: Arc<Snapshot>) -> Result<(), SyncError> {
    let revision = snapshot.revision();
    let state = cluster_state.config.state();
    // The administrator may have published a higher one while it was being fetched.
    if state.snapshot.is_some_and(|own| own.revision() >= revision) {
        return Ok(());
    }
    if keep_newer(cluster_state, snapshot)? {
        tracing::error!(cluster = %cluster_state.alias(), revision, "{}", newer_notice(cluster_state, revision));
    }
    Ok(())
}

/// Keeps a revision for comparison, at least in memory. Returns whether it is new.
fn keep_newer(cluster_state: &ClusterState, snapshot: Arc<Snapshot>) -> Result<bool, StoreError> {
    let mut is_news = false;
    cluster_state.config.note(|state| {
        let known = state.newer.as_ref().map(|newer| newer.revision());
        is_news = known < Some(snapshot.revision());
        if is_news {
            state.newer = Some(snapshot.clone());
        }
    });
    if is_news {
        // What this manager has forgotten includes uses of invitations.
        invitations::revoke_restored(&cluster_state.dir, invitations::now());
        let path = cluster_state.dir.newer();
        fs::write_atomic(&path, snapshot.to_file().as_bytes(), 0o600)?;
    }
    Ok(is_news)
}

/// The notice of a manager that has seen a revision above its own.
pub(crate) fn newer_notice(cluster_state: &ClusterState, revision: u64) -> String {
    format!(
        "{}; nothing is published until that is settled: `malai rescan {}` shows what publishing it would change",
        behind_in_short(revision),
        cluster_state.alias()
    )
}

/// Fetches and checks the content of a verified header, or of a newer one.
async fn fetch(connection: &Arc<PeerConnection>, header: &Header) -> Result<Snapshot, SyncError> {
    let _occupied = connection.mark_in_use();
    let (mut send, mut recv) = connection.open(RequestKind::Fetch).await?;
    framing::write(&mut send, &Fetch::Revision(header.revision)).await?;
    let _ = send.finish();
    match framing::expect(&mut recv, frame::CONTENT, FETCH).await? {
        Fetched::Content(content)
            if content.header.standing(Some(header)) == Standing::Same
                || content.header.revision > header.revision =>
        {
            let cluster_state = &connection.cluster_state;
            let cluster = cluster_state.cluster;
            // One at a time, so that one needs memory at a time.
            let _turn = cluster_state.node.limiter.check().await;
            let opened = aside(move || {
                let is_large = content.content.len() > LARGE;
                let opened = Snapshot::open(&cluster, content.header, content.content);
                if is_large {
                    malloc::trim();
                }
                opened
            });
            Ok(opened.await?)
        }
        Fetched::Content(_) => Err(SyncError::Fork {
            revision: header.revision,
        }),
        Fetched::Refused(refusal) => Err(SyncError::Refused(refusal)),
    }
}

/// Exchanges headers with a peer, after either side has fetched a newer configuration from the other. Returns the peer's
/// header.
///
/// # Errors
///
/// The peer did not answer or refused, or its configuration was not loaded.
pub(crate) async fn compare(connection: &Arc<PeerConnection>) -> Result<Option<Header>, SyncError> {
    let _occupied = connection.mark_in_use();
    let (mut send, mut recv) = connection.open(RequestKind::Compare).await?;
    framing::write(
        &mut send,
        &Compare::Header(connection.cluster_state.header()),
    )
    .await?;
    let _ = send.finish();
    // The peer may have to fetch from here first.
    let theirs = match framing::expect(&mut recv, frame::SMALL, FETCH + MESSAGE_TIMEOUT).await? {
        Compare::Header(header) => header,
        Compare::Refused(refusal) => return Err(SyncError::Refused(refusal)),
    };
    connection.heard_now();
    if connection.peer == connection.cluster_state.cluster.manager() {
        connection.cluster_state.record_accepted();
    }
    connection.cluster_state.record_peer_revision(
        connection.peer,
        connection.instance(),
        theirs.as_ref(),
    );
    if let Some(header) = &theirs {
        reconcile(connection, header).await?;
    }
    Ok(theirs)
}
