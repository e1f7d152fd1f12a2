//! The socket in the home, between the command line and its daemon.

mod async_client;
mod client;

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use malai_cluster::Resolved;
use malai_wire::control::{self, Named, PREAMBLE, Reply};
use malai_wire::frame::{self, HEAD, Tagged};

use crate::home::Home;
use crate::os::trust;

pub use async_client::{AsyncClient, MessageSink, ReplyStream};
pub use client::{Control, ControlError, REPLY_TIMEOUT, ask, connect, facts};

/// Checks the greeting of a daemon.
fn check_greeting(preamble: [u8; PREAMBLE]) -> Result<(), ControlError> {
    match control::parse_preamble(preamble) {
        Some(control::VERSION) => Ok(()),
        Some(theirs) => Err(ControlError::Version { theirs }),
        None => Err(ControlError::Garbled("it does not come from malai".into())),
    }
}

/// Whether the other end of the socket is closed.
fn is_closed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}

/// The path of a socket, short enough for its address (107 bytes): through the open home folder, which has to stay open
/// while the path is used.
pub(crate) struct ShortPath {
    folder: std::fs::File,
    path: PathBuf,
}

impl ShortPath {
    /// The path of the home's socket.
    ///
    /// # Errors
    ///
    /// The home cannot be opened.
    pub(crate) fn of(home: &Home) -> io::Result<Self> {
        let folder = std::fs::File::open(home.root())?;
        let name = home.socket();
        let name = name.file_name().unwrap_or_default();
        let path = if cfg!(target_os = "linux") {
            Path::new("/proc/self/fd")
                .join(folder.as_raw_fd().to_string())
                .join(name)
        } else {
            home.socket()
        };
        Ok(Self { folder, path })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The owner of the folder, if it is neither this user nor root.
    pub(crate) fn foreign_owner(&self) -> Option<u32> {
        let metadata = self.folder.metadata().ok()?;
        (!trust::is_trusted(&metadata)).then(|| metadata.uid())
    }
}

/// Removes a complete message from the front of the bytes, if there is one; an unknown one that may be skipped is `None`.
pub(crate) fn take_message<T: Tagged>(bytes: &mut Vec<u8>) -> io::Result<Option<Option<T>>> {
    let Some(head) = bytes.first_chunk::<HEAD>() else {
        return Ok(None);
    };
    let (tag, length) = frame::parse_head(*head, control::CAP).map_err(io::Error::other)?;
    let Some(body) = bytes.get(HEAD..HEAD + length) else {
        return Ok(None);
    };
    let message = T::decode(tag, body).map_err(io::Error::other)?;
    bytes.drain(..HEAD + length);
    match message {
        Some(message) => Ok(Some(Some(message))),
        None => take_message(bytes),
    }
}

/// The answer to a resolve request.
pub fn resolved(resolved: Resolved) -> Reply {
    let named = |machine: malai_cluster::ResolvedMachine| Named {
        machine: machine.name.to_string(),
        cluster: machine.cluster.to_string(),
    };
    Reply::Resolved(control::Resolved {
        machines: resolved.machines.into_iter().map(named).collect(),
        notes: resolved.notes,
    })
}
