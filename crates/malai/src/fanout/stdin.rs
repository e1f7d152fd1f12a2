//! Standard input for many machines: read once, and given to each machine completely.
//!
//! A regular file is opened separately for each machine. Anything else is stored in an unnamed temporary file, from which each
//! machine reads at its own pace: a slow or dead one does not hold up others. No more is read than the fastest machine
//! can take, so input that is not needed is not stored.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use malai_node::{Direction, Fd};
use rustix::fs::FileType;
use tokio::net::unix::pipe;
use tokio::sync::watch;

/// How many bytes are read ahead of the fastest machine.
const AHEAD: u64 = 1 << 20;

/// How many bytes are moved at once.
const BUFFER: usize = 64 * 1024;

/// The source of the machines' input.
#[derive(Debug, Clone)]
pub enum Input {
    /// There is none.
    Empty,
    /// A regular file, from this offset on.
    File(u64),
    /// Whatever else.
    Spool(Arc<Spool>),
}

impl Input {
    /// This process's standard input. A terminal counts as no input: what is typed cannot be meant for two hundred machines.
    ///
    /// # Errors
    ///
    /// It cannot be stored.
    pub fn of_this_process() -> io::Result<Self> {
        let stdin = io::stdin();
        let Ok(stat) = rustix::fs::fstat(&stdin) else {
            return Ok(Self::Empty);
        };
        if rustix::termios::isatty(&stdin) {
            return Ok(Self::Empty);
        }
        if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
            && let Ok(place) = rustix::fs::tell(&stdin)
            && File::open("/proc/self/fd/0").is_ok()
        {
            return Ok(Self::File(place));
        }
        Spool::new().map(|spool| Self::Spool(Arc::new(spool)))
    }

    /// The end that a machine's command reads, and the feed that has to run meanwhile.
    ///
    /// # Errors
    ///
    /// No descriptors are left.
    pub fn of_machine(&self) -> io::Result<(Option<OwnedFd>, Option<Feed>)> {
        match self {
            Self::Empty => Ok((None, None)),
            Self::File(place) => {
                let mut file = File::open("/proc/self/fd/0")?;
                file.seek(SeekFrom::Start(*place))?;
                Ok((Some(file.into()), None))
            }
            Self::Spool(spool) => {
                let (sender, receiver) = pipe::pipe()?;
                let feed = Feed {
                    spool: spool.clone(),
                    pipe: sender,
                };
                Ok((Some(receiver.into_nonblocking_fd()?), Some(feed)))
            }
        }
    }

    /// Reads this process's standard input to its end.
    ///
    /// # Errors
    ///
    /// It cannot be read to its end, or cannot be stored: then no machine may take the part for the whole.
    pub async fn read(&self) -> io::Result<()> {
        match self {
            Self::Empty | Self::File(_) => Ok(()),
            Self::Spool(spool) => spool.fill().await,
        }
    }
}

/// Stored input for machines that have not read it yet.
#[derive(Debug)]
pub struct Spool {
    file: File,
    arrived: watch::Sender<Arrived>,
    /// How much the fastest machine has read.
    taken: watch::Sender<u64>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Arrived {
    bytes: u64,
    ended: bool,
}

impl Spool {
    fn new() -> io::Result<Self> {
        Ok(Self {
            file: tempfile::tempfile()?,
            arrived: watch::channel(Arrived::default()).0,
            taken: watch::channel(0).0,
        })
    }

    async fn fill(&self) -> io::Result<()> {
        let stdin = io::stdin().as_fd().try_clone_to_owned();
        let mut stdin = match stdin.and_then(|stdin| Fd::adopt(stdin, Direction::Read)) {
            Ok(stdin) => stdin,
            // Standard input that cannot be read counts as empty, as with one machine.
            Err(_) => return self.end(),
        };
        let (mut taken, mut bytes) = (self.taken.subscribe(), 0);
        loop {
            let room = |taken: &u64| bytes < *taken + AHEAD;
            // It cannot fail, because the sender is here.
            let _ = taken.wait_for(room).await;
            let chunk = match stdin.read(BUFFER).await {
                Err(_) if bytes == 0 => return self.end(),
                chunk => chunk?,
            };
            if chunk.is_empty() {
                return self.end();
            }
            self.file.write_all_at(&chunk, bytes)?;
            bytes += chunk.len() as u64;
            self.arrived.send_replace(Arrived {
                bytes,
                ended: false,
            });
        }
    }

    fn end(&self) -> io::Result<()> {
        self.arrived.send_modify(|arrived| arrived.ended = true);
        Ok(())
    }
}

/// Feeds a machine its input.
#[derive(Debug)]
pub struct Feed {
    spool: Arc<Spool>,
    pipe: pipe::Sender,
}

impl Feed {
    /// Runs until the end of the input, or until the command reads no more.
    pub async fn run(self) {
        let (mut arrived, mut at) = (self.spool.arrived.subscribe(), 0);
        let mut buffer = vec![0; BUFFER];
        loop {
            let more = |arrived: &Arrived| arrived.bytes > at || arrived.ended;
            let Ok(now) = arrived.wait_for(more).await.map(|arrived| *arrived) else {
                return;
            };
            if now.bytes == at {
                return;
            }
            let most = usize::try_from(now.bytes - at).map_or(BUFFER, |most| most.min(BUFFER));
            let Ok(count) = self.spool.file.read_at(&mut buffer[..most], at) else {
                // Part of the input must not look like all of it, so the pipe stays open.
                return std::future::pending().await;
            };
            let mut rest = &buffer[..count];
            while !rest.is_empty() {
                if self.pipe.writable().await.is_err() {
                    return;
                }
                match self.pipe.try_write(rest) {
                    Ok(count) => rest = &rest[count..],
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    // It is normal for a command to stop reading its input.
                    Err(_) => return,
                }
            }
            at += count as u64;
            self.spool.taken.send_if_modified(|taken| {
                let further = at > *taken;
                *taken = at.max(*taken);
                further
            });
        }
    }
}
