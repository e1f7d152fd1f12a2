//! Giving the configuration to members, and comparing with them.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;

use iroh::endpoint::{RecvStream, SendStream};
use malai_cluster::Snapshot;
use malai_wire::frame::Tagged;
use malai_wire::peer::sync::{Compare, Content, Fetch, Fetched};
use malai_wire::{Refusal, RefusalCode, frame};

use crate::cluster::authorize::{self, Granted};
use crate::net::framing::{self, PATIENCE};
use crate::peer::connection::PeerConnection;
use crate::sync;

/// Gives the configuration in force to a member of it.
pub(crate) async fn give(
    connection: &Arc<PeerConnection>,
    mut send: SendStream,
    mut recv: RecvStream,
) {
    // The revision asked for is what the peer has seen announced; it gets what is in force now.
    let Ok(Fetch::Revision(_)) = framing::expect(&mut recv, frame::SMALL, PATIENCE).await else {
        return;
    };
    let written = match authorize::fetch(&connection.cluster_state, &connection.peer) {
        Ok(granted) => {
            let frame = connection.cluster_state.encoded.frame(granted.into_inner());
            framing::write_frame(&mut send, frame).await
        }
        Err(refusal) => framing::write(&mut send, &Fetched::Refused(refusal)).await,
    };
    if written.is_ok() {
        let _ = send.finish();
        // The stream ends here, not the connection: what is under way is still delivered.
        let _ = send.stopped().await;
    }
}

/// The frame that is being given, shared by all who ask for it at the same time.
#[derive(Debug, Default)]
pub struct EncodedSnapshot(Mutex<Weak<Frame>>);

#[derive(Debug)]
struct Frame {
    snapshot: Arc<Snapshot>,
    bytes: Vec<u8>,
}

struct Shared(Arc<Frame>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0.bytes
    }
}

impl EncodedSnapshot {
    fn frame(&self, snapshot: Arc<Snapshot>) -> Bytes {
        let mut given = self.0.lock();
        let same = given
            .upgrade()
            .filter(|frame| Arc::ptr_eq(&frame.snapshot, &snapshot));
        let frame = same.unwrap_or_else(|| {
            let content = Fetched::Content(Content {
                header: snapshot.header().clone(),
                content: snapshot.content().to_owned(),
            });
            let bytes = content.to_frame();
            let frame = Arc::new(Frame { snapshot, bytes });
            *given = Arc::downgrade(&frame);
            frame
        });
        Bytes::from_owner(Shared(frame))
    }
}

/// Takes up what a member announces, if it is newer, and answers with what is in force then.
pub(crate) async fn compare(
    connection: &Arc<PeerConnection>,
    mut send: SendStream,
    mut recv: RecvStream,
) {
    let Ok(Compare::Header(theirs)) = framing::expect(&mut recv, frame::SMALL, PATIENCE).await
    else {
        return;
    };
    let answer = match authorize::compare(&connection.cluster_state, &connection.peer) {
        Ok(granted) => answer(connection, theirs, granted).await,
        Err(refusal) => Compare::Refused(refusal),
    };
    if framing::write(&mut send, &answer).await.is_ok() {
        let _ = send.finish();
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
        tracing::warn!(cluster = %cluster_state.alias(), peer = %connection.peer.short(), "configuration of a peer not taken up: {error}");
        return Compare::Refused(Refusal::new(RefusalCode::Snapshot, error.to_string()));
    }
    Compare::Header(cluster_state.header())
}
