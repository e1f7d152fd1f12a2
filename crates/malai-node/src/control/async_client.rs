//! The async client of the daemon's socket, for many parallel commands.

use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;

use malai_wire::control::{self, PREAMBLE, Reply, Request};
use malai_wire::frame::Tagged;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::{check_greeting, take_message};

use crate::control::{ControlError, REPLY_TIMEOUT};

/// A connection without a request yet.
#[derive(Debug)]
pub struct AsyncClient {
    stream: UnixStream,
    home: String,
}

/// The daemon's answers.
#[derive(Debug)]
pub struct ReplyStream {
    stream: OwnedReadHalf,
    bytes: Vec<u8>,
    home: String,
}

/// Sends messages to the daemon while a command runs.
#[derive(Debug)]
pub struct MessageSink(OwnedWriteHalf);

impl AsyncClient {
    pub(super) fn new(stream: std::os::unix::net::UnixStream, home: String) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let stream = UnixStream::from_std(stream)?;
        Ok(Self { stream, home })
    }

    /// Waits for the daemon's preamble, then sends a request, with descriptors on its first byte.
    ///
    /// # Errors
    ///
    /// The daemon has gone, does not answer, or speaks another version.
    pub async fn ask(
        mut self,
        request: &Request,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(ReplyStream, MessageSink), ControlError> {
        let mut preamble = [0; PREAMBLE];
        let greeting = self.stream.read_exact(&mut preamble);
        match tokio::time::timeout(REPLY_TIMEOUT, greeting).await {
            Ok(heard) => heard.map_err(|error| failed(&self.home, error))?,
            Err(_) => {
                return Err(ControlError::NoAnswer {
                    home: self.home,
                    pid: "see malai.lock".into(),
                });
            }
        };
        check_greeting(preamble)?;
        let mut bytes = control::preamble(control::VERSION).to_vec();
        bytes.extend_from_slice(&request.to_frame());
        let send = || {
            let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            if !descriptors.is_empty() {
                ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
            }
            let parts = [IoSlice::new(&bytes)];
            let flags = SendFlags::NOSIGNAL;
            Ok(rustix::net::sendmsg(
                &self.stream,
                &parts,
                &mut ancillary,
                flags,
            )?)
        };
        let sent = self.stream.async_io(Interest::WRITABLE, send).await;
        let (read, mut write) = self.stream.into_split();
        let sent = match sent {
            Ok(sent) => write.write_all(bytes.get(sent..).unwrap_or_default()).await,
            Err(error) => Err(error),
        };
        // If the daemon has closed its end, its answer may have arrived before that.
        if let Err(error) = sent
            && !super::is_closed(&error)
        {
            return Err(failed(&self.home, error));
        }
        let answers = ReplyStream {
            stream: read,
            bytes: Vec::new(),
            home: self.home,
        };
        Ok((answers, MessageSink(write)))
    }
}

impl ReplyStream {
    /// The next answer. Cancelling the call and calling it again loses nothing.
    ///
    /// # Errors
    ///
    /// The daemon has gone or failed, or its answer cannot be read.
    pub async fn next(&mut self) -> Result<Reply, ControlError> {
        loop {
            match take_message(&mut self.bytes) {
                Ok(Some(Some(Reply::Failed(why)))) => return Err(ControlError::Failed(why)),
                Ok(Some(Some(reply))) => return Ok(reply),
                Ok(Some(None) | None) => {}
                Err(error) => return Err(ControlError::Garbled(error.to_string())),
            }
            match self.stream.read_buf(&mut self.bytes).await {
                Ok(0) => return Err(ControlError::Gone),
                Ok(_) => {}
                Err(error) => return Err(failed(&self.home, error)),
            }
        }
    }
}

impl MessageSink {
    /// Sends a message. A daemon that has gone is noticed when its answer is awaited.
    pub async fn say<T: Tagged>(&mut self, message: &T) {
        let _ = self.0.write_all(&message.to_frame()).await;
    }
}

fn failed(home: &str, source: io::Error) -> ControlError {
    match super::is_closed(&source) || source.kind() == io::ErrorKind::UnexpectedEof {
        true => ControlError::Gone,
        false => ControlError::Io {
            home: home.to_owned(),
            source,
        },
    }
}
