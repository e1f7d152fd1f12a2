//! Reads and writes descriptors that belong to other processes, without changing their flags.
//!
//! O_NONBLOCK is a flag of the open file, which the caller shares. So pipes and terminals are reopened through
//! `/proc/self/fd`, sockets are used with MSG_DONTWAIT, and for everything else `poll` is called before each read or
//! write. Regular files cannot be polled and never block for long, so a thread reads and writes them.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The largest write that cannot block on a pipe that `poll` reports as writable (POSIX PIPE_BUF).
const ATOMIC: usize = 512;

/// The direction of the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the descriptor.
    Read,
    /// To the descriptor.
    Write,
}

/// A descriptor that can be awaited.
#[derive(Debug)]
pub enum Fd {
    /// Awaited by the runtime.
    Pollable(AsyncFd<OwnedFd>, IoMode),
    /// Read or written on a thread: a regular file, or a device such as /dev/null.
    File(Arc<OwnedFd>),
}

/// How a pollable descriptor is used without blocking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IoMode {
    /// Our own open file, with O_NONBLOCK.
    Own,
    /// A socket: MSG_DONTWAIT.
    Socket,
    /// Shared and blocking: `poll` first.
    Shared,
}

impl Fd {
    /// Prepares a descriptor. Its flags, and those of other descriptors of the same open file, stay unchanged.
    ///
    /// # Errors
    ///
    /// It cannot be examined, or it is a pipe whose other end is closed.
    pub fn adopt(fd: OwnedFd, way: Direction) -> io::Result<Self> {
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode);
        match kind {
            FileType::Fifo => match reopen(&fd, way) {
                Ok(own) => pollable(own, way, IoMode::Own),
                // A pipe for writing that no process reads any more.
                Err(Errno::NXIO) => Err(io::ErrorKind::BrokenPipe.into()),
                Err(_) => pollable(fd, way, IoMode::Shared),
            },
            FileType::CharacterDevice if rustix::termios::isatty(&fd) => match reopen(&fd, way) {
                Ok(own) => pollable(own, way, IoMode::Own),
                Err(_) => pollable(fd, way, IoMode::Shared),
            },
            FileType::Socket => pollable(fd, way, IoMode::Socket),
            _ => Ok(Self::File(Arc::new(fd))),
        }
    }

    /// Prepares this process's own descriptor that already has O_NONBLOCK: its end of a command's pipe.
    ///
    /// # Errors
    ///
    /// It cannot be awaited.
    pub fn own(fd: OwnedFd, way: Direction) -> io::Result<Self> {
        pollable(fd, way, IoMode::Own)
    }

    /// How many bytes can be read from a pipe without blocking.
    ///
    /// # Errors
    ///
    /// As `ioctl(2)`.
    pub fn waiting(&self) -> io::Result<usize> {
        let count = match self {
            Self::Pollable(fd, _) => rustix::io::ioctl_fionread(fd.get_ref())?,
            Self::File(file) => rustix::io::ioctl_fionread(file)?,
        };
        Ok(usize::try_from(count).unwrap_or(usize::MAX))
    }

    /// Reads up to about `most` bytes (as many as an allocation of that size can hold); returns none at the end.
    ///
    /// # Errors
    ///
    /// As `read(2)`.
    pub async fn read(&mut self, most: usize) -> io::Result<Vec<u8>> {
        // Not zeroed first: that would cost as much as a copy.
        let mut buffer = Vec::with_capacity(most);
        match self {
            Self::File(file) => {
                let file = file.clone();
                return blocking(move || {
                    retry(|| rustix::io::read(&*file, spare_capacity(&mut buffer)))?;
                    Ok(buffer)
                })
                .await;
            }
            Self::Pollable(fd, manner) => loop {
                let mut guard = fd.readable().await?;
                let (fd, space) = (fd.get_ref(), spare_capacity(&mut buffer));
                let result = match manner {
                    IoMode::Own => rustix::io::read(fd, space),
                    IoMode::Socket => {
                        rustix::net::recv(fd, space, RecvFlags::DONTWAIT).map(|(count, _)| count)
                    }
                    IoMode::Shared => {
                        ready(fd, PollFlags::IN).and_then(|()| rustix::io::read(fd, space))
                    }
                };
                match result {
                    Err(Errno::AGAIN) => guard.clear_ready(),
                    Err(Errno::INTR) => {}
                    // The other side of a terminal has hung up.
                    Err(Errno::IO) => break,
                    other => {
                        other?;
                        break;
                    }
                }
            },
        }
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
                        IoMode::Own => rustix::io::write(fd.get_ref(), rest),
                        IoMode::Socket => rustix::net::send(
                            fd.get_ref(),
                            rest,
                            SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
                        ),
                        IoMode::Shared => ready(fd.get_ref(), PollFlags::OUT).and_then(|()| {
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

/// The limit of open files that programs expect: programs that use select(2) cannot handle more.
pub(crate) const USUAL_OPEN_FILES: u64 = 1024;

/// Raises this process's limit of open files when it may be reached soon. Until then commands start faster, because
/// they inherit the limit that they are to have. `newest` is a descriptor that was just created: the system assigns
/// the lowest free number, so it shows how many there are.
pub(crate) fn make_room(newest: &impl AsFd) {
    use std::os::fd::AsRawFd;
    let number = u64::try_from(newest.as_fd().as_raw_fd()).unwrap_or(0);
    if number > USUAL_OPEN_FILES / 2 {
        raise_limit(u64::MAX);
    }
}

/// How many descriptors have to be free for another command: pipes, with both of their ends at first, and a process.
const ROOM: u64 = 16;

/// Why there is no room for another command, if there is none, given a descriptor that was just created.
pub(crate) fn lacks_room(newest: &impl AsFd) -> Option<String> {
    use std::os::fd::AsRawFd;
    let number = u64::try_from(newest.as_fd().as_raw_fd()).unwrap_or(0);
    (number + ROOM > limit()).then(out_of_descriptors)
}

/// The message about a process that has no free descriptors.
pub(crate) fn out_of_descriptors() -> String {
    format!(
        "the daemon has no file descriptors left for another command: its limit is {} (LimitNOFILE= in its unit, or `ulimit -Hn` where it was started)",
        limit()
    )
}

fn limit() -> u64 {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current.unwrap_or(u64::MAX)
}

/// Raises this process's limit of open files as far as possible, if it is below `wanted`; returns what it is then. For
/// processes that need many at once.
pub fn raise_limit(wanted: u64) -> u64 {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut raised = getrlimit(Resource::Nofile);
    if raised.current.is_some_and(|current| current < wanted) {
        raised.current = raised.maximum;
        // If it is refused, the old limit stays.
        let _ = setrlimit(Resource::Nofile, raised);
    }
    limit()
}

/// A descriptor above the standard ones that this process was started with, by its number. To be called once for each.
///
/// # Errors
///
/// There is none.
pub fn inherited(number: i32) -> io::Result<OwnedFd> {
    // SAFETY: it is borrowed for one system call, which fails where nothing is open.
    #[allow(unsafe_code)]
    let borrowed = unsafe { std::os::fd::BorrowedFd::borrow_raw(number.max(3)) };
    rustix::io::fcntl_setfd(borrowed, rustix::io::FdFlags::CLOEXEC)?;
    // SAFETY: the descriptor was open before this program started, so nothing else in it owns it.
    #[allow(unsafe_code)]
    Ok(unsafe { std::os::fd::FromRawFd::from_raw_fd(number.max(3)) })
}

fn pollable(fd: OwnedFd, way: Direction, manner: IoMode) -> io::Result<Fd> {
    let interest = match way {
        Direction::Read => Interest::READABLE,
        Direction::Write => Interest::WRITABLE,
    };
    // Deprecated because a type may lie about its descriptor; an OwnedFd does not.
    #[expect(deprecated, reason = "its successor is unsafe code")]
    AsyncFd::with_interest(fd, interest).map(|fd| Fd::Pollable(fd, manner))
}

/// Whether a descriptor is /dev/null, which needs neither a thread nor waiting.
pub fn is_null(fd: &OwnedFd) -> bool {
    // Numbered so on Linux since its beginning. Elsewhere it is a device like others.
    cfg!(target_os = "linux")
        && rustix::fs::fstat(fd).is_ok_and(|stat| {
            FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
                && stat.st_rdev == rustix::fs::makedev(1, 3)
        })
}

/// Opens the same file again, with flags of its own. A terminal does not become ours by that.
fn reopen(fd: &OwnedFd, way: Direction) -> Result<OwnedFd, Errno> {
    use std::os::fd::AsRawFd;
    let access = match way {
        Direction::Read => OFlags::RDONLY,
        Direction::Write => OFlags::WRONLY,
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
