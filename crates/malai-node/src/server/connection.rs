//! Handles a connection: compares the peer's configuration, admits or rejects the peer, and then serves it.

use std::sync::Arc;
use std::time::Duration;

use malai_cluster::Header;
use malai_wire::peer::hello::Hello;
use malai_wire::version::Versions;
use malai_wire::{Refusal, RefusalCode};
use tokio::task::JoinSet;

use crate::cluster::authorize;
use crate::cluster::state::DuplicateIdentity;
use crate::net::endpoint::GIVE_UP;
use crate::net::framing::{MESSAGE_TIMEOUT, StreamError};
use crate::peer::connection::{PeerConnection, silence};
use crate::peer::pool::{ConnectionHandler, ConnectionTask};
use crate::server::Server;
use crate::{server, sync};

impl ConnectionHandler for Server {
    fn handle(self: Arc<Self>, connection: Arc<PeerConnection>) -> ConnectionTask {
        Box::pin(handle(connection))
    }
}

/// Runs as long as the connection: exchanges hellos, compares configurations, and then serves the requests of a member.
async fn handle(connection: Arc<PeerConnection>) {
    let mut tasks = JoinSet::new();
    let (_, (), ()) = tokio::join!(connection.send_hello(), connection.route_streams(), async {
        let refusal = admit_and_serve(&connection, &mut tasks).await;
        connection.close(&refusal);
    });
    connection.closed().await;
    tracing::debug!(peer = %connection.peer.short(), cluster = %connection.cluster_state.alias(), "connection ended: {}", connection.end());
    // Requests in progress notice the end of their streams; commands get their grace period.
    while tasks.join_next().await.is_some() {}
}

/// Decides whether the peer is a member, and serves it while it is. Returns why it ends.
async fn admit_and_serve(connection: &Arc<PeerConnection>, tasks: &mut JoinSet<()>) -> Refusal {
    let cluster_state = &connection.cluster_state;
    let limits = cluster_state.node.limiter.limits();
    // One that arrived has greeted already. A machine that was dialed may be slow: closing would lose the command.
    let hello = match connection.wait_greeted(GIVE_UP).await {
        Ok(greeted) => greeted.hello,
        Err(StreamError::Timeout(_)) => return Refusal::new(RefusalCode::Idle, silence()),
        Err(error) => {
            return Refusal::new(RefusalCode::Protocol, format!("no hello: {error}"));
        }
    };
    if let Err(refusal) = check_versions(hello.versions) {
        return refusal;
    }
    if connection.peer == cluster_state.local_id {
        note_duplicate(connection, &hello);
        return Refusal::new(RefusalCode::NotAMember, "this key is this machine's own");
    }
    if let Some(header) = &hello.header {
        cluster_state.record_introduction(&connection.peer, header);
        reconcile(connection, header).await;
    }
    if authorize::admit(cluster_state, &connection.peer).is_err() {
        cluster_state.record_rejected_peer(connection.peer, connection.address());
        // The peer may not have read this side's header yet, so it gets this short wait. A new configuration may make it a member
        // meanwhile.
        connection.reject();
        let pause = delivery_time(connection.round_trip());
        let _ = tokio::time::timeout(pause, connection.closed()).await;
        if let Err(refusal) = authorize::admit(cluster_state, &connection.peer) {
            return refusal;
        }
    }
    connection.admit(limits.requests_per_peer + limits.forwards_per_peer);
    cluster_state.record_peer_revision(
        connection.peer,
        Some(hello.instance),
        hello.header.as_ref(),
    );
    serve_requests(connection, tasks).await
}

pub(crate) fn check_versions(theirs: Versions) -> Result<(), Refusal> {
    let ours = Versions::OURS;
    if theirs.common(ours).is_some() {
        return Ok(());
    }
    Err(Refusal::new(
        RefusalCode::Version,
        format!(
            "this side supports protocol {} to {}, the other {} to {}",
            ours.lowest, ours.highest, theirs.lowest, theirs.highest
        ),
    ))
}

/// Records another process that serves with this machine's key.
fn note_duplicate(connection: &PeerConnection, hello: &Hello) {
    let cluster_state = &connection.cluster_state;
    if !hello.serves || hello.instance == cluster_state.node.instance {
        return;
    }
    let seen_at = connection.address().map_or_else(
        || "an unknown address".into(),
        |address| address.to_string(),
    );
    cluster_state.set_duplicate(Some(DuplicateIdentity {
        instance: hello.instance,
        seen_at,
    }));
}

/// Fetches the peer's configuration if it is newer.
async fn reconcile(connection: &Arc<PeerConnection>, header: &Header) {
    let compared = tokio::time::timeout(MESSAGE_TIMEOUT, sync::reconcile(connection, header)).await;
    if let Ok(Err(error)) = compared {
        let cluster_state = &connection.cluster_state;
        let (peer, cluster) = (connection.peer.short(), cluster_state.alias());
        // Failures of strangers are not worth a warning each.
        if cluster_state.is_member(&connection.peer) {
            tracing::warn!(%peer, %cluster, "the configuration of a peer was not installed: {error}");
        } else {
            tracing::debug!(%peer, %cluster, "the configuration of a stranger was not installed: {error}");
        }
    }
}

/// The time in which a peer receives the hello. Its acknowledgment is not visible here, so a few round trips have to suffice.
pub(super) fn delivery_time(round_trip: Option<Duration>) -> Duration {
    round_trip
        .unwrap_or_default()
        .max(Duration::from_millis(20))
        * 3
}

/// Serves the peer's requests until the connection ends.
async fn serve_requests(connection: &Arc<PeerConnection>, tasks: &mut JoinSet<()>) -> Refusal {
    loop {
        tokio::select! {
            request = connection.accept_request() => {
                let Some(request) = request else {
                    return Refusal::new(RefusalCode::Done, "");
                };
                // Meanwhile the peer's further requests wait in its own window.
                connection.cluster_state.node.limiter.request_turn(connection.peer).await;
                let occupied = connection.mark_in_use();
                connection.heard_now();
                // Boxed, because a session's state is large, and a task is copied when it is created and when it ends.
                let serving = Box::pin(server::serve(connection.clone(), request));
                tasks.spawn(async move {
                    serving.await;
                    drop(occupied);
                });
            }
            Some(ended) = tasks.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(peer = %connection.peer.short(), "serving a request failed: {error}");
                }
            }
        }
    }
}
