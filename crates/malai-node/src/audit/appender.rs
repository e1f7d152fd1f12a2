//! A file that whole lines are appended to, by several processes, and that is put aside when it is large.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::{KEPT, aside};
use crate::os::fs::{StoreError, require_trusted};

/// Why a line was not appended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AppendError {
    /// The system's refusal.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Another user has put it there.
    #[error(transparent)]
    Foreign(#[from] StoreError),
    /// Something else has the file's name.
    #[error("it is not an ordinary file; move it away")]
    NotAFile,
    /// There was room for a part of the line only.
    #[error("no space left: {written} of {length} bytes were written")]
    Cut {
        /// Bytes written.
        written: usize,
        /// Bytes that there were.
        length: usize,
    },
}

/// The file, opened when it is first needed and again when it is no longer what its name leads to.
#[derive(Debug)]
pub(crate) struct Appender {
    path: PathBuf,
    /// The size at which it is put aside, in bytes.
    limit: u64,
    file: Option<File>,
    removed: bool,
}

impl Appender {
    /// Nothing is opened yet.
    pub(crate) fn new(path: &Path, limit: u64) -> Self {
        Self {
            path: path.to_path_buf(),
            limit,
            file: None,
            removed: false,
        }
    }

    /// Appends a line with its newline, with one write. On a line of its own: if the last writer was
    /// stopped in the middle of a line (a full disk, a crash of the computer), that line ends first.
    ///
    /// # Errors
    ///
    /// It was not appended, or not all of it.
    pub(crate) fn append(&mut self, line: &[u8]) -> Result<(), AppendError> {
        let mut size = self.open_sized()?;
        if size + line.len() as u64 > self.limit && size > 0 {
            // Where that fails, too much in one file is better than nothing recorded.
            if let Err(error) = self.put_aside() {
                tracing::warn!(
                    "{} has grown large and cannot be put aside: {error}",
                    self.path.display()
                );
            }
            size = self.open_sized()?;
        }
        let Some(mut file) = self.file.as_ref() else {
            return Err(io::Error::from(io::ErrorKind::NotFound).into());
        };
        let mut last = [b'\n'];
        if size > 0 {
            file.read_exact_at(&mut last, size - 1)?;
        }
        let fresh = [&b"\n"[usize::from(last == [b'\n'])..], line].concat();
        loop {
            match file.write(&fresh) {
                Ok(written) if written == fresh.len() => return Ok(()),
                Ok(written) => {
                    return Err(AppendError::Cut {
                        written,
                        length: fresh.len(),
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The file that the name leads to now.
    ///
    /// # Errors
    ///
    /// It cannot be opened for writing, or is no file.
    pub(crate) fn open(&mut self) -> Result<(), AppendError> {
        self.open_sized().map(drop)
    }

    /// The same, and its size: every record is on the way of a command, and each look costs.
    fn open_sized(&mut self) -> Result<u64, AppendError> {
        if let Some(file) = self.file.take() {
            let (own, named) = (file.metadata()?, fs::metadata(&self.path));
            if named.is_ok_and(|named| (named.dev(), named.ino()) == (own.dev(), own.ino())) {
                self.file = Some(file);
                return Ok(own.len());
            }
            // Without a name it was removed; with another it was put aside.
            self.removed |= own.nlink() == 0;
        }
        // What is appended, and what is read again, is not to be another user's.
        require_trusted(&self.path)?;
        // Without O_NONBLOCK the open of a pipe that somebody put there would wait for ever.
        let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(flags.bits() as i32)
            .open(&self.path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(AppendError::NotAFile);
        }
        if metadata.mode() & 0o077 != 0 {
            // Its owner's to change; whoever is not leaves it as it is.
            let _ = file.set_permissions(fs::Permissions::from_mode(0o600));
        }
        self.file = Some(file);
        Ok(metadata.len())
    }

    /// Whether the file was removed under this process, since this was last asked.
    pub(crate) fn was_removed(&mut self) -> bool {
        std::mem::take(&mut self.removed)
    }

    /// Makes way for a new file. Of several processes that find it large, one does so.
    fn put_aside(&mut self) -> io::Result<()> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        match file.try_lock() {
            Ok(()) => {}
            // Somebody else is at it; it will be another file next time.
            Err(TryLockError::WouldBlock) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let own = file.metadata()?;
        // Whoever had the lock before may have done it.
        let is_current = fs::metadata(&self.path)
            .is_ok_and(|named| (named.dev(), named.ino()) == (own.dev(), own.ino()));
        if is_current {
            for number in (1..KEPT).rev() {
                match fs::rename(aside(&self.path, number), aside(&self.path, number + 1)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        let _ = file.unlock();
                        return Err(error);
                    }
                    _ => {}
                }
            }
            let renamed = fs::rename(&self.path, aside(&self.path, 1));
            if let Err(error) = renamed {
                let _ = file.unlock();
                return Err(error);
            }
        }
        // Closing it gives the lock back.
        self.file = None;
        Ok(())
    }
}
