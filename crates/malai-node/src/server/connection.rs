//! What becomes of a connection: greeted, compared, admitted or turned away, and then served.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use iroh::endpoint::RecvStream;
use malai_wire::frame;
use malai_wire::peer::hello::{Greeting, Hello};
use malai_wire::peer::{RAW_HEAD, StreamKind};
use malai_wire::version::Versions;
use malai_wire::{Refusal, RefusalCode};
use tokio::task::JoinSet;

use crate::cluster::authorize;
use crate::cluster::state::DuplicateIdentity;
use crate::net::framing::{self, PATIENCE, StreamError};
use crate::os::clock::BoundedInstant;
use crate::peer::connection::{PeerConnection, RemoteHello, number};
use crate::{server, sync};

impl PeerConnection {
    /// Lives as long as the connection: greets, compares configurations, and then, if the peer is
    /// a member, serves its requests.
    pub async fn drive(self: Arc<Self>) {
        let mut tasks = JoinSet::new();
        let greeting = self.send_hello();
        let (_, ended) = tokio::join!(greeting, async {
            tokio::select! {
                () = self.accept_uni() => {}
                refusal = self.serve(&mut tasks) => self.close(&refusal),
            }
            self.connection.closed().await
        });
        tracing::debug!(peer = %self.peer.short(), cluster = %self.cluster_state.alias(), "connection ended: {ended}");
        // What was being served notices the end of its streams; its commands get their grace period.
        while tasks.join_next().await.is_some() {}
        let own_endpoint = self.own_endpoint.lock().take();
        if let Some(endpoint) = own_endpoint {
            endpoint.close().await;
        }
    }

    async fn send_hello(&self) {
        let send = async {
            let mut send = self.connection.open_uni().await.ok()?;
            send.write_all(&[StreamKind::Hello as u8]).await.ok()?;
            framing::write(&mut send, &Greeting::Hello(self.cluster_state.hello()))
                .await
                .ok()?;
            send.finish().ok()
        };
        if send.await.is_none() {
            tracing::debug!(peer = %self.peer.short(), "the connection ended before it was greeted");
        }
        self.has_greeted.send_replace(true);
    }

    /// Hands raw streams to their sessions until the connection ends.
    async fn accept_uni(self: &Arc<Self>) {
        let mut heads = JoinSet::new();
        loop {
            tokio::select! {
                stream = self.connection.accept_uni() => match stream {
                    Ok(stream) => drop(heads.spawn(self.clone().route(stream))),
                    Err(_) => return,
                },
                Some(_) = heads.join_next() => {}
            }
        }
    }

    async fn route(self: Arc<Self>, mut stream: RecvStream) {
        let read = async {
            let mut kind = [0; 1];
            stream.read_exact(&mut kind).await.ok()?;
            let kind = StreamKind::from_byte(kind[0])?;
            if kind == StreamKind::Hello {
                let Greeting::Hello(hello) = framing::expect(&mut stream, frame::SMALL, PATIENCE)
                    .await
                    .ok()?;
                return Some((kind, 0, Some(hello), stream));
            }
            let mut session = [0; RAW_HEAD - 1];
            stream.read_exact(&mut session).await.ok()?;
            Some((kind, u64::from_be_bytes(session), None, stream))
        };
        let patience = self.cluster_state.limiter.limits().opening();
        match tokio::time::timeout(patience, read).await {
            Ok(Some((_, _, Some(hello), _))) => self.on_hello(hello),
            Ok(Some((StreamKind::Stdin, session, None, stream))) => {
                self.inbound.deliver(StreamKind::Stdin, session, stream)
            }
            Ok(Some((kind, session, None, stream))) => self.outbound.deliver(kind, session, stream),
            Ok(None) | Err(_) => {
                let refusal =
                    Refusal::new(RefusalCode::Protocol, "a stream without a known beginning");
                self.close(&refusal);
            }
        }
    }

    fn on_hello(&self, hello: Hello) {
        *self.heard.lock() = Instant::now();
        self.greeted.send_if_modified(|greeted| {
            let first = greeted.is_none();
            if first {
                *greeted = Some(RemoteHello {
                    hello,
                    at: BoundedInstant::now(),
                });
            }
            first
        });
    }

    /// Decides whether the peer is a member, and serves it while it is. Returns why it ends.
    async fn serve(self: &Arc<Self>, tasks: &mut JoinSet<()>) -> Refusal {
        let limits = self.cluster_state.limiter.limits();
        let hello = match self.greeted(limits.greeting()).await {
            Ok(greeted) => greeted.hello,
            Err(StreamError::Timeout(_)) => {
                let limiter = &self.cluster_state.limiter;
                return limiter.refused("greeting_seconds", limits.greeting_seconds);
            }
            Err(error) => {
                return Refusal::new(RefusalCode::Protocol, format!("no greeting: {error}"));
            }
        };
        if hello.versions.common(Versions::OURS).is_none() {
            let (ours, theirs) = (Versions::OURS, hello.versions);
            return Refusal::new(
                RefusalCode::Version,
                format!(
                    "this side speaks protocol {} to {}, the other {} to {}",
                    ours.lowest, ours.highest, theirs.lowest, theirs.highest
                ),
            );
        }
        if self.peer == self.cluster_state.local_id {
            if hello.serves && hello.instance != self.cluster_state.instance {
                let seen_at = self.address().map_or_else(
                    || "an unknown address".into(),
                    |address| address.to_string(),
                );
                *self.cluster_state.duplicate.lock() = Some(DuplicateIdentity {
                    instance: hello.instance,
                    seen_at,
                });
            }
            return Refusal::new(RefusalCode::NotAMember, "this key is this machine's own");
        }
        if let Some(header) = &hello.header {
            let compared = tokio::time::timeout(PATIENCE, sync::reconcile(self, header)).await;
            if let Ok(Err(error)) = compared {
                let (peer, cluster) = (self.peer.short(), self.cluster_state.alias());
                // What strangers bring is not worth a line each.
                if self.cluster_state.is_member(&self.peer) {
                    tracing::warn!(%peer, %cluster, "configuration of a peer not taken up: {error}");
                } else {
                    tracing::debug!(%peer, %cluster, "configuration of a stranger not taken up: {error}");
                }
            }
        }
        if authorize::admit(&self.cluster_state, &self.peer).is_err() {
            self.cluster_state
                .record_rejected_peer(self.peer, self.address());
            // The peer may not have read this side's header yet; a moment is all it gets. A new
            // configuration may make it a member meanwhile.
            self.rejecting.store(true, Ordering::Relaxed);
            self.wait_for_delivery().await;
            if let Err(refusal) = authorize::admit(&self.cluster_state, &self.peer) {
                return refusal;
            }
            self.rejecting.store(false, Ordering::Relaxed);
        }
        self.admitted.send_replace(true);
        self.cluster_state.record_peer_revision(
            self.peer,
            Some(hello.instance),
            hello.header.as_ref(),
        );
        self.connection
            .set_max_concurrent_bi_streams(limits.requests_per_peer.into());
        self.connection
            .set_max_concurrent_uni_streams((4 * limits.requests_per_peer).into());
        self.accept_bi(tasks).await
    }

    /// Waits until the peer has received the greeting: its acknowledgement is not visible here, so
    /// a round trip's worth of time has to do.
    async fn wait_for_delivery(&self) {
        let pause = self
            .round_trip()
            .unwrap_or_default()
            .max(Duration::from_millis(20))
            * 3;
        let _ = tokio::time::timeout(pause, self.connection.closed()).await;
    }

    async fn accept_bi(self: &Arc<Self>, tasks: &mut JoinSet<()>) -> Refusal {
        loop {
            tokio::select! {
                stream = self.connection.accept_bi() => match stream {
                    // What arrives after the end is not looked at: its sender may say so elsewhere.
                    Ok(_) if self.is_closed() => return Refusal::new(RefusalCode::Done, ""),
                    Ok((send, recv)) => {
                        let slot = match self.cluster_state.limiter.request(self.peer) {
                            Ok(slot) => slot,
                            Err(refusal) => {
                                tasks.spawn(server::turn_away(send, recv, refusal));
                                continue;
                            }
                        };
                        let occupied = self.occupied();
                        let session = number(&send);
                        let stdin = self.inbound.expect(StreamKind::Stdin, session);
                        self.inbound.mark_started(session);
                        self.heard_now();
                        // Boxed: what a session needs is large, and a task is copied when it is made and when it ends.
                        let serving = Box::pin(server::serve(self.clone(), send, recv, stdin));
                        tasks.spawn(async move {
                            serving.await;
                            drop((slot, occupied));
                        });
                    }
                    Err(_) => return Refusal::new(RefusalCode::Done, ""),
                },
                Some(ended) = tasks.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(peer = %self.peer.short(), "serving a request failed: {error}");
                    }
                }
            }
        }
    }
}
