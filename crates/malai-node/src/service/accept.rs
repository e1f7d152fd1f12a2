//! Accepts connections: one handshake each, then waits until the peer is known.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use iroh::endpoint::{ConnectionError, Incoming};
use malai_cluster::MachineId;
use malai_wire::Refusal;
use malai_wire::peer::probe::PROBE_DUPLICATE;
use malai_wire::version::PROBE_ALPN;

use crate::node::limits::Origin;
use crate::peer::arrival::{Arrival, Greeted, Unused};
use crate::peer::connection::PeerConnection;
use crate::server::connection::check_versions;
use crate::server::stranger;
use crate::service::Service;

/// How much longer a connection may take that lost its slot, if there is room.
const OVERTIME: Duration = Duration::from_secs(1);

/// How long a prober may take to close its connection.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// How far a connection has come that is being accepted.
#[derive(Debug, Default)]
struct Accepted {
    arrival: OnceLock<Arrival>,
    connection: OnceLock<Arc<PeerConnection>>,
}

impl Accepted {
    fn close(&self, refusal: &Refusal) {
        if let Some(connection) = self.connection.get() {
            connection.close(refusal);
        } else if let Some(arrival) = self.arrival.get() {
            arrival.close(refusal);
        }
    }
}

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
                let accepted = Accepted::default();
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
                accepted.close(&refusal);
            });
        }
    }

    /// Performs one handshake, and waits until the peer is known or gone. A failure affects nothing else.
    async fn accept_connection(self: &Arc<Self>, incoming: Incoming, accepted: &Accepted) {
        let cluster_state = &self.cluster_state;
        let limiter = &cluster_state.node.limiter;
        let failed = |error| {
            tracing::debug!(cluster = %cluster_state.alias(), "handshake failed: {error}");
        };
        let arrival = match Arrival::begin(incoming, &limiter.limits()).await {
            Ok(arrival) => accepted.arrival.get_or_init(|| arrival),
            Err(error) => return failed(error),
        };
        if arrival.alpn() == PROBE_ALPN {
            return self.answer_probe(arrival).await;
        }
        let greeted = match self.greeted(arrival).await {
            Ok(greeted) => greeted,
            Err(Unused::Refused(refusal)) => return arrival.close(&refusal),
            Err(Unused::Failed(error)) => return failed(error),
        };
        let connection = match arrival.register().await {
            Ok(connection) => connection,
            Err(error) => return failed(error),
        };
        let from = arrival.address();
        let adopted = self.peers.adopt_arrived(connection, greeted, from);
        let adopted = accepted.connection.get_or_init(|| adopted);
        adopted.wait_admitted().await;
    }

    /// Waits until a peer has greeted, and refuses strangers.
    async fn greeted(self: &Arc<Self>, arrival: &Arrival) -> Result<Greeted, Unused> {
        let cluster_state = &self.cluster_state;
        let limiter = &cluster_state.node.limiter;
        let is_member = |peer: &MachineId| cluster_state.is_member(peer);
        let greeted = arrival.greeted(limiter, is_member).await?;
        limiter.connection(greeted.peer)?;
        let is_known =
            greeted.peer == cluster_state.local_id || cluster_state.is_member(&greeted.peer);
        if !is_known {
            match &greeted.hello.hello.claim {
                // What it brings may show that this manager was restored from a backup.
                Some(claim) if !stranger::brings_news(cluster_state, &greeted) => {
                    check_versions(greeted.hello.hello.versions)?;
                    self.admit_invited(arrival, &greeted, claim).await?;
                }
                _ => stranger::examine(cluster_state, arrival, &greeted).await?,
            }
        }
        Ok(greeted)
    }

    /// The handshake proves to a prober that this key is served here. This side sends its instance, and the prober's close code
    /// tells whether it was looking for its own key. Whose key the prober has does not matter.
    async fn answer_probe(&self, arrival: &Arrival) {
        let connection = arrival.unproven();
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
