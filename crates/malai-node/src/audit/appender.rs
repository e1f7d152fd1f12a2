//! An append-only file of lines, written by several processes and rotated when it is large.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::{KEPT, aside};
use crate::os::fs::{StoreError, open_own};

/// Why a line was not appended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AppendError {
    /// The system refuses.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Another user put the file there.
    #[error("{0}")]
    Foreign(StoreError),
    /// There is something other than a regular file at the path.
    #[error("it is not a regular file; move it away")]
    NotAFile,
    /// There is a symbolic link at the path: what it leads to would be changed.
    #[error("it is a symbolic link; move it away")]
    Link,
    /// Only part of the line could be written.
    #[error("no space left: {written} of {length} bytes were written")]
    Cut {
        /// Bytes written.
        written: usize,
        /// The length of the line in bytes.
        length: usize,
    },
}

impl From<StoreError> for AppendError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Io { source, .. } => Self::Io(source),
            StoreError::NotAFile { .. } => Self::NotAFile,
            StoreError::Link { .. } => Self::Link,
            other => Self::Foreign(other),
        }
    }
}

/// The file, opened when first needed, and reopened when its path leads to another file.
#[derive(Debug)]
pub(crate) struct Appender {
    path: PathBuf,
    /// The size in bytes at which it is rotated.
    limit: u64,
    file: Option<File>,
    removed: bool,
}

impl Appender {
    /// An appender for this path. Nothing is opened yet.
    pub(crate) fn new(path: &Path, limit: u64) -> Self {
        Self {
            path: path.to_path_buf(),
            limit,
            file: None,
            removed: false,
        }
    }

    /// Appends a line with its newline, in a single write. If the last writer was stopped in the middle of a line (a full
    /// disk, a crash of the computer), that line is ended first.
    ///
    /// # Errors
    ///
    /// It was not appended, or not completely.
    pub(crate) fn append(&mut self, line: &[u8]) -> Result<(), AppendError> {
        let mut size = self.open_sized()?;
        if size + line.len() as u64 > self.limit && size > 0 {
            // If rotation fails, a file that is too large is better than nothing recorded.
            if let Err(error) = self.rotate() {
                tracing::warn!("cannot rotate {}: {error}", self.path.display());
            }
            size = self.open_sized()?;
        }
        let Some(mut file) = self.file.as_ref() else {
            return Err(io::Error::from(rustix::io::Errno::NOENT).into());
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

    /// The file that the path leads to now.
    ///
    /// # Errors
    ///
    /// It cannot be opened for writing, or is not a regular file.
    pub(crate) fn open(&mut self) -> Result<(), AppendError> {
        self.open_sized().map(drop)
    }

    /// The same, with its size. Every command waits for its records, and each system call costs time.
    fn open_sized(&mut self) -> Result<u64, AppendError> {
        if let Some(file) = self.file.take() {
            let (own, named) = (file.metadata()?, fs::symlink_metadata(&self.path));
            if named.is_ok_and(|named| (named.dev(), named.ino()) == (own.dev(), own.ino())) {
                self.file = Some(file);
                return Ok(own.len());
            }
            // Without a link it was deleted; with another inode it was rotated.
            self.removed |= own.nlink() == 0;
        }
        let mut options = OpenOptions::new();
        let file = open_own(&self.path, options.read(true).append(true).create(true))?;
        let metadata = file.metadata()?;
        if metadata.mode() & 0o077 != 0 {
            // Only the owner may change it; other users leave it as it is.
            let _ = file.set_permissions(fs::Permissions::from_mode(0o600));
        }
        self.file = Some(file);
        Ok(metadata.len())
    }

    /// Whether the file was deleted since the last call.
    pub(crate) fn was_removed(&mut self) -> bool {
        std::mem::take(&mut self.removed)
    }

    /// Rotates the file. If several processes find it too large, only one rotates it.
    fn rotate(&mut self) -> io::Result<()> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        match file.try_lock() {
            Ok(()) => {}
            // Another process is rotating it; next time there will be another file.
            Err(TryLockError::WouldBlock) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let own = file.metadata()?;
        // The previous holder of the lock may have rotated it.
        let is_current = fs::symlink_metadata(&self.path)
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
        // Closing it releases the lock.
        self.file = None;
        Ok(())
    }
}
