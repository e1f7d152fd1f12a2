//! Giving the configuration to members, and comparing with them.

use std::sync::{Arc, Mutex, Weak};

use bytes::Bytes;

use iroh::endpoint::{RecvStream, SendStream};
use malai_cluster::Snapshot;
use malai_wire::frame::Tagged;
use malai_wire::peer::sync::{Compare, Content, Fetch, Fetched};
use malai_wire::{Refusal, RefusalCode, frame};

use super::gate::{self, Granted};
use crate::frames::{self, PATIENCE};
use crate::link::Link;
use crate::member::lock;
use crate::sync;

/// Gives the configuration in force to a member of it.
pub async fn give(link: &Arc<Link>, mut send: SendStream, mut recv: RecvStream) {
    // The revision asked for is what the peer has seen announced; it gets what is in force now.
    let Ok(Fetch::Revision(_)) = frames::expect(&mut recv, frame::SMALL, PATIENCE).await else {
        return;
    };
    let written = match gate::fetch(&link.membership, &link.peer) {
        Ok(granted) => {
            let frame = link.membership.given.frame(granted.into_inner());
            frames::write_frame(&mut send, frame).await
        }
        Err(refusal) => frames::write(&mut send, &Fetched::Refused(refusal)).await,
    };
    if written.is_ok() {
        let _ = send.finish();
        // The stream ends here, not the connection: what is under way is still delivered.
        let _ = send.stopped().await;
    }
}

/// The frame that is being given, shared by all who ask for it at the same time.
#[derive(Debug, Default)]
pub struct Given(Mutex<Weak<Frame>>);

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

impl Given {
    fn frame(&self, snapshot: Arc<Snapshot>) -> Bytes {
        let mut given = lock(&self.0);
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
pub async fn compare(link: &Arc<Link>, mut send: SendStream, mut recv: RecvStream) {
    let Ok(Compare::Header(theirs)) = frames::expect(&mut recv, frame::SMALL, PATIENCE).await
    else {
        return;
    };
    let answer = match gate::compare(&link.membership, &link.peer) {
        Ok(granted) => answer(link, theirs, granted).await,
        Err(refusal) => Compare::Refused(refusal),
    };
    if frames::write(&mut send, &answer).await.is_ok() {
        let _ = send.finish();
        let _ = send.stopped().await;
    }
}

async fn answer(
    link: &Arc<Link>,
    theirs: Option<malai_cluster::Header>,
    _granted: Granted<()>,
) -> Compare {
    let membership = &link.membership;
    membership.heard_from(link.peer, link.instance(), theirs.as_ref());
    if let Some(header) = &theirs
        && let Err(error) = sync::consider(link, header).await
    {
        tracing::warn!(cluster = %membership.alias(), peer = %link.peer.short(), "configuration of a peer not taken up: {error}");
        return Compare::Refused(Refusal::new(RefusalCode::Snapshot, error.to_string()));
    }
    Compare::Header(membership.header())
}
