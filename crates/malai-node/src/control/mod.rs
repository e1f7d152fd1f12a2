//! The socket in the home: command line ⇄ daemon.

pub mod client;
pub mod server;

use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use crate::home::Home;

/// A socket's address as short as it has to be (107 bytes): through the open home folder. The folder
/// has to stay open while the path is used.
pub(crate) struct ShortPath {
    _folder: std::fs::File,
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
        Ok(Self {
            _folder: folder,
            path,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}
