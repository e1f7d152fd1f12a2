//! Giving the configuration to members, and comparing with them.

use std::sync::Arc;

use iroh::endpoint::{RecvStream, SendStream};
use malai_wire::peer::sync::{Compare, Content, Fetch, Fetched};
use malai_wire::{Refusal, RefusalCode, frame};

use super::gate::{self, Granted};
use crate::frames::{self, PATIENCE};
use crate::link::Link;
use crate::sync;

/// Gives the configuration in force to a member of it.
pub async fn give(link: &Arc<Link>, mut send: SendStream, mut recv: RecvStream) {
    // The revision asked for is what the peer has seen announced; it gets what is in force now.
    let Ok(Fetch::Revision(_)) = frames::expect(&mut recv, frame::SMALL, PATIENCE).await else {
        return;
    };
    let answer = match gate::fetch(&link.membership, &link.peer) {
        Ok(granted) => content(granted),
        Err(refusal) => Fetched::Refused(refusal),
    };
    if frames::write(&mut send, &answer).await.is_ok() {
        let _ = send.finish();
        // The stream ends here, not the connection: what is under way is still delivered.
        let _ = send.stopped().await;
    }
}

fn content(granted: Granted<Arc<malai_cluster::Snapshot>>) -> Fetched {
    let snapshot = granted.into_inner();
    Fetched::Content(Content {
        header: snapshot.header().clone(),
        content: snapshot.content().to_owned(),
    })
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
