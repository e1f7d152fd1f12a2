//! Passes bytes between the two ends of a connection until both directions have ended: half-closes, resets and back
//! pressure as they are.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use iroh::endpoint::{ReadError, SendStream, VarInt, WriteError};
use malai_wire::RefusalCode;
use malai_wire::frame::{self, Tagged};
use malai_wire::peer::connect::RESET;
use tokio::io::{AsyncWrite, ReadBuf};

use super::socket::Socket;
use crate::net::framing::{self, StreamError};
use crate::peer::connection::PeerConnection;
use crate::peer::streams::RawStream;

/// One end of a connection.
#[derive(Debug)]
pub(crate) enum End {
    /// A socket of this computer.
    Socket(Socket),
    /// A stream to a peer.
    Peer(PeerStream),
}

/// A stream to a peer, both ways. One that is dropped before its end is reset.
#[derive(Debug)]
pub(crate) struct PeerStream {
    send: SendStream,
    /// `None` once it was stopped.
    recv: Option<RawStream>,
    connection: Arc<PeerConnection>,
    is_finished: bool,
}

/// Why a connection was not passed on to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    /// One of its ends was reset.
    #[error("the connection was reset")]
    Reset,
    /// The peer has ended it.
    #[error("{}", why(*.0))]
    Ended(u16),
    /// The way to the peer was lost.
    #[error("the connection to the machine was lost: {0}")]
    Lost(String),
    /// A socket of this computer failed.
    #[error("{0}")]
    Socket(io::Error),
}

/// What the code of a stream that was reset means.
fn why(code: u16) -> String {
    if code == RefusalCode::NotAllowed as u16 {
        "the configuration no longer allows it".to_owned()
    } else if code == RefusalCode::Ended as u16 {
        "the machine's administrator ended it".to_owned()
    } else {
        format!("the machine ended it (code {code})")
    }
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
        match error.kind() {
            BrokenPipe | ConnectionAborted | ConnectionReset => Broken::Reset,
            _ => Broken::Socket(error),
        }
    }
}

/// What a code of the peer says.
fn ended(code: VarInt) -> Broken {
    match u16::try_from(code.into_inner()) {
        Ok(0) => Broken::Reset,
        code => Broken::Ended(code.unwrap_or(u16::MAX)),
    }
}

impl PeerStream {
    /// The two halves of a stream.
    pub(crate) fn new(send: SendStream, recv: RawStream, connection: Arc<PeerConnection>) -> Self {
        Self {
            send,
            recv: Some(recv),
            connection,
            is_finished: false,
        }
    }

    /// Sends a request, and waits for the answer to it.
    ///
    /// # Errors
    ///
    /// The stream was lost, or there is no answer in time.
    pub(crate) async fn ask<T: Tagged>(
        &mut self,
        request: &impl Tagged,
        timeout: Duration,
    ) -> Result<T, StreamError> {
        framing::write(&mut self.send, request).await?;
        match &mut self.recv {
            Some(recv) => framing::expect(recv.frames(), frame::SMALL, timeout).await,
            None => Err(StreamError::Ended),
        }
    }

    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.recv {
            Some(recv) => recv.poll_read(context, buffer),
            None => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        }
    }

    fn finish(&mut self) {
        self.is_finished = true;
        self.connection.finish(&mut self.send);
    }

    /// Ends both directions at once, with a code.
    fn reset(&mut self, code: u32) {
        if let Some(recv) = self.recv.take() {
            recv.stop(code);
        }
        if !self.is_finished {
            self.is_finished = true;
            let _ = self.send.reset(code.into());
        }
    }
}

impl Drop for PeerStream {
    fn drop(&mut self) {
        self.reset(RESET);
    }
}

impl End {
    /// Ends it at once; a peer is told with the code.
    pub(crate) fn end(&mut self, code: u32) {
        match self {
            // A socket is reset when it is dropped.
            Self::Socket(_) => {}
            Self::Peer(stream) => stream.reset(code),
        }
    }

    fn halves(&mut self) -> (Reader<'_>, Writer<'_>) {
        match self {
            Self::Socket(socket) => (Reader::Socket(socket), Writer::Socket(socket)),
            Self::Peer(PeerStream {
                send,
                recv,
                connection,
                is_finished,
            }) => (
                Reader::Peer(recv),
                Writer::Peer {
                    send,
                    connection,
                    is_finished,
                },
            ),
        }
    }

    /// Reads what has arrived.
    pub(super) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self {
            Self::Socket(socket) => socket.poll_read(context, buffer),
            Self::Peer(stream) => stream.poll_read(context, buffer),
        }
    }

    /// Writes as much as there is room for.
    pub(super) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Socket(socket) => socket.poll_write(context, bytes),
            Self::Peer(stream) => {
                AsyncWrite::poll_write(Pin::new(&mut stream.send), context, bytes)
            }
        }
    }

    /// Ends the direction that is written.
    pub(super) fn finish(&mut self) {
        match self {
            Self::Socket(socket) => socket.finish(),
            Self::Peer(stream) => stream.finish(),
        }
    }

    /// Marks that both directions have ended, so that dropping it is no reset.
    pub(super) fn complete(&self) {
        if let Self::Socket(socket) = self {
            socket.complete();
        }
    }
}

enum Reader<'a> {
    Socket(&'a Socket),
    Peer(&'a mut Option<RawStream>),
}

enum Writer<'a> {
    Socket(&'a Socket),
    Peer {
        send: &'a mut SendStream,
        connection: &'a Arc<PeerConnection>,
        is_finished: &'a mut bool,
    },
}

impl Reader<'_> {
    /// The next bytes; none at the end.
    async fn next(&mut self) -> Result<Bytes, Broken> {
        match self {
            Self::Socket(socket) => Ok(socket.read().await?.into()),
            Self::Peer(None) => Err(Broken::Reset),
            Self::Peer(Some(stream)) => {
                let mut buffer = Vec::with_capacity(64 * 1024);
                match stream.read(&mut buffer).await {
                    Ok(()) => Ok(buffer.into()),
                    Err(error) => Err(of_peer(&error)),
                }
            }
        }
    }
}

/// What a failure to read a peer's stream says.
fn of_peer(error: &io::Error) -> Broken {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    match cause {
        Some(ReadError::Reset(code)) => ended(*code),
        _ => Broken::Lost(error.to_string()),
    }
}

impl Writer<'_> {
    async fn write(&mut self, bytes: Bytes) -> Result<(), Broken> {
        match self {
            Self::Socket(socket) => Ok(socket.write(&bytes).await?),
            Self::Peer { send, .. } => match send.write_chunk(bytes).await {
                Ok(()) => Ok(()),
                Err(WriteError::Stopped(code)) => Err(ended(code)),
                Err(error) => Err(Broken::Lost(error.to_string())),
            },
        }
    }

    fn finish(&mut self) {
        match self {
            Self::Socket(socket) => socket.finish(),
            Self::Peer {
                send,
                connection,
                is_finished,
            } => {
                **is_finished = true;
                connection.finish(send);
            }
        }
    }
}

/// Passes one direction on to its end.
async fn one_way(
    mut from: Reader<'_>,
    mut to: Writer<'_>,
    moved: &AtomicU64,
) -> Result<(), Broken> {
    loop {
        let bytes = from.next().await?;
        if bytes.is_empty() {
            to.finish();
            return Ok(());
        }
        let length = bytes.len() as u64;
        to.write(bytes).await?;
        moved.fetch_add(length, Ordering::Relaxed);
    }
}

/// Passes bytes both ways until both directions have ended, and counts them: those from `one` to `other`, and those back.
///
/// # Errors
///
/// One of the ends broke; the caller ends both.
pub(crate) async fn both_ways(
    one: &mut End,
    other: &mut End,
    there: &AtomicU64,
    back: &AtomicU64,
) -> Result<(), Broken> {
    {
        let (from_one, to_one) = one.halves();
        let (from_other, to_other) = other.halves();
        tokio::try_join!(
            one_way(from_one, to_other, there),
            one_way(from_other, to_one, back),
        )?;
    }
    one.complete();
    other.complete();
    Ok(())
}
