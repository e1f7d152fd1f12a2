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

use super::{Greeted, Link, number};
use crate::frames::{self, PATIENCE};
use crate::member::{Twin, lock};
use crate::moment::Moment;
use crate::{inbound, sync};

impl Link {
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
        tracing::debug!(peer = %self.peer.short(), cluster = %self.membership.alias(), "connection ended: {ended}");
        // What was being served notices the end of its streams; its commands get their grace period.
        while tasks.join_next().await.is_some() {}
        let own_endpoint = lock(&self.own_endpoint).take();
        if let Some(endpoint) = own_endpoint {
            endpoint.close().await;
        }
    }

    async fn send_hello(&self) {
        let send = async {
            let mut send = self.connection.open_uni().await.ok()?;
            send.write_all(&[StreamKind::Hello as u8]).await.ok()?;
            frames::write(&mut send, &Greeting::Hello(self.membership.hello()))
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
                let Greeting::Hello(hello) = frames::expect(&mut stream, frame::SMALL, PATIENCE)
                    .await
                    .ok()?;
                return Some((kind, 0, Some(hello), stream));
            }
            let mut session = [0; RAW_HEAD - 1];
            stream.read_exact(&mut session).await.ok()?;
            Some((kind, u64::from_be_bytes(session), None, stream))
        };
        let patience = self.membership.limiter.limits().opening();
        match tokio::time::timeout(patience, read).await {
            Ok(Some((_, _, Some(hello), _))) => self.meet(hello),
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

    fn meet(&self, hello: Hello) {
        *lock(&self.heard) = Instant::now();
        self.greeted.send_if_modified(|greeted| {
            let first = greeted.is_none();
            if first {
                *greeted = Some(Greeted {
                    hello,
                    at: Moment::now(),
                });
            }
            first
        });
    }

    /// Decides whether the peer is a member, and serves it while it is. Returns why it ends.
    async fn serve(self: &Arc<Self>, tasks: &mut JoinSet<()>) -> Refusal {
        let limits = self.membership.limiter.limits();
        let hello = match self.greeted(limits.greeting()).await {
            Ok(greeted) => greeted.hello,
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
        if self.peer == self.membership.me {
            if hello.serves && hello.instance != self.membership.instance {
                let met = self.address().map_or_else(
                    || "an unknown address".into(),
                    |address| address.to_string(),
                );
                *lock(&self.membership.twin) = Some(Twin {
                    instance: hello.instance,
                    met,
                });
            }
            return Refusal::new(RefusalCode::NotAMember, "this key is this machine's own");
        }
        if let Some(header) = &hello.header {
            let compared = tokio::time::timeout(PATIENCE, sync::consider(self, header)).await;
            if let Ok(Err(error)) = compared {
                let (peer, cluster) = (self.peer.short(), self.membership.alias());
                // What strangers bring is not worth a line each.
                if self.membership.knows(&self.peer) {
                    tracing::warn!(%peer, %cluster, "configuration of a peer not taken up: {error}");
                } else {
                    tracing::debug!(%peer, %cluster, "configuration of a stranger not taken up: {error}");
                }
            }
        }
        if inbound::gate::admit(&self.membership, &self.peer).is_err() {
            self.membership.turned_away(self.peer, self.address());
            // The peer may not have read this side's header yet; a moment is all it gets. A new
            // configuration may make it a member meanwhile.
            self.turning_away.store(true, Ordering::Relaxed);
            self.await_farewell().await;
            if let Err(refusal) = inbound::gate::admit(&self.membership, &self.peer) {
                return refusal;
            }
            self.turning_away.store(false, Ordering::Relaxed);
        }
        self.admitted.send_replace(true);
        self.membership
            .heard_from(self.peer, Some(hello.instance), hello.header.as_ref());
        self.connection
            .set_max_concurrent_bi_streams(limits.requests_per_peer.into());
        self.connection
            .set_max_concurrent_uni_streams((4 * limits.requests_per_peer).into());
        self.accept_bi(tasks).await
    }

    /// Waits until the peer has received the greeting: its acknowledgement is not visible here, so
    /// a round trip's worth of time has to do.
    async fn await_farewell(&self) {
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
                        let place = match self.membership.limiter.request(self.peer) {
                            Ok(place) => place,
                            Err(refusal) => {
                                tasks.spawn(inbound::turn_away(send, recv, refusal));
                                continue;
                            }
                        };
                        let occupied = self.occupied();
                        let session = number(&send);
                        let stdin = self.inbound.expect(StreamKind::Stdin, session);
                        self.inbound.begun(session);
                        self.heard_now();
                        // Boxed: what a session needs is large, and a task is copied when it is made and when it ends.
                        let serving = Box::pin(inbound::serve(self.clone(), send, recv, stdin));
                        tasks.spawn(async move {
                            serving.await;
                            drop((place, occupied));
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
