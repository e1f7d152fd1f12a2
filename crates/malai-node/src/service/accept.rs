//! Accepts connections: one handshake each, then waits until the peer is known.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use iroh::endpoint::{Connection, ConnectionError, Incoming};
use malai_wire::RefusalCode;
use malai_wire::peer::probe::PROBE_DUPLICATE;
use malai_wire::version::PROBE_ALPN;

use crate::net::endpoint::machine_id;
use crate::node::limits::Origin;
use crate::peer::connection::PeerConnection;
use crate::service::Service;

/// How much longer a connection may take that lost its slot, if there is room.
const OVERTIME: Duration = Duration::from_secs(1);

/// How long a prober may take to close its connection.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

impl Service {
    /// Accepts connections until the endpoint is closed.
    pub(super) async fn accept(self: Arc<Self>) {
        let limiter = &self.cluster_state.node.limiter;
        while let Some(incoming) = self.peers.endpoint().accept().await {
            let origin = Origin::from(incoming.remote_addr());
            // When slots are scarce, an address has to prove itself before it gets one.
            if limiter.is_crowded(&origin) && !incoming.remote_addr_validated() {
                let _ = incoming.retry();
                continue;
            }
            // Identities are free to create, so there are few slots; members need one for milliseconds.
            let slot = limiter.unauthenticated(origin.clone());
            let queued = if slot.is_err() { limiter.queue() } else { None };
            if slot.is_err() && queued.is_none() {
                incoming.ignore();
                continue;
            }
            let service = self.clone();
            self.spawn(async move {
                let limiter = &service.cluster_state.node.limiter;
                let slot = match slot {
                    Ok(slot) => Ok(slot),
                    Err(_) => limiter.wait_unauthenticated(&origin).await,
                };
                drop(queued);
                let Ok(slot) = slot else {
                    return incoming.ignore();
                };
                let accepted = OnceLock::new();
                let accept = service.accept_connection(incoming, &accepted);
                tokio::pin!(accept);
                let by = tokio::select! {
                    () = &mut accept => return,
                    by = slot.evicted() => by,
                };
                let refusal = limiter.evicted(by);
                // Its peer may consider the handshake finished and have sent a request with it. On a busy computer many
                // handshakes are slow, so this one gets more time, as long as there is room.
                if let Some(_overtime) = limiter.overtime()
                    && tokio::time::timeout(OVERTIME, &mut accept).await.is_ok()
                {
                    return;
                }
                // One in its handshake ends by being dropped, and its peer dials again.
                if let Some(connection) = accepted.get() {
                    connection.close(&refusal);
                }
            });
        }
    }

    /// Performs one handshake, and waits until the peer is known or gone. A failure affects nothing else.
    async fn accept_connection(
        &self,
        incoming: Incoming,
        accepted: &OnceLock<Arc<PeerConnection>>,
    ) {
        let timeout = self.cluster_state.node.limiter.limits().handshake();
        let from = incoming.remote_addr();
        let handshake = async {
            incoming
                .accept()
                .map_err(|error| error.to_string())?
                .await
                .map_err(|error| error.to_string())
        };
        let connection = match tokio::time::timeout(timeout, handshake).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => {
                return tracing::debug!(cluster = %self.cluster_state.alias(), "handshake failed: {error}");
            }
            Err(_) => {
                return tracing::debug!(cluster = %self.cluster_state.alias(), "handshake timed out");
            }
        };
        if connection.alpn() == PROBE_ALPN {
            return self.answer_probe(connection).await;
        }
        match machine_id(&connection.remote_id()) {
            Some(peer) => {
                if let Err(refusal) = self.cluster_state.node.limiter.connection(peer) {
                    return connection
                        .close(u32::from(refusal.code).into(), refusal.message.as_bytes());
                }
                let adopted = self.peers.adopt(connection.into(), peer);
                adopted.note_origin(from);
                accepted.get_or_init(|| adopted).wait_admitted().await;
            }
            None => connection.close(
                u32::from(RefusalCode::NotAMember as u16).into(),
                b"a weak key",
            ),
        }
    }

    /// The handshake has proved to a prober that this key is served here. This side sends its instance, and the prober's close code
    /// tells whether it was looking for its own key.
    async fn answer_probe(&self, connection: Connection) {
        let serve = async {
            if let Ok(mut stream) = connection.open_uni().await {
                let _ = stream.write_all(&self.cluster_state.node.instance).await;
                let _ = stream.finish();
            }
            connection.closed().await
        };
        match tokio::time::timeout(PROBE_TIMEOUT, serve).await {
            Ok(ConnectionError::ApplicationClosed(close))
                if close.error_code == PROBE_DUPLICATE.into() =>
            {
                self.probed_by_duplicate.notify_one();
            }
            _ => {}
        }
    }
}
