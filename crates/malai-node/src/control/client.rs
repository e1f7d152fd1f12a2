//! The blocking client of the daemon's socket. It needs no runtime, because every command uses it.

use std::io::{self, IoSlice, Read, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use malai_wire::control::{self, PREAMBLE, Reply, Request};
use malai_wire::frame::{self, HEAD, Tagged};
use malai_wire::status::DaemonFacts;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

use super::{ShortPath, check_greeting};

use crate::control::async_client::AsyncClient;
use crate::home::Home;
use crate::home::lock::{self, LockState};
use crate::os::trust;

/// How long a daemon that holds the lock may take to answer.
pub const REPLY_TIMEOUT: Duration = Duration::from_secs(5);

/// The daemon cannot be reached, or did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The lock is held, but the socket does not respond.
    #[error("a daemon (pid {pid}) holds {home}, but its socket did not respond within {} s; run `malai doctor`", REPLY_TIMEOUT.as_secs())]
    NoAnswer {
        /// The home.
        home: String,
        /// Its process id, or `unknown`.
        pid: String,
    },
    /// The daemon speaks another version of the protocol.
    #[error(
        "the running daemon speaks version {theirs} of the control protocol, this malai version {}; restart the daemon: `malai stop`, then `malai daemon`",
        control::VERSION
    )]
    Version {
        /// The daemon's version.
        theirs: u16,
    },
    /// The daemon, or the home, belongs to another user.
    #[error(
        "the daemon's socket in {home} belongs to user id {owner}, but malai runs as user id {user}; nothing was sent; run malai as the owner of the home, or set MALAI_HOME to a folder of your own"
    )]
    ForeignDaemon {
        /// The home.
        home: String,
        /// The owner of the home or of its socket.
        owner: u32,
        /// The user id malai runs as.
        user: u32,
    },
    /// The answer does not come from malai.
    #[error("the daemon's answer cannot be read: {0}")]
    Garbled(String),
    /// The daemon exited before it answered completely.
    #[error("the daemon exited in the middle of an answer")]
    Gone,
    /// The daemon failed.
    #[error("{0}")]
    Failed(String),
    /// The system refuses.
    #[error("cannot reach the daemon's socket in {home}: {source}")]
    Io {
        /// The home.
        home: String,
        /// The system's error.
        source: io::Error,
    },
}

/// A connection to the daemon of a home.
#[derive(Debug)]
pub struct Control {
    stream: UnixStream,
    home: String,
    greeted: bool,
}

/// Connects to the daemon of a home: `None` if there is none, going by the lock. Waits for a daemon that is starting.
///
/// # Errors
///
/// The lock is held, but the socket does not respond. Callers must not run commands without the daemon then.
pub fn connect(home: &Home) -> Result<Option<Control>, ControlError> {
    let shown = home.root().display().to_string();
    let started = Instant::now();
    loop {
        let foreign = |owner| ControlError::ForeignDaemon {
            home: shown.clone(),
            owner,
            user: trust::own_user(),
        };
        let attempt = match ShortPath::of(home) {
            // The owner of the folder decides whose socket is in it.
            Ok(path) => match path.foreign_owner() {
                Some(owner) => return Err(foreign(owner)),
                None => UnixStream::connect(path.path()),
            },
            Err(error) => Err(error),
        };
        match attempt {
            Ok(stream) => {
                // The process that listens there receives everything: requests and open files.
                if let Some(owner) = foreign_peer(&stream) {
                    return Err(foreign(owner));
                }
                return Ok(Some(Control {
                    stream,
                    home: shown,
                    greeted: false,
                }));
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(ControlError::Io {
                    home: shown,
                    source: error,
                });
            }
            Err(_) => {}
        }
        match lock::probe(home).map_err(|source| ControlError::Io {
            home: shown.clone(),
            source,
        })? {
            LockState::Free => return Ok(None),
            LockState::Held { pid } if started.elapsed() > REPLY_TIMEOUT => {
                return Err(ControlError::NoAnswer {
                    home: shown,
                    pid: pid.map_or_else(|| "unknown".into(), |pid| pid.to_string()),
                });
            }
            // There is no event to wait for before the socket exists.
            LockState::Held { .. } => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// The user at the other end, if it is neither this one nor root: then it is not the daemon of this user's home. The
/// kernel reports who created the socket.
#[cfg(target_os = "linux")]
fn foreign_peer(stream: &UnixStream) -> Option<u32> {
    match rustix::net::sockopt::socket_peercred(stream) {
        Ok(peer) if peer.uid.as_raw() == trust::own_user() || peer.uid.is_root() => None,
        Ok(peer) => Some(peer.uid.as_raw()),
        // The kernel does not report it: nobody that could be trusted.
        Err(_) => Some(u32::MAX),
    }
}

/// On other systems, the owner of the home has to suffice.
#[cfg(not(target_os = "linux"))]
fn foreign_peer(_: &UnixStream) -> Option<u32> {
    None
}

impl Control {
    /// Sends a request, with descriptors on its first byte. Descriptors are sent only after the daemon's preamble: in the
    /// queue of a daemon that hangs they would stay open, and the reader at the other end of a pipe would wait for its end
    /// long after this process has given up.
    ///
    /// A daemon that has closed its end is not an error here: its answer may have arrived before.
    ///
    /// # Errors
    ///
    /// The daemon has gone, or does not answer.
    pub fn send(
        &mut self,
        request: &Request,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), ControlError> {
        if !descriptors.is_empty() {
            self.hear_greeting()?;
        }
        let mut bytes = control::preamble(control::VERSION).to_vec();
        bytes.extend_from_slice(&request.to_frame());
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        let sent = rustix::net::sendmsg(
            &self.stream,
            &[IoSlice::new(&bytes)],
            &mut ancillary,
            SendFlags::NOSIGNAL,
        );
        let sent = sent.map_err(io::Error::from);
        let sent = sent.and_then(|sent| {
            let rest = bytes.get(sent..).unwrap_or_default();
            self.stream.write_all(rest)
        });
        match sent {
            Err(error) if !super::is_closed(&error) => Err(self.io(error)),
            _ => Ok(()),
        }
    }

    /// Sends a message that follows a request.
    ///
    /// # Errors
    ///
    /// The daemon has gone.
    pub fn say<T: Tagged>(&mut self, message: &T) -> Result<(), ControlError> {
        self.stream
            .write_all(&message.to_frame())
            .map_err(|error| self.io(error))
    }

    /// Waits for the daemon's preamble, then for its next answer. A daemon that holds its lock but does not send a preamble
    /// within [`REPLY_TIMEOUT`] is an error.
    ///
    /// # Errors
    ///
    /// No answer, another version, or an answer that cannot be read.
    pub fn answer(&mut self) -> Result<Reply, ControlError> {
        self.hear_greeting()?;
        loop {
            let mut head = [0; HEAD];
            self.read(&mut head)?;
            let (tag, length) = frame::parse_head(head, control::CAP)
                .map_err(|error| ControlError::Garbled(error.to_string()))?;
            let mut body = vec![0; length];
            self.read(&mut body)?;
            if let Some(reply) = Reply::decode(tag, &body)
                .map_err(|error| ControlError::Garbled(error.to_string()))?
            {
                return match reply {
                    Reply::Failed(why) => Err(ControlError::Failed(why)),
                    reply => Ok(reply),
                };
            }
        }
    }

    fn hear_greeting(&mut self) -> Result<(), ControlError> {
        if self.greeted {
            return Ok(());
        }
        self.stream
            .set_read_timeout(Some(REPLY_TIMEOUT))
            .map_err(|error| self.io(error))?;
        let mut preamble = [0; PREAMBLE];
        self.read(&mut preamble)?;
        check_greeting(preamble)?;
        self.stream
            .set_read_timeout(None)
            .map_err(|error| self.io(error))?;
        self.greeted = true;
        Ok(())
    }

    /// Makes an async client of it. Must be called within a runtime, before the first request.
    ///
    /// # Errors
    ///
    /// The system refuses.
    pub fn into_conversation(self) -> Result<AsyncClient, ControlError> {
        let Self { stream, home, .. } = self;
        AsyncClient::new(stream, home.clone()).map_err(|source| ControlError::Io { home, source })
    }

    /// The stream, for waiting.
    pub fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// The error for a failure of this process itself.
    pub fn unusable(&self, source: io::Error) -> ControlError {
        ControlError::Io {
            home: self.home.clone(),
            source,
        }
    }

    /// The error for a daemon that has not sent its preamble within [`REPLY_TIMEOUT`].
    pub fn no_answer(&self) -> ControlError {
        let holder = lock::probe(&Home::at(PathBuf::from(&self.home)));
        let pid = match holder {
            Ok(LockState::Held { pid: Some(pid) }) => pid.to_string(),
            _ => "unknown".to_owned(),
        };
        ControlError::NoAnswer {
            home: self.home.clone(),
            pid,
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<(), ControlError> {
        match self.stream.read_exact(buffer) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(ControlError::Gone),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                ) =>
            {
                Err(self.no_answer())
            }
            Err(error) => Err(self.io(error)),
        }
    }

    fn io(&self, source: io::Error) -> ControlError {
        match super::is_closed(&source) {
            true => ControlError::Gone,
            false => ControlError::Io {
                home: self.home.clone(),
                source,
            },
        }
    }
}

/// Sends one request to the daemon: `None` if there is none.
///
/// # Errors
///
/// As [`connect`] and [`Control::answer`].
pub fn ask(home: &Home, request: &Request) -> Result<Option<Reply>, ControlError> {
    let Some(mut control) = connect(home)? else {
        return Ok(None);
    };
    control.send(request, &[])?;
    control.answer().map(Some)
}

/// The state that the daemon reports.
///
/// # Errors
///
/// Why there is no answer, as text.
pub fn facts(home: &Home) -> Result<DaemonFacts, String> {
    match ask(home, &Request::Status) {
        Ok(Some(Reply::Status(facts))) => serde_json::from_str(&facts)
            .map_err(|error| format!("its answer cannot be read: {error}")),
        Ok(Some(_)) => Err("it sent an unexpected answer".to_owned()),
        Ok(None) => Err("it has just exited".to_owned()),
        // The readers of this know which daemon and which home it is about.
        Err(ControlError::NoAnswer { .. }) => {
            let seconds = REPLY_TIMEOUT.as_secs();
            Err(format!("no answer within {seconds} s"))
        }
        Err(error) => Err(error.to_string()),
    }
}
