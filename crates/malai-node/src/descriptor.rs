//! Descriptors that belong to somebody else: read and written without touching their flags.
//!
//! O_NONBLOCK is a flag of the open file, which the caller shares. So pipes and terminals are opened
//! anew through `/proc/self/fd`, sockets are used with MSG_DONTWAIT, and what can be neither is asked
//! with `poll` before each read or write. Regular files cannot be polled and never block for long:
//! they are read and written on a thread.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The largest write that cannot block on a pipe that `poll` calls writable (POSIX PIPE_BUF).
const ATOMIC: usize = 512;

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the descriptor.
    Read,
    /// To the descriptor.
    Write,
}

/// A descriptor that can be waited for.
#[derive(Debug)]
pub enum Descriptor {
    /// Waited for by the runtime.
    Pollable(AsyncFd<OwnedFd>, Manner),
    /// Read or written on a thread: a regular file, a device such as /dev/null.
    File(Arc<OwnedFd>),
}

/// How a pollable descriptor is used without blocking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// An open file of our own, with O_NONBLOCK.
    Own,
    /// A socket: MSG_DONTWAIT.
    Socket,
    /// Shared and blocking: `poll` first.
    Shared,
}

impl Descriptor {
    /// Prepares a descriptor; its flags, and those of whatever shares its open file, stay as they are.
    ///
    /// # Errors
    ///
    /// It cannot be examined, or a pipe whose other end is gone.
    pub fn adopt(fd: OwnedFd, way: Way) -> io::Result<Self> {
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode);
        let interest = match way {
            Way::Read => Interest::READABLE,
            Way::Write => Interest::WRITABLE,
        };
        // Deprecated because a type may lie about its descriptor; an OwnedFd does not.
        #[expect(deprecated, reason = "its successor is unsafe code")]
        let pollable =
            |fd, manner| AsyncFd::with_interest(fd, interest).map(|fd| Self::Pollable(fd, manner));
        match kind {
            FileType::Fifo => match reopen(&fd, way) {
                Ok(own) => pollable(own, Manner::Own),
                // A pipe for writing that nobody reads any more.
                Err(Errno::NXIO) => Err(io::ErrorKind::BrokenPipe.into()),
                Err(_) => pollable(fd, Manner::Shared),
            },
            FileType::CharacterDevice if rustix::termios::isatty(&fd) => match reopen(&fd, way) {
                Ok(own) => pollable(own, Manner::Own),
                Err(_) => pollable(fd, Manner::Shared),
            },
            FileType::Socket => pollable(fd, Manner::Socket),
            _ => Ok(Self::File(Arc::new(fd))),
        }
    }

    /// Reads into `buffer`; 0 is the end.
    ///
    /// # Errors
    ///
    /// As `read(2)`.
    pub async fn read(&mut self, mut buffer: Vec<u8>, most: usize) -> io::Result<Vec<u8>> {
        buffer.resize(most, 0);
        let count = match self {
            Self::File(file) => {
                let file = file.clone();
                let (count, filled) = blocking(move || {
                    let count = retry(|| rustix::io::read(&*file, &mut buffer[..]))?;
                    Ok((count, buffer))
                })
                .await?;
                buffer = filled;
                count
            }
            Self::Pollable(fd, manner) => loop {
                let mut guard = fd.readable().await?;
                let result = match manner {
                    Manner::Own => rustix::io::read(fd.get_ref(), &mut buffer[..]),
                    Manner::Socket => {
                        rustix::net::recv(fd.get_ref(), &mut buffer[..], RecvFlags::DONTWAIT)
                            .map(|(count, _)| count)
                    }
                    Manner::Shared => ready(fd.get_ref(), PollFlags::IN)
                        .and_then(|()| rustix::io::read(fd.get_ref(), &mut buffer[..])),
                };
                match result {
                    Err(Errno::AGAIN) => guard.clear_ready(),
                    Err(Errno::INTR) => {}
                    // The far side of a terminal has hung up.
                    Err(Errno::IO) => break 0,
                    other => break other?,
                }
            },
        };
        buffer.truncate(count);
        Ok(buffer)
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    ///
    /// As `write(2)`.
    pub async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let count = match self {
                Self::File(file) => {
                    let (file, piece) = (file.clone(), rest.to_vec());
                    blocking(move || Ok(retry(|| rustix::io::write(&*file, &piece))?)).await?
                }
                Self::Pollable(fd, manner) => {
                    let mut guard = fd.writable().await?;
                    let result = match manner {
                        Manner::Own => rustix::io::write(fd.get_ref(), rest),
                        Manner::Socket => rustix::net::send(
                            fd.get_ref(),
                            rest,
                            SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
                        ),
                        Manner::Shared => ready(fd.get_ref(), PollFlags::OUT).and_then(|()| {
                            rustix::io::write(fd.get_ref(), &rest[..rest.len().min(ATOMIC)])
                        }),
                    };
                    match result {
                        Err(Errno::AGAIN) => {
                            guard.clear_ready();
                            continue;
                        }
                        Err(Errno::INTR) => continue,
                        other => other?,
                    }
                }
            };
            rest = &rest[count..];
        }
        Ok(())
    }
}

/// Raises this process's limit of open files as far as it may go. What runs in it has that of a login
/// again: see [`crate::process`].
pub fn raise_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Where it is refused, there are as many as before.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// Opens the same file anew, with flags of its own. A terminal does not become ours by that.
fn reopen(fd: &OwnedFd, way: Way) -> Result<OwnedFd, Errno> {
    use std::os::fd::AsRawFd;
    let access = match way {
        Way::Read => OFlags::RDONLY,
        Way::Write => OFlags::WRONLY,
    };
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    rustix::fs::open(
        path,
        access | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

fn ready(fd: impl AsFd, events: PollFlags) -> Result<(), Errno> {
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    match poll(&mut [PollFd::new(&fd, events)], Some(&now))? {
        0 => Err(Errno::AGAIN),
        _ => Ok(()),
    }
}

fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(call)
        .await
        .unwrap_or_else(|panic| Err(io::Error::other(panic)))
}
