//! Stream sockets, TCP and Unix: reading, writing, half-closing and resetting them without splitting them.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use parking_lot::Mutex;
use rustix::net::{AddressFamily, Shutdown};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// How many bytes are read at once.
const BUFFER: usize = 64 * 1024;

/// A connected socket. One that is dropped before its connection was complete is reset, so that a connection that was
/// cut off does not look like one that has ended.
#[derive(Debug)]
pub struct Socket {
    stream: Stream,
    is_complete: AtomicBool,
    /// Bytes that were read before the connection was passed on, and belong to it.
    early: Mutex<Vec<u8>>,
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    /// A descriptor of a connected socket.
    ///
    /// # Errors
    ///
    /// It is neither a TCP nor a Unix socket, or cannot be awaited.
    pub fn adopt(fd: OwnedFd) -> io::Result<Self> {
        match rustix::net::sockopt::socket_domain(&fd)? {
            AddressFamily::UNIX => {
                let stream = std::os::unix::net::UnixStream::from(fd);
                stream.set_nonblocking(true)?;
                UnixStream::from_std(stream).map(Self::unix)
            }
            AddressFamily::INET | AddressFamily::INET6 => {
                let stream = std::net::TcpStream::from(fd);
                stream.set_nonblocking(true)?;
                TcpStream::from_std(stream).map(Self::tcp)
            }
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    pub(super) fn tcp(stream: TcpStream) -> Self {
        // Bytes are passed on as they come; waiting for more would delay each answer. It is no error if it fails.
        let _ = stream.set_nodelay(true);
        Self::new(Stream::Tcp(stream))
    }

    pub(crate) fn unix(stream: UnixStream) -> Self {
        Self::new(Stream::Unix(stream))
    }

    fn new(stream: Stream) -> Self {
        Self {
            stream,
            is_complete: AtomicBool::new(false),
            early: Mutex::default(),
        }
    }

    /// Marks that both directions have ended, so that closing it is no reset.
    pub(super) fn complete(&self) {
        self.is_complete.store(true, Ordering::Relaxed);
    }

    /// Puts bytes back, to be read first.
    pub(super) fn unread(&self, bytes: Vec<u8>) {
        *self.early.lock() = bytes;
    }

    /// The next bytes; none at the end.
    ///
    /// # Errors
    ///
    /// As `read(2)`.
    pub(super) async fn read(&self) -> io::Result<Vec<u8>> {
        let early = std::mem::take(&mut *self.early.lock());
        if !early.is_empty() {
            return Ok(early);
        }
        loop {
            match &self.stream {
                Stream::Tcp(stream) => stream.readable().await?,
                Stream::Unix(stream) => stream.readable().await?,
            }
            // Allocated now: most connections are idle most of the time.
            let mut buffer = Vec::with_capacity(BUFFER);
            let read = match &self.stream {
                Stream::Tcp(stream) => stream.try_read_buf(&mut buffer),
                Stream::Unix(stream) => stream.try_read_buf(&mut buffer),
            };
            match read {
                Ok(_) => {
                    if buffer.len() < BUFFER / 2 {
                        buffer.shrink_to_fit();
                    }
                    return Ok(buffer);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes all of it.
    ///
    /// # Errors
    ///
    /// As `write(2)`.
    pub(super) async fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match &self.stream {
                Stream::Tcp(stream) => stream.writable().await?,
                Stream::Unix(stream) => stream.writable().await?,
            }
            let written = match &self.stream {
                Stream::Tcp(stream) => stream.try_write(bytes),
                Stream::Unix(stream) => stream.try_write(bytes),
            };
            match written {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads what has arrived.
    pub(super) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }

    /// Writes as much as there is room for.
    pub(super) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    /// Ends the direction that is written. A socket whose other side has closed is no error: there is nobody to tell.
    pub(super) fn finish(&self) {
        let _ = match &self.stream {
            Stream::Tcp(stream) => rustix::net::shutdown(stream, Shutdown::Write),
            Stream::Unix(stream) => rustix::net::shutdown(stream, Shutdown::Write),
        };
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Unix sockets have no reset; their other side reads the end.
        if let Stream::Tcp(stream) = &self.stream
            && !self.is_complete.load(Ordering::Relaxed)
        {
            let _ = stream.set_zero_linger();
        }
    }
}

/// A listening socket.
#[derive(Debug)]
pub enum Listener {
    /// On a TCP port.
    Tcp(TcpListener),
    /// On a Unix socket.
    Unix(UnixListener),
}

impl Listener {
    /// A descriptor of a listening socket.
    ///
    /// # Errors
    ///
    /// It is neither a TCP nor a Unix socket, or cannot be awaited.
    pub fn adopt(fd: OwnedFd) -> io::Result<Self> {
        match rustix::net::sockopt::socket_domain(&fd)? {
            AddressFamily::UNIX => {
                let listener = std::os::unix::net::UnixListener::from(fd);
                listener.set_nonblocking(true)?;
                UnixListener::from_std(listener).map(Self::Unix)
            }
            AddressFamily::INET | AddressFamily::INET6 => {
                let listener = std::net::TcpListener::from(fd);
                listener.set_nonblocking(true)?;
                TcpListener::from_std(listener).map(Self::Tcp)
            }
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// The next connection.
    ///
    /// # Errors
    ///
    /// As `accept(2)`.
    pub async fn accept(&self) -> io::Result<Socket> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                crate::os::fd::make_room(&stream);
                Ok(Socket::tcp(stream))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                crate::os::fd::make_room(&stream);
                Ok(Socket::unix(stream))
            }
        }
    }
}
