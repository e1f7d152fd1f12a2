//! Serves a connection to a service of this machine.

use std::sync::{Arc, Weak};

use malai_wire::peer::connect::{FromClient, FromServer};
use malai_wire::{Refusal, RefusalCode, frame};
use tokio_util::sync::CancellationToken;

use crate::cluster::authorize;
use crate::forward::bridge::{End, PeerStream};
use crate::forward::upstream;
use crate::net::framing::{self, StreamError};
use crate::node::sessions::PathInfo;
use crate::peer::connection::{IncomingRequest, PeerConnection};
use crate::peer::windows::Input;
use crate::server::last_message;

/// Serves one stream: reads where it leads, connects, answers, and passes bytes on.
pub(crate) async fn serve(connection: &Arc<PeerConnection>, request: IncomingRequest) {
    let IncomingRequest {
        mut send,
        mut recv,
        streams,
    } = request;
    drop(streams);
    let cluster_state = &connection.cluster_state;
    let limiter = &cluster_state.node.limiter;
    let timeout = limiter.limits().opening();
    let read = framing::expect(&mut recv, frame::SMALL, timeout).await;
    let FromClient::Open(destination) = match read {
        Ok(open) => open,
        Err(error) => {
            let refusal = match error {
                StreamError::Timeout(_) => {
                    limiter.refused("opening_seconds", limiter.limits().opening_seconds)
                }
                error => Refusal::new(RefusalCode::Protocol, error.to_string()),
            };
            return last_message(connection, &mut send, &FromServer::Refused(refusal)).await;
        }
    };
    // Counted before the decision, so that an allowed connection can also be opened.
    let counted = limiter.forward(connection.peer).and_then(|slot| {
        let share = connection.share_for_peer(Input::Connection)?;
        Ok((slot, share))
    });
    let (_slot, share) = match counted {
        Ok(counted) => counted,
        Err(refusal) => {
            return last_message(connection, &mut send, &FromServer::Refused(refusal)).await;
        }
    };
    let origin = connection.address().into();
    let granted = authorize::connect(cluster_state, connection.peer, origin, &destination);
    let granted = match granted {
        Ok(granted) => granted,
        Err(refusal) => {
            return last_message(connection, &mut send, &FromServer::Refused(refusal)).await;
        }
    };
    let in_use = connection.in_use_by_peer(share);
    let serving = connection.serving();
    let path: Weak<dyn PathInfo> = Arc::<PeerConnection>::downgrade(connection);
    let opened = match upstream::open(cluster_state, granted, Some(path)).await {
        Ok(opened) => opened,
        Err(refusal) => {
            return last_message(connection, &mut send, &FromServer::Refused(refusal)).await;
        }
    };
    let accepted = framing::write(&mut send, &FromServer::Accepted).await;
    let stream = PeerStream::new(send, connection.raw(recv), connection.clone());
    if accepted.is_ok() {
        // The end of the stream tells when the client has gone.
        let client = End::Peer(stream);
        opened.pass(client, &CancellationToken::new()).await;
    }
    drop((in_use, serving));
}
