//! Whether the peer is still there: asked while a link is in use, and its end when it is not.

use std::sync::Arc;
use std::time::Duration;

use malai_wire::peer::RequestKind;
use malai_wire::{Refusal, RefusalCode};

use crate::net::endpoint;
use crate::peer::connection::{PeerConnection, silence};

/// How often a connection in use is asked whether the peer is there.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// How long after its last use a connection is still asked every [`HEARTBEAT`].
const IN_USE: Duration = Duration::from_secs(60);

/// How long a connection beside another to the same peer is kept when nobody uses it.
const SPARE: Duration = Duration::from_secs(1);

/// How long after the network is back a connection may take to be heard of again.
const RECOVERY: Duration = Duration::from_secs(4);

impl PeerConnection {
    /// How long the peer may take to answer a question: `least`, or a few round trips on a slow path.
    pub fn patience(&self, least: Duration) -> Duration {
        least.max(4 * self.round_trip().unwrap_or_default())
    }

    /// Asks whether the peer is there.
    pub async fn ping(self: &Arc<Self>, patience: Duration) -> bool {
        let ask = async {
            let _occupied = self.occupied();
            let (mut send, mut recv) = self.open(RequestKind::Ping).await.ok()?;
            send.write_all(&[0]).await.ok()?;
            send.finish().ok()?;
            recv.read_exact(&mut [0]).await.ok()
        };
        let there = matches!(tokio::time::timeout(patience, ask).await, Ok(Some(())));
        if there {
            self.heard_now();
            self.cluster_state.heard_again(&self.peer);
        }
        there
    }

    /// Watches a link that this side uses: asks every second while it is in use, closes it when it
    /// has been idle for long, or for a moment where it `is_spare`. `lost` is called when the peer has
    /// been silent for some seconds. At most one watch runs for a link; a second call returns at once.
    pub async fn watch<F: Future<Output = ()>>(
        self: Arc<Self>,
        is_spare: impl Fn(&Arc<PeerConnection>) -> bool,
        lost: impl Fn(Arc<PeerConnection>) -> F,
    ) {
        if self.set_watched() {
            return;
        }
        loop {
            tokio::select! {
                () = tokio::time::sleep(HEARTBEAT) => {}
                () = self.closed() => return,
            }
            let (idle, idle_here) = (self.unused_for(), self.unused_locally_for());
            let most = self.cluster_state.limiter.limits().idle();
            let busy = self.sessions() > 0 || idle_here < IN_USE.min(most);
            let refusal = if !busy && idle > most {
                let why = "the connection was idle";
                Some(Refusal::new(RefusalCode::Idle, why))
            } else if idle > SPARE.min(most) && is_spare(&self) {
                // Whoever has just asked something over it asks again over the other: this code says that the
                // request was not looked at.
                let why = "another connection leads to the same machine";
                Some(Refusal::new(RefusalCode::Busy, why))
            } else {
                None
            };
            if let Some(refusal) = refusal.filter(|_| !self.is_occupied()) {
                self.close(&refusal);
                return;
            }
            if busy && !self.ping(2 * HEARTBEAT).await && !self.is_closed() {
                // QUIC's own clock starts anew with whatever it hears, a farewell from an address that
                // it does not know included.
                if self.silent_for() > endpoint::GIVE_UP + RECOVERY {
                    self.close(&Refusal::new(RefusalCode::Idle, silence()));
                    return;
                }
                // It may dial, which is much to keep room for beside every connection.
                Box::pin(lost(self.clone())).await;
            }
        }
    }
}
