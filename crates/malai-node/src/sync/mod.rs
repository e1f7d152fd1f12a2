//! Configurations between two peers: what a header means here, and fetching what goes with it.

pub(crate) mod publish;
pub(crate) mod serve;

use std::sync::Arc;
use std::time::Duration;

use malai_cluster::{Header, Snapshot, SnapshotError, Standing};
use malai_wire::peer::RequestKind;
use malai_wire::peer::sync::{Compare, Fetch, Fetched};
use malai_wire::{Refusal, frame};

use crate::cluster::state::ClusterState;
use crate::home::Role;
use crate::home::cluster_files::behind_in_short;
use crate::net::framing::{self, MESSAGE_TIMEOUT, StreamError};
use crate::os::fs::{self, StoreError};
use crate::peer::connection::PeerConnection;

/// How long fetching a whole configuration (16 MiB at most) may take.
const FETCH: Duration = Duration::from_secs(60);

/// Why what a peer announced was not loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SyncError {
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
pub(crate) async fn reconcile(
    connection: &Arc<PeerConnection>,
    header: &Header,
) -> Result<(), SyncError> {
    let cluster_state = &connection.cluster_state;
    let current = cluster_state.header();
    match header.standing(current.as_ref()) {
        Standing::Same | Standing::Older => return Ok(()),
        Standing::Newer => header.verify(&cluster_state.cluster)?,
        Standing::Fork => {
            header.verify(&cluster_state.cluster)?;
            let fork = SyncError::Fork {
                revision: header.revision,
            };
            cluster_state
                .config
                .note(|state| state.fork = Some(format!("{fork} (shown by {})", connection.peer)));
            return Err(fork);
        }
    }
    if !cluster_state.node.serves {
        return Ok(());
    }
    // Each can be 16 MiB: few at a time, and strangers, who may only have heard of this header, take no
    // member's turn.
    let _turn = cluster_state
        .node
        .limiter
        .fetch(cluster_state.is_member(&connection.peer))
        .await;
    if header.standing(cluster_state.header().as_ref()) != Standing::Newer {
        return Ok(());
    }
    if let Some((_, why)) = cluster_state
        .config
        .state()
        .refused
        .filter(|(refused, _)| header.standing(Some(refused)) == Standing::Same)
    {
        return Err(why.into());
    }
    let snapshot = match fetch(connection, header).await {
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

/// Runs what takes the processor or the disk a while beside everything else that this process does: its
/// other clusters, sessions and command lines do not wait.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        // It is not cancelled, so it has panicked, and goes on doing so here.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Puts a verified snapshot in force on a machine, stored first.
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

/// A manager that is shown a revision above its own keeps that content for comparison, says so, and
/// publishes nothing by itself from then on.
fn note_newer(cluster_state: &ClusterState, snapshot: Arc<Snapshot>) -> Result<(), SyncError> {
    let revision = snapshot.revision();
    let state = cluster_state.config.state();
    // The administrator may have published past it while it was being fetched.
    if state.snapshot.is_some_and(|own| own.revision() >= revision) {
        return Ok(());
    }
    if keep_newer(cluster_state, snapshot)? {
        tracing::error!(cluster = %cluster_state.alias(), revision, "{}", newer_notice(cluster_state, revision));
    }
    Ok(())
}

/// Keeps a revision for comparison, in memory in any case. Returns whether it is news.
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
        let path = cluster_state.dir.newer();
        fs::write_atomic(&path, snapshot.to_file().as_bytes(), 0o600)?;
    }
    Ok(is_news)
}

/// What a manager says that has seen a revision above its own.
pub(crate) fn newer_notice(cluster_state: &ClusterState, revision: u64) -> String {
    format!(
        "{}; nothing is published until that is settled: `malai rescan {}` shows what publishing it would change",
        behind_in_short(revision),
        cluster_state.alias()
    )
}

/// Fetches and checks the content that goes with a verified header, or a newer one.
async fn fetch(connection: &Arc<PeerConnection>, header: &Header) -> Result<Snapshot, SyncError> {
    let _occupied = connection.occupied();
    let (mut send, mut recv) = connection.open(RequestKind::Fetch).await?;
    framing::write(&mut send, &Fetch::Revision(header.revision)).await?;
    let _ = send.finish();
    match framing::expect(&mut recv, frame::CONTENT, FETCH).await? {
        Fetched::Content(content)
            if content.header.standing(Some(header)) == Standing::Same
                || content.header.revision > header.revision =>
        {
            let cluster = connection.cluster_state.cluster;
            Ok(aside(move || Snapshot::open(&cluster, content.header, content.content)).await?)
        }
        Fetched::Content(_) => Err(SyncError::Fork {
            revision: header.revision,
        }),
        Fetched::Refused(refusal) => Err(SyncError::Refused(refusal)),
    }
}

/// Tells a peer what is in force here and learns what it has, after either side has loaded what
/// the other had newer. Returns the peer's header.
///
/// # Errors
///
/// The peer did not answer or refused, or what it has was not loaded.
pub(crate) async fn compare(connection: &Arc<PeerConnection>) -> Result<Option<Header>, SyncError> {
    let _occupied = connection.occupied();
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
