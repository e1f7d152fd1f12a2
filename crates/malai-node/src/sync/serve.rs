//! Serves the configuration to members, and compares with them.

use std::sync::Arc;

use iroh::endpoint::{RecvStream, SendStream};
use malai_wire::peer::sync::{Compare, Fetch, Fetched};
use malai_wire::{Refusal, RefusalCode, frame};

use crate::cluster::authorize::{self, Granted};
use crate::net::framing::{self, MESSAGE_TIMEOUT};
use crate::peer::connection::PeerConnection;
use crate::sync;

/// Sends the configuration in force to one of its members.
pub(crate) async fn give(
    connection: &Arc<PeerConnection>,
    mut send: SendStream,
    mut recv: RecvStream,
) {
    // The requested revision is the one announced to the peer; it gets the one in force now.
    let Ok(Fetch::Revision(_)) = framing::expect(&mut recv, frame::SMALL, MESSAGE_TIMEOUT).await
    else {
        return;
    };
    // Nothing else is expected, and nothing more is stored.
    let _ = recv.stop(0u32.into());
    let written = match authorize::fetch(&connection.cluster_state, &connection.peer) {
        Ok(granted) => {
            let frame = connection.cluster_state.encoded(granted.into_inner());
            framing::write_frame(&mut send, frame).await
        }
        Err(refusal) => framing::write(&mut send, &Fetched::Refused(refusal)).await,
    };
    if written.is_ok() {
        connection.finish(&mut send);
        // Only the stream ends here, not the connection: what is in flight is still delivered.
        let _ = send.stopped().await;
    }
}

/// Fetches what a member announces, if it is newer, and answers with the header then in force.
pub(crate) async fn compare(
    connection: &Arc<PeerConnection>,
    mut send: SendStream,
    mut recv: RecvStream,
) {
    let Ok(Compare::Header(theirs)) =
        framing::expect(&mut recv, frame::SMALL, MESSAGE_TIMEOUT).await
    else {
        return;
    };
    let _ = recv.stop(0u32.into());
    let answer = match authorize::compare(&connection.cluster_state, &connection.peer) {
        Ok(granted) => answer(connection, theirs, granted).await,
        Err(refusal) => Compare::Refused(refusal),
    };
    if framing::write(&mut send, &answer).await.is_ok() {
        connection.finish(&mut send);
        let _ = send.stopped().await;
    }
}

async fn answer(
    connection: &Arc<PeerConnection>,
    theirs: Option<malai_cluster::Header>,
    _granted: Granted<()>,
) -> Compare {
    let cluster_state = &connection.cluster_state;
    cluster_state.record_peer_revision(connection.peer, connection.instance(), theirs.as_ref());
    if let Some(header) = &theirs
        && let Err(error) = sync::reconcile(connection, header).await
    {
        tracing::warn!(cluster = %cluster_state.alias(), peer = %connection.peer.short(), "configuration of a peer not loaded: {error}");
        return Compare::Refused(Refusal::new(RefusalCode::Snapshot, error.to_string()));
    }
    Compare::Header(cluster_state.header())
}
