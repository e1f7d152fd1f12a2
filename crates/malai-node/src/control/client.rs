//! The command line's side of the socket. Without a runtime: this is on every command's way.

use std::io::{self, IoSlice, Read, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use malai_wire::control::{self, PREAMBLE, Reply, Request};
use malai_wire::frame::{self, HEAD, Tagged};
use malai_wire::status::DaemonFacts;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

use super::ShortPath;

use crate::control::async_client::AsyncClient;
use crate::home::Home;
use crate::home::lock::{self, LockState};
use crate::os::trust;

/// How long a daemon that holds the lock may take to answer.
pub const REPLY_TIMEOUT: Duration = Duration::from_secs(5);

/// The daemon cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The lock is held and the socket does not answer.
    #[error("a daemon holds {home} (pid {pid}) and its socket did not answer within {} s; `malai doctor` says what to do", REPLY_TIMEOUT.as_secs())]
    NoAnswer {
        /// The home.
        home: String,
        /// Its process id, or `unknown`.
        pid: String,
    },
    /// Another version is at the other end.
    #[error(
        "the running daemon speaks version {theirs} of the control protocol, this malai version {}; restart the daemon: `malai stop`, then `malai daemon`",
        control::VERSION
    )]
    Version {
        /// The daemon's version.
        theirs: u16,
    },
    /// Another user's process is at the other end, or the home is another user's.
    #[error(
        "the daemon's socket in {home} is the user's with id {owner}, and malai runs as the one with id {user}: nothing was sent to it; run malai as the owner of the home, or set MALAI_HOME to one of your own"
    )]
    ForeignDaemon {
        /// The home.
        home: String,
        /// Who owns the home, or serves its socket.
        owner: u32,
        /// The user id malai runs as.
        user: u32,
    },
    /// What arrived is not malai's.
    #[error("the daemon's answer cannot be read: {0}")]
    Garbled(String),
    /// The daemon ended while it was being asked.
    #[error("the daemon went away in the middle of an answer")]
    Gone,
    /// The daemon did not do it.
    #[error("{0}")]
    Failed(String),
    /// The system's refusal.
    #[error("cannot reach the daemon's socket in {home}: {source}")]
    Io {
        /// The home.
        home: String,
        /// The system's words.
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

/// Connects to the daemon of a home: `None` if there is none, by the lock. One that is just
/// starting is waited for.
///
/// # Errors
///
/// The lock is held and the socket does not answer: an error, never a reason to go around it.
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
            // Whoever owns the folder decides whose socket is in it.
            Ok(path) => match path.foreign_owner() {
                Some(owner) => return Err(foreign(owner)),
                None => UnixStream::connect(path.path()),
            },
            Err(error) => Err(error),
        };
        match attempt {
            Ok(stream) => {
                // Whoever listens there has it all: what is asked, and open files.
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
            // A socket that appears is no event that can be waited for before it is there.
            LockState::Held { .. } => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// The user at the other end, if it is neither this one nor root: then it is not the daemon of this user's
/// home. The system tells who has made the socket.
#[cfg(target_os = "linux")]
fn foreign_peer(stream: &UnixStream) -> Option<u32> {
    match rustix::net::sockopt::socket_peercred(stream) {
        Ok(peer) if peer.uid.as_raw() == trust::own_user() || peer.uid.is_root() => None,
        Ok(peer) => Some(peer.uid.as_raw()),
        // It does not tell: nobody that could be believed.
        Err(_) => Some(u32::MAX),
    }
}

/// Elsewhere the owner of the home has to do.
#[cfg(not(target_os = "linux"))]
fn foreign_peer(_: &UnixStream) -> Option<u32> {
    None
}

impl Control {
    /// Sends a request, and descriptors with its first byte. Descriptors are sent only to a daemon that
    /// has greeted: they would stay open in the queue of one that hangs, and whoever reads the other
    /// end of a pipe would wait for its end long after this process has given up.
    ///
    /// A daemon that has closed its end is no error here: what it said before is its answer.
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

    /// Sends what follows a request.
    ///
    /// # Errors
    ///
    /// The daemon has gone.
    pub fn say<T: Tagged>(&mut self, message: &T) -> Result<(), ControlError> {
        self.stream
            .write_all(&message.to_frame())
            .map_err(|error| self.io(error))
    }

    /// Waits for the daemon's first sign of life, then for its next answer. A daemon that holds its
    /// lock and does not even greet within [`REPLY_TIMEOUT`] is an error.
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
        match control::parse_preamble(preamble) {
            Some(control::VERSION) => {}
            Some(theirs) => return Err(ControlError::Version { theirs }),
            None => return Err(ControlError::Garbled("it is not malai's".into())),
        }
        self.stream
            .set_read_timeout(None)
            .map_err(|error| self.io(error))?;
        self.greeted = true;
        Ok(())
    }

    /// The same, waited for beside others. To be called within a runtime, before anything was asked.
    ///
    /// # Errors
    ///
    /// The system's refusal.
    pub fn into_conversation(self) -> Result<AsyncClient, ControlError> {
        let Self { stream, home, .. } = self;
        AsyncClient::new(stream, home.clone()).map_err(|source| ControlError::Io { home, source })
    }

    /// The stream, to wait for.
    pub fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// The error for something of this process's own that stands in the way of asking.
    pub fn unusable(&self, source: io::Error) -> ControlError {
        ControlError::Io {
            home: self.home.clone(),
            source,
        }
    }

    /// The error for a daemon that has not greeted within [`REPLY_TIMEOUT`].
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

/// Asks one question of the daemon: `None` if there is none.
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

/// What the daemon says of itself.
///
/// # Errors
///
/// Why it gave no answer, in words for people.
pub fn facts(home: &Home) -> Result<DaemonFacts, String> {
    match ask(home, &Request::Status) {
        Ok(Some(Reply::Status(facts))) => serde_json::from_str(&facts)
            .map_err(|error| format!("its answer cannot be read: {error}")),
        Ok(Some(_)) => Err("it answered with something else".to_owned()),
        Ok(None) => Err("it has just ended".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
