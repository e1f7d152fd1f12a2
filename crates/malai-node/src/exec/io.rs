//! Moves bytes from a source to a sink, one buffer at a time: nothing is read before the last buffer is written.

use std::io;
use std::os::fd::OwnedFd;

use bytes::Bytes;
use iroh::endpoint::{SendStream, WriteError};
use malai_wire::peer::StreamKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{mpsc, oneshot, watch};

use crate::os::fd::{self, Direction, Fd};
use crate::peer::connection::PeerConnection;
use crate::peer::streams::RawStream;

/// How many bytes are moved at once. A pipe holds 64 KiB by default.
const BUFFER: usize = 64 * 1024;

/// A source of bytes.
#[derive(Debug)]
pub enum Source {
    /// A descriptor of the caller, or a pipe of a command.
    Fd(Fd),
    /// A raw stream of a peer.
    Stream(RawStream),
    /// A raw stream of a peer, which starts when there is something to send, and where to report the bytes read from it.
    Pending(oneshot::Receiver<RawStream>, Option<watch::Sender<u64>>),
    /// Chunks, from a terminal that stays with the command line; an empty chunk is the end.
    Chunks(mpsc::Receiver<Vec<u8>>),
    /// Empty: ends at once.
    Empty,
}

/// A destination of bytes.
#[derive(Debug)]
pub enum Sink {
    /// A descriptor of the caller, or a pipe of a command.
    Fd(Fd),
    /// A raw stream to a peer, opened with the first byte.
    Stream(LazySendStream),
    /// Discards everything.
    Null,
}

/// A raw stream that is opened when there is something to send.
#[derive(Debug)]
pub struct LazySendStream {
    connection: Arc<PeerConnection>,
    kind: StreamKind,
    session: u64,
    stream: Option<SendStream>,
}

impl LazySendStream {
    /// A stream of this kind and session.
    pub(crate) fn new(connection: Arc<PeerConnection>, kind: StreamKind, session: u64) -> Self {
        Self {
            connection,
            kind,
            session,
            stream: None,
        }
    }

    async fn open(&mut self) -> Result<&mut SendStream, FlowError> {
        let stream = match self.stream.take() {
            Some(stream) => stream,
            None => self
                .connection
                .open_raw(self.kind, self.session)
                .await
                .map_err(|error| FlowError::Broken(error.to_string()))?,
        };
        Ok(self.stream.insert(stream))
    }
}

/// Why the transfer stopped before the end.
#[derive(Debug, thiserror::Error)]
pub enum FlowError {
    /// The source cannot be read.
    #[error("reading failed: {0}")]
    Read(io::Error),
    /// The sink cannot be written.
    #[error("writing failed: {0}")]
    Write(io::Error),
    /// The same, for one of the caller's own streams.
    #[error("cannot write to {stream}: {source}")]
    Output {
        /// The name of the stream.
        stream: &'static str,
        /// The system's error.
        source: io::Error,
    },
    /// The reader of the sink has gone: a pipe without readers, or a peer that wants no more.
    #[error("the reader has gone")]
    ReaderGone,
    /// The stream or its connection was lost.
    #[error("the connection was lost: {0}")]
    Broken(String),
}

impl FlowError {
    /// The same, with the name of the caller's stream that cannot be written.
    pub(crate) fn on(self, stream: &'static str) -> Self {
        match self {
            Self::Write(source) => Self::Output { stream, source },
            other => other,
        }
    }
}

impl Source {
    /// The source of a caller's descriptor; /dev/null ends at once.
    ///
    /// # Errors
    ///
    /// As [`Fd::adopt`].
    pub fn adopt(fd: OwnedFd) -> io::Result<Self> {
        match fd::is_null(&fd) {
            true => Ok(Self::Empty),
            false => Fd::adopt(fd, Direction::Read).map(Self::Fd),
        }
    }

    /// How many bytes a pipe holds now.
    ///
    /// # Errors
    ///
    /// The number is not available.
    pub fn waiting(&self) -> io::Result<usize> {
        match self {
            Self::Fd(descriptor) => descriptor.waiting(),
            _ => Ok(0),
        }
    }

    /// The next bytes, about `most` at most (as many as an allocation of that size can hold); empty at the end.
    ///
    /// # Errors
    ///
    /// The source cannot be read.
    pub async fn next(&mut self, most: usize) -> Result<Bytes, FlowError> {
        if let Self::Pending(expected, report) = self {
            match expected.await {
                Ok(mut stream) => {
                    if let Some(read) = report.take() {
                        stream.report_read(read);
                    }
                    *self = Self::Stream(stream);
                }
                Err(_) => return Err(FlowError::Broken("the stream never began".into())),
            }
        }
        match self {
            Self::Fd(descriptor) => descriptor
                .read(most.min(BUFFER))
                .await
                .map(shrink)
                .map_err(FlowError::Read),
            // Not chunk by chunk: a chunk is one packet, and each would be a separate write.
            Self::Stream(stream) => {
                let mut buffer = Vec::with_capacity(most.min(BUFFER));
                stream
                    .read(&mut buffer)
                    .await
                    .map_err(|error| FlowError::Broken(error.to_string()))?;
                Ok(shrink(buffer))
            }
            Self::Chunks(chunks) => Ok(chunks.recv().await.unwrap_or_default().into()),
            Self::Empty | Self::Pending(..) => Ok(Bytes::new()),
        }
    }
}

impl Sink {
    /// The sink of a caller's descriptor; /dev/null discards everything without a system call.
    ///
    /// # Errors
    ///
    /// As [`Fd::adopt`].
    pub fn adopt(fd: OwnedFd) -> io::Result<Self> {
        match fd::is_null(&fd) {
            true => Ok(Self::Null),
            false => Fd::adopt(fd, Direction::Write).map(Self::Fd),
        }
    }

    /// Its connection, if any.
    pub(crate) fn connection(&self) -> Option<&Arc<PeerConnection>> {
        match self {
            Self::Stream(stream) => Some(&stream.connection),
            Self::Fd(_) | Self::Null => None,
        }
    }

    /// Writes all of it.
    ///
    /// # Errors
    ///
    /// The sink cannot be written, or has no reader any more.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), FlowError> {
        match self {
            Self::Fd(descriptor) => descriptor
                .write_all(&bytes)
                .await
                .map_err(|error| match error.kind() {
                    io::ErrorKind::BrokenPipe => FlowError::ReaderGone,
                    _ => FlowError::Write(error),
                }),
            Self::Stream(stream) => match stream.open().await?.write_chunk(bytes).await {
                Ok(()) => Ok(()),
                Err(WriteError::Stopped(_)) => Err(FlowError::ReaderGone),
                Err(error) => Err(FlowError::Broken(error.to_string())),
            },
            Self::Null => Ok(()),
        }
    }

    /// Ends the stream. The reader of a pipe notices when the sink is dropped.
    pub fn finish(&mut self) {
        if let Self::Stream(LazySendStream {
            connection,
            stream: Some(stream),
            ..
        }) = self
        {
            connection.finish(stream);
        }
    }

    /// Ends the stream, even if it is empty and was never opened: a command waits for the end of its standard input.
    ///
    /// # Errors
    ///
    /// The connection was lost.
    pub async fn finish_even_if_empty(&mut self) -> Result<(), FlowError> {
        if let Self::Stream(stream) = self {
            stream.open().await?;
        }
        self.finish();
        Ok(())
    }
}

/// Holds output back while its viewer is stopped (Ctrl-Z).
#[derive(Debug, Clone)]
pub struct PauseGate(Option<watch::Receiver<bool>>);

impl PauseGate {
    /// Never holds back.
    pub fn open() -> Self {
        Self(None)
    }

    /// Holds back while the value is true.
    pub fn new(held: watch::Receiver<bool>) -> Self {
        Self(Some(held))
    }

    pub(crate) async fn pass(&mut self) {
        if let Some(held) = &mut self.0 {
            // If the sender has gone, nothing holds the output back any more.
            let _ = held.wait_for(|held| !held).await;
        }
    }
}

/// The bytes of a buffer that may wait long for a slow peer: a few bytes must not keep the whole buffer allocated.
fn shrink(mut buffer: Vec<u8>) -> Bytes {
    if buffer.len() < buffer.capacity() / 2 {
        buffer.shrink_to_fit();
    }
    buffer.into()
}

/// Counts moved bytes.
pub(crate) trait Count {
    /// Adds to the count.
    fn add(&mut self, bytes: u64);

    /// Whether the maximum is exceeded; moving then stops.
    fn is_too_much(&self) -> bool {
        false
    }
}

impl Count for u64 {
    fn add(&mut self, bytes: u64) {
        *self += bytes;
    }
}

/// Counted at once, so that the count is correct during the transfer and after an abort.
impl Count for &AtomicU64 {
    fn add(&mut self, bytes: u64) {
        self.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Moves bytes until the source ends or the maximum is exceeded, and counts them in `moved`.
///
/// # Errors
///
/// Either side failed.
pub(crate) async fn copy(
    source: &mut Source,
    sink: &mut Sink,
    gate: &mut PauseGate,
    moved: &mut impl Count,
) -> Result<(), FlowError> {
    loop {
        let bytes = source.next(usize::MAX).await?;
        if bytes.is_empty() {
            return Ok(());
        }
        gate.pass().await;
        let length = bytes.len() as u64;
        sink.write(bytes).await?;
        moved.add(length);
        if moved.is_too_much() {
            return Ok(());
        }
    }
}

/// Moves bytes until the source ends, as many as `most` says, which may grow.
///
/// # Errors
///
/// Either side failed, or nobody can raise `most` any more.
pub(crate) async fn copy_up_to(
    source: &mut Source,
    sink: &mut Sink,
    mut most: watch::Receiver<u64>,
    moved: &mut impl Count,
) -> Result<(), FlowError> {
    let mut sent = 0;
    loop {
        let mut bytes = source.next(usize::MAX).await?;
        if bytes.is_empty() {
            return Ok(());
        }
        while !bytes.is_empty() {
            let more = most.wait_for(|most| *most > sent).await;
            let more = more.map(|most| *most - sent);
            let more = more.map_err(|_| FlowError::Broken("the session has ended".into()))?;
            let part = bytes.split_to(bytes.len().min(usize::try_from(more).unwrap_or(usize::MAX)));
            let length = part.len() as u64;
            sink.write(part).await?;
            sent += length;
            moved.add(length);
        }
    }
}

/// Moves exactly `count` bytes, or fewer if the source ends.
///
/// # Errors
///
/// Either side failed.
pub(crate) async fn pump_exactly(
    source: &mut Source,
    sink: &mut Sink,
    count: usize,
    moved: &mut impl Count,
) -> Result<(), FlowError> {
    let mut left = count;
    while left > 0 {
        let bytes = source.next(left).await?;
        if bytes.is_empty() {
            return Ok(());
        }
        // The allocation may have had room for slightly more than requested.
        left = left.saturating_sub(bytes.len());
        let length = bytes.len() as u64;
        sink.write(bytes).await?;
        moved.add(length);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::{BUFFER, shrink};

    #[test]
    fn a_few_bytes_that_wait_do_not_hold_a_whole_buffer() {
        let mut buffer = Vec::with_capacity(BUFFER);
        buffer.push(1);
        let registration = BytesMut::from(shrink(buffer));
        assert!(registration.capacity() < 64, "{}", registration.capacity());
    }
}
