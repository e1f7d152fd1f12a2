//! Serves members: one request per stream, each authorized.

pub(crate) mod connect;
pub(crate) mod connection;
pub(crate) mod exec;
mod input_limit;
pub(crate) mod stranger;

use std::sync::Arc;

use iroh::endpoint::SendStream;
use malai_wire::Refusal;
use malai_wire::frame::Tagged;
use malai_wire::peer::RequestKind;
use malai_wire::peer::exec::FromServer;

use crate::net::framing;
use crate::peer::connection::{IncomingRequest, PeerConnection};
use crate::sync::serve;

/// Handles connections: serves the requests of members.
#[derive(Debug)]
pub(crate) struct Server;

/// Sends the last message on a stream, and waits until the peer has it.
async fn last_message(connection: &PeerConnection, send: &mut SendStream, message: &impl Tagged) {
    if framing::write(send, message).await.is_ok() {
        connection.finish(send);
        let _ = send.stopped().await;
    }
}

/// Serves one request of a member.
pub(crate) async fn serve(connection: Arc<PeerConnection>, mut request: IncomingRequest) {
    let mut kind = [0; 1];
    let timeout = connection.cluster_state.node.limiter.limits().opening();
    let read = request.recv.read_exact(&mut kind);
    let Ok(Ok(())) = tokio::time::timeout(timeout, read).await else {
        return;
    };
    let kind = RequestKind::from_byte(kind[0]);
    if kind != Some(RequestKind::Ping) {
        connection.activity().used_by_peer();
    }
    // Connections to services have a limit of their own.
    if kind == Some(RequestKind::Connect) {
        return connect::serve(&connection, request).await;
    }
    let limiter = &connection.cluster_state.node.limiter;
    let _slot = match limiter.request(connection.peer) {
        Ok(slot) => slot,
        Err(refusal) => return refuse_busy(&connection, request, refusal).await,
    };
    if kind == Some(RequestKind::Exec) {
        return exec::serve(&connection, request).await;
    }
    let IncomingRequest {
        mut send,
        mut recv,
        streams,
    } = request;
    // The other kinds have no raw streams; unexpected ones are rejected.
    drop(streams);
    match kind {
        Some(RequestKind::Fetch) => serve::give(&connection, send, recv).await,
        Some(RequestKind::Compare) => serve::compare(&connection, send, recv).await,
        Some(RequestKind::Ping) => {
            let _ = send.write_all(&[0]).await;
            connection.finish(&mut send);
        }
        Some(RequestKind::Exec | RequestKind::Connect) | None => {
            let _ = recv.stop(0u32.into());
            let _ = send.reset(0u32.into());
        }
    }
}

/// Answers a request over the limit, of any kind: a refusal is encoded in the same way in all of them.
async fn refuse_busy(connection: &PeerConnection, request: IncomingRequest, refusal: Refusal) {
    let IncomingRequest {
        mut send, mut recv, ..
    } = request;
    let _ = recv.stop(0u32.into());
    let refused = FromServer::Refused(refusal);
    let answer = last_message(connection, &mut send, &refused);
    let _ = tokio::time::timeout(framing::MESSAGE_TIMEOUT, answer).await;
}
