//! The traffic of a connection: a hello each way, requests, and the raw streams of their sessions.

use std::sync::Arc;

use iroh::endpoint::{Connection, ConnectionState, RecvStream, SendStream, VarInt};
use malai_wire::frame;
use malai_wire::peer::hello::{Greeting, Hello};
use malai_wire::peer::{RAW_HEAD, RequestKind, StreamKind};
use malai_wire::{Refusal, RefusalCode};
use tokio::task::JoinSet;

use super::PeerConnection;

use crate::net::framing::{self, MESSAGE_TIMEOUT, StreamError};
use crate::os::clock::BoundedInstant;
use crate::peer::phase::RemoteHello;
use crate::peer::streams::{RawStream, SessionStreams};

/// A request opened by the peer.
#[derive(Debug)]
pub(crate) struct IncomingRequest {
    /// The stream for the answer.
    pub(crate) send: SendStream,
    /// The stream of the request, starting with its kind.
    pub(crate) recv: RecvStream,
    /// Its raw streams.
    pub(crate) streams: SessionStreams,
}

/// How many stream heads are read in parallel. Further streams wait.
const MAX_HEADS: usize = 32;

impl PeerConnection {
    /// Sends this side's hello. Everything else waits for it.
    pub(crate) async fn send_hello(&self) {
        let cluster_state = &self.cluster_state;
        let mut hello = cluster_state.hello();
        if self.is_dialed() && self.peer == cluster_state.cluster.manager() {
            let (cluster, own) = (&cluster_state.cluster, &cluster_state.local_id);
            hello.claim = binding(&self.connection)
                .and_then(|binding| cluster_state.own_invitation.claim(cluster, own, &binding))
                .map(Box::new);
        }
        let sent = send_hello(&self.connection, hello);
        if sent.await.is_none() {
            tracing::debug!(peer = %self.peer.short(), "the connection ended before the hello was sent");
        }
        self.hello_sent.send_replace(true);
    }

    /// Waits until this side's hello has been sent. The peer reads requests only after the hello, so a large request that
    /// came first could fill the small window before admission, and neither side would make progress.
    async fn after_hello(&self) {
        let mut hello_sent = self.hello_sent.subscribe();
        let _ = hello_sent.wait_for(|sent| *sent).await;
    }

    /// Opens a request.
    ///
    /// # Errors
    ///
    /// The connection has ended.
    pub(crate) async fn open(
        &self,
        kind: RequestKind,
    ) -> Result<(SendStream, RecvStream), StreamError> {
        self.after_hello().await;
        let (mut send, recv) = self.connection.open_bi().await.map_err(lost)?;
        send.write_all(&[kind as u8]).await.map_err(lost)?;
        Ok((send, recv))
    }

    /// The raw streams of a session that this side has just opened.
    pub(crate) fn start_session(&self, control: &SendStream) -> SessionStreams {
        self.outbound.start(stream_id(control))
    }

    /// Opens a raw stream.
    ///
    /// # Errors
    ///
    /// The connection has ended.
    pub(crate) async fn open_raw(
        &self,
        kind: StreamKind,
        session: u64,
    ) -> Result<SendStream, StreamError> {
        self.after_hello().await;
        let mut send = self.connection.open_uni().await.map_err(lost)?;
        let head = malai_wire::peer::raw_head(kind, session);
        send.write_all(&head).await.map_err(lost)?;
        Ok(send)
    }

    /// Finishes a stream. Until the peer has received all of it, the connection is closed only for reasons that cannot
    /// wait.
    pub(crate) fn finish(&self, stream: &mut SendStream) {
        if stream.finish().is_ok() {
            let received = stream.stopped();
            self.activity.deliver(async move {
                let _ = received.await;
            });
        }
    }

    /// The next request of the peer; `None` at the end of the connection.
    pub(crate) async fn accept_request(&self) -> Option<IncomingRequest> {
        let (send, recv) = self.connection.accept_bi().await.ok()?;
        // Requests that arrive after the end are not looked at: the sender may send them elsewhere.
        if self.is_closed() {
            return None;
        }
        Some(IncomingRequest {
            streams: self.inbound.start(stream_id(&send)),
            send,
            recv,
        })
    }

    /// Receives the peer's hello, and delivers raw streams to their sessions, until the connection ends.
    pub(crate) async fn route_streams(self: &Arc<Self>) {
        let mut heads = JoinSet::new();
        loop {
            tokio::select! {
                stream = self.connection.accept_uni(), if heads.len() < MAX_HEADS => match stream {
                    Ok(stream) => drop(heads.spawn(self.clone().route(stream))),
                    Err(_) => break,
                },
                Some(_) = heads.join_next() => {}
            }
        }
        // What arrived before the end still reaches its session.
        while heads.join_next().await.is_some() {}
        self.inbound.close();
        self.outbound.close();
    }

    async fn route(self: Arc<Self>, mut stream: RecvStream) {
        let timeout = self.cluster_state.node.limiter.limits().opening();
        match tokio::time::timeout(timeout, read_head(&mut stream)).await {
            Ok(Some(Head::Hello(hello))) => self.on_hello(*hello),
            Ok(Some(Head::Raw(StreamKind::Stdin, session))) => {
                let stream = RawStream::new(stream, self.windows.clone());
                self.inbound.deliver(StreamKind::Stdin, session, stream);
            }
            Ok(Some(Head::Raw(kind, session))) => {
                let stream = RawStream::new(stream, self.windows.clone());
                self.outbound.deliver(kind, session, stream);
            }
            Ok(None) | Err(_) => {
                let refusal = Refusal::new(RefusalCode::Protocol, "a stream of unknown kind");
                self.close(&refusal);
            }
        }
    }

    fn on_hello(&self, hello: RemoteHello) {
        self.heard_now();
        self.greet(hello);
    }
}

/// Bytes that both sides derive from the handshake of this connection, and that no other connection has; `None` before the
/// handshake is complete.
pub(crate) fn binding<S: ConnectionState>(connection: &Connection<S>) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    let exported = connection.export_keying_material(&mut bytes, b"EXPORTER-malai-join", b"");
    exported.ok().map(|()| bytes)
}

/// Sends a hello; `None` if the connection ended before.
pub(crate) async fn send_hello<S: ConnectionState>(
    connection: &Connection<S>,
    hello: Hello,
) -> Option<()> {
    let mut send = connection.open_uni().await.ok()?;
    send.write_all(&[StreamKind::Hello as u8]).await.ok()?;
    let greeting = Greeting::Hello(hello);
    framing::write(&mut send, &greeting).await.ok()?;
    send.finish().ok()
}

/// Reads a stream that should carry a hello; `None` if it carries anything else.
pub(crate) async fn read_hello(stream: &mut RecvStream) -> Option<RemoteHello> {
    match read_head(stream).await? {
        Head::Hello(hello) => Some(*hello),
        Head::Raw(..) => None,
    }
}

/// The start of a unidirectional stream.
enum Head {
    Hello(Box<RemoteHello>),
    /// Its kind and its session.
    Raw(StreamKind, u64),
}

async fn read_head(stream: &mut RecvStream) -> Option<Head> {
    let mut kind = [0; 1];
    stream.read_exact(&mut kind).await.ok()?;
    let kind = StreamKind::from_byte(kind[0])?;
    if kind == StreamKind::Hello {
        let hello = framing::expect(stream, frame::SMALL, MESSAGE_TIMEOUT).await;
        let Greeting::Hello(hello) = hello.ok()?;
        let at = BoundedInstant::now();
        return Some(Head::Hello(Box::new(RemoteHello { hello, at })));
    }
    let mut session = [0; RAW_HEAD - 1];
    stream.read_exact(&mut session).await.ok()?;
    Some(Head::Raw(kind, u64::from_be_bytes(session)))
}

/// The id of a control stream, which names its session.
fn stream_id(send: &SendStream) -> u64 {
    VarInt::from(send.id()).into_inner()
}

fn lost(error: impl std::fmt::Display) -> StreamError {
    StreamError::ConnectionLost(error.to_string())
}
