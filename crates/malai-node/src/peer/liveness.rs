//! Checks whether the peer is alive while a connection is in use.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use malai_wire::peer::RequestKind;
use malai_wire::{Refusal, RefusalCode};

use crate::net::discovery::probe::is_refused;
use crate::peer::activity::Verdict;
use crate::peer::connection::{PeerConnection, silence};

/// How often a connection is checked, and its peer pinged while it is in use.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// The minimum time for a computer to report that nothing listens on a port.
const REFUSAL_TIMEOUT: Duration = Duration::from_millis(200);

impl PeerConnection {
    /// How long the peer may take to answer a ping: at least `minimum`, or a few round trips on a slow path.
    pub(crate) fn ping_timeout(&self, minimum: Duration) -> Duration {
        minimum.max(4 * self.round_trip().unwrap_or_default())
    }

    /// Pings the peer; returns whether it answered.
    pub(crate) async fn ping(&self, timeout: Duration) -> bool {
        let exchange = async {
            let _occupied = self.mark_in_use();
            let (mut send, mut recv) = self.open(RequestKind::Ping).await.ok()?;
            send.write_all(&[0]).await.ok()?;
            send.finish().ok()?;
            recv.read_exact(&mut [0]).await.ok()
        };
        let there = matches!(tokio::time::timeout(timeout, exchange).await, Ok(Some(())));
        if there {
            self.heard_now();
            self.cluster_state.heard_again(&self.peer);
        }
        there
    }

    /// The peer's address, if its computer reports that nothing listens there. It is checked twice, because an endpoint
    /// that moves to another network reopens its socket.
    async fn closed_port(&self) -> Option<SocketAddr> {
        let address = self.address()?;
        for pause in [Duration::ZERO, HEARTBEAT] {
            tokio::time::sleep(pause).await;
            if !is_refused(address, self.ping_timeout(REFUSAL_TIMEOUT)).await {
                return None;
            }
        }
        Some(address)
    }

    /// Watches a connection that this side uses. It pings the peer every second while the connection is in use, and
    /// closes the connection when it has been idle for long, or for a second if it `is_duplicate`. `silent` is called
    /// while the peer does not answer. Each connection has at most one watcher; a second call returns at once.
    pub(crate) async fn watch<F: Future<Output = ()>>(
        self: Arc<Self>,
        is_duplicate: impl Fn(&Arc<PeerConnection>) -> bool,
        silent: impl Fn(Arc<PeerConnection>) -> F,
    ) {
        if self.set_watched() {
            return;
        }
        loop {
            tokio::select! {
                () = tokio::time::sleep(HEARTBEAT) => {}
                () = self.closed() => return,
            }
            let limits = self.cluster_state.node.limiter.limits();
            let has_duplicate = is_duplicate(&self);
            match self
                .activity()
                .verdict(Instant::now(), &limits, has_duplicate)
            {
                Verdict::Keep => {}
                Verdict::Close(refusal) => return self.close(&refusal),
                Verdict::Ping => {
                    if self.ping(2 * HEARTBEAT).await || self.is_closed() {
                        continue;
                    }
                    if self.activity().is_lost(Instant::now()) {
                        return self.close(&Refusal::new(RefusalCode::Idle, silence()));
                    }
                    if let Some(address) = self.closed_port().await
                        && self.silent_for() > HEARTBEAT
                    {
                        let why = format!(
                            "the machine's daemon has ended: nothing listens on {address} any more"
                        );
                        return self.close(&Refusal::new(RefusalCode::Done, why));
                    }
                    // It may dial. The future is boxed because it is large, and rarely needed.
                    Box::pin(silent(self.clone())).await;
                }
            }
        }
    }
}
