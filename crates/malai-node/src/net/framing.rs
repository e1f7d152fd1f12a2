//! Reads and writes whole frames on QUIC streams, with a size cap and a timeout.

use std::time::Duration;

use iroh::endpoint::{ReadExactError, RecvStream, SendStream};
use malai_wire::frame::{self, FrameError, Tagged};

/// How long a peer may take to send the message that opens a stream.
pub const MESSAGE_TIMEOUT: Duration = Duration::from_secs(10);

/// A frame could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// What arrived is not a valid frame of this stream.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The stream or its connection was lost.
    #[error("the connection was lost: {0}")]
    ConnectionLost(String),
    /// The stream ended where a frame was expected.
    #[error("the stream ended in the middle of a message")]
    Ended,
    /// The peer took too long.
    #[error("the peer did not answer within {} s", .0.as_secs())]
    Timeout(Duration),
}

/// Reads the next message; `None` at a clean end of the stream.
///
/// # Errors
///
/// The stream was lost, a frame is larger than `cap` bytes, or it cannot be decoded.
pub async fn read<T: Tagged>(recv: &mut RecvStream, cap: usize) -> Result<Option<T>, StreamError> {
    while let Some(read_header) = read_header(recv, cap).await? {
        if let Some(message) = body(recv, read_header).await? {
            return Ok(Some(message));
        }
    }
    Ok(None)
}

/// A frame whose body has not been read yet.
#[derive(Debug, Clone, Copy)]
pub struct FrameHeader {
    tag: u8,
    /// The length of its body in bytes, checked against the cap of the stream.
    pub length: usize,
}

/// Reads the header of the next frame; `None` at a clean end of the stream.
///
/// # Errors
///
/// The stream was lost, or the frame is larger than `cap` bytes.
pub async fn read_header(
    recv: &mut RecvStream,
    cap: usize,
) -> Result<Option<FrameHeader>, StreamError> {
    let mut head = [0; frame::HEAD];
    match recv.read_exact(&mut head).await {
        Ok(()) => {}
        Err(ReadExactError::FinishedEarly(0)) => return Ok(None),
        Err(ReadExactError::FinishedEarly(_)) => return Err(StreamError::Ended),
        Err(ReadExactError::ReadError(error)) => {
            return Err(StreamError::ConnectionLost(error.to_string()));
        }
    }
    let (tag, length) = frame::parse_head(head, cap)?;
    Ok(Some(FrameHeader { tag, length }))
}

/// Reads the body of a frame; `None` if the frame is to be skipped.
///
/// # Errors
///
/// The stream was lost, or the body cannot be decoded.
pub async fn body<T: Tagged>(
    recv: &mut RecvStream,
    read_header: FrameHeader,
) -> Result<Option<T>, StreamError> {
    let body = read_body(recv, read_header.length).await?;
    Ok(T::decode_owned(read_header.tag, body)?)
}

/// Reads `length` bytes. Memory grows with what arrives, not with the announced length.
async fn read_body(recv: &mut RecvStream, length: usize) -> Result<Vec<u8>, StreamError> {
    let mut body = Vec::with_capacity(length.min(64 * 1024));
    while body.len() < length {
        match recv.read_chunk(length - body.len()).await {
            Ok(Some(chunk)) => {
                if body.capacity() - body.len() < chunk.len() {
                    // As much again, but never more than was announced.
                    body.reserve_exact((length - body.len()).min(chunk.len().max(body.len())));
                }
                body.extend_from_slice(&chunk);
            }
            Ok(None) => return Err(StreamError::Ended),
            Err(error) => return Err(StreamError::ConnectionLost(error.to_string())),
        }
    }
    Ok(body)
}

/// Reads a message that must arrive within `timeout`.
///
/// # Errors
///
/// As [`read`], or the stream ends or the time runs out.
pub async fn expect<T: Tagged>(
    recv: &mut RecvStream,
    cap: usize,
    timeout: Duration,
) -> Result<T, StreamError> {
    match tokio::time::timeout(timeout, read(recv, cap)).await {
        Ok(Ok(Some(message))) => Ok(message),
        Ok(Ok(None)) => Err(StreamError::Ended),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(StreamError::Timeout(timeout)),
    }
}

/// Writes a message.
///
/// # Errors
///
/// The stream or its connection was lost.
pub async fn write<T: Tagged>(send: &mut SendStream, message: &T) -> Result<(), StreamError> {
    write_frame(send, message.to_frame().into()).await
}

/// Writes an encoded message.
///
/// # Errors
///
/// As [`write`].
pub async fn write_frame(send: &mut SendStream, frame: bytes::Bytes) -> Result<(), StreamError> {
    send.write_chunk(frame)
        .await
        .map_err(|error| StreamError::ConnectionLost(error.to_string()))
}
