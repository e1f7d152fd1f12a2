//! Files that are complete or absent: atomic durable writes and bounded reads.
//!
//! A write goes to a temporary file beside its target, which is synced and renamed over the target; then the folder
//! is synced. A power failure or `kill -9` at any instant leaves the old content or the new, never a mixture.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use malai_cluster::escape;

use crate::os::trust;

/// A failed file operation, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The system refused an operation.
    #[error("cannot {action} {}: {source}{}", display_path(path), hint(source))]
    Io {
        /// The attempted operation, as a verb: `read`, `write`, `create` …
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The path leads to a folder, a pipe, a socket or a device.
    #[error(
        "cannot read {}: it is not a regular file; move it away",
        display_path(path)
    )]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The file is larger than any valid file there.
    #[error(
        "cannot read {}: it is larger than {limit} bytes, so it is not a valid file of malai's; check it and move it away",
        display_path(path)
    )]
    TooLarge {
        /// The path.
        path: PathBuf,
        /// The largest size accepted, in bytes.
        limit: u64,
    },
    /// The file, or the symbolic link that leads to it, belongs to another user.
    #[error(
        "refusing to read {}: it belongs to user id {owner}, but malai runs as user id {user}; if it is valid, give it to the home's owner (chown)",
        display_path(path)
    )]
    ForeignOwner {
        /// The path.
        path: PathBuf,
        /// Its owner's user id.
        owner: u32,
        /// The user id malai runs as.
        user: u32,
    },
    /// A file that malai writes in place is a symbolic link: what it leads to would be changed.
    #[error(
        "refusing to write {}: it is a symbolic link; move it away",
        display_path(path)
    )]
    Link {
        /// The path.
        path: PathBuf,
    },
    /// The file is not text.
    #[error(
        "cannot read {}: line {line} is not UTF-8; rewrite the file as plain text",
        display_path(path)
    )]
    NotText {
        /// The path.
        path: PathBuf,
        /// The line of the first invalid byte, counted from 1.
        line: usize,
    },
    /// The file already exists and must not be overwritten.
    #[error(
        "{} already exists and is not overwritten; nothing was changed",
        display_path(path)
    )]
    Exists {
        /// The existing file.
        path: PathBuf,
    },
}

impl StoreError {
    /// Makes a [`StoreError::Io`] of this action on this path, for `map_err`.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
        let path = path.to_path_buf();
        move |source| StoreError::Io {
            action,
            path,
            source,
        }
    }
}

/// A path as it may be shown on a terminal: control characters are escaped.
pub fn display_path(path: &Path) -> String {
    escape(&path.to_string_lossy())
}

/// What to do about the most common errors; empty if the system's own message suffices.
fn hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => {
            " (run malai as the user that owns it, or give that user access)"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            " (free some space; the previous content is untouched)"
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            " (malai keeps everything in its home: set MALAI_HOME to a writable place)"
        }
        _ => "",
    }
}

/// Writes a file so that at every instant it has either its old or its new content, with exactly this mode. A symbolic
/// link at `path` is replaced, not followed.
///
/// # Errors
///
/// The system refuses a step. The old content is then still there.
pub(crate) fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> Result<(), StoreError> {
    let staged = TempFile::write(path, bytes, mode)?;
    fs::rename(&staged.path, path).map_err(StoreError::io("write", path))?;
    staged.keep();
    sync_folder(parent(path))
}

/// The same for a file that a person writes: a symbolic link is followed if this user or root created it, so that a
/// configuration kept elsewhere stays a link. Any other link is replaced.
///
/// # Errors
///
/// As [`write_atomic`].
pub(crate) fn write_configuration(path: &Path, bytes: &[u8], mode: u32) -> Result<(), StoreError> {
    write_atomic(&target_of(path), bytes, mode)
}

/// Opens a file of malai's own to be written in place, created with mode 0600 if the options say so. What is at its path
/// may have been put there by others: nothing but a regular file of this user or root is opened, and no link is followed.
///
/// # Errors
///
/// There is something else at the path, or the system refuses.
pub fn open_own(path: &Path, options: &mut OpenOptions) -> Result<File, StoreError> {
    let opened = options.mode(0o600).custom_flags(own_flags()).open(path);
    let file = opened.map_err(|error| {
        let path = path.to_path_buf();
        match rustix::io::Errno::from_io_error(&error) {
            Some(rustix::io::Errno::LOOP) => StoreError::Link { path },
            // A pipe that nobody reads, or a socket.
            Some(rustix::io::Errno::NXIO) => StoreError::NotAFile { path },
            _ => StoreError::io("open", &path)(error),
        }
    })?;
    let metadata = file.metadata().map_err(StoreError::io("examine", path))?;
    if !metadata.is_file() {
        return Err(StoreError::NotAFile {
            path: path.to_path_buf(),
        });
    }
    if !trust::is_trusted(&metadata) {
        return Err(foreign(path, &metadata));
    }
    Ok(file)
}

/// The flags with which malai's own files are opened. Without O_NONBLOCK, opening a pipe would block forever.
pub fn own_flags() -> i32 {
    let flags =
        rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::NOFOLLOW;
    flags.bits() as i32
}

/// Where a write to this path must go. A dangling link is replaced.
fn target_of(path: &Path) -> PathBuf {
    let own_link = path
        .symlink_metadata()
        .is_ok_and(|data| data.is_symlink() && trust::is_trusted(&data));
    if own_link {
        fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf())
    } else {
        path.to_path_buf()
    }
}

/// Like [`write_atomic`], but an existing file is an error and stays unchanged.
///
/// # Errors
///
/// [`StoreError::Exists`], or the system refuses a step. Nothing is left behind then.
pub(crate) fn create_atomic(path: &Path, bytes: &[u8], mode: u32) -> Result<(), StoreError> {
    let exists = || StoreError::Exists {
        path: path.to_path_buf(),
    };
    if path.symlink_metadata().is_ok() {
        return Err(exists());
    }
    let staged = TempFile::write(path, bytes, mode)?;
    // Linking fails if the name is taken, unlike renaming.
    match fs::hard_link(&staged.path, path) {
        Ok(()) => drop(staged),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(exists()),
        // Some file systems have no hard links. There, the check above has to suffice.
        Err(_) => {
            fs::rename(&staged.path, path).map_err(StoreError::io("create", path))?;
            staged.keep();
        }
    }
    sync_folder(parent(path))
}

/// The text of a file, or `None` if there is no such file.
///
/// # Errors
///
/// It exists but cannot be read, is not a regular file, is larger than `max_bytes`, or is not UTF-8.
pub(crate) fn read_text(path: &Path, max_bytes: u64) -> Result<Option<String>, StoreError> {
    let Some(file) = open_file(path)? else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    file.take(max_bytes.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(StoreError::io("read", path))?;
    if bytes.len() as u64 > max_bytes {
        return Err(StoreError::TooLarge {
            path: path.to_path_buf(),
            limit: max_bytes,
        });
    }
    String::from_utf8(bytes).map(Some).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        StoreError::NotText {
            path: path.to_path_buf(),
            line: 1 + valid.iter().filter(|byte| **byte == b'\n').count(),
        }
    })
}

fn foreign(path: &Path, metadata: &fs::Metadata) -> StoreError {
    StoreError::ForeignOwner {
        path: path.to_path_buf(),
        owner: metadata.uid(),
        user: trust::own_user(),
    }
}

/// Opens a regular file for reading if this user or root put it there; `None` if there is none.
pub(crate) fn open_file(path: &Path) -> Result<Option<File>, StoreError> {
    // Without O_NONBLOCK, opening a pipe that another user put there would block forever. Links are followed, and checked.
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits() as i32)
        .open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // A dangling link is different from nothing: it was put there.
            return match path.symlink_metadata() {
                Ok(_) => Err(StoreError::io("read", path)(error)),
                Err(_) => Ok(None),
            };
        }
        Err(error) => return Err(StoreError::io("read", path)(error)),
    };
    let metadata = file.metadata().map_err(StoreError::io("read", path))?;
    if !metadata.is_file() {
        return Err(StoreError::NotAFile {
            path: path.to_path_buf(),
        });
    }
    if !trust::is_trusted(&metadata) {
        // A link may lead elsewhere. It is checked last, so that another user's file that replaces the link is detected.
        match path.symlink_metadata() {
            Ok(link) if link.is_symlink() && trust::is_trusted(&link) => {}
            _ => return Err(foreign(path, &metadata)),
        }
    } else if let Some(owner) = trust::foreign_link(path) {
        return Err(StoreError::ForeignOwner {
            path: path.to_path_buf(),
            owner,
            user: trust::own_user(),
        });
    }
    Ok(Some(file))
}

/// Makes the names in a folder durable.
///
/// # Errors
///
/// The folder cannot be opened or synced.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), StoreError> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(StoreError::io("sync", folder))
}

/// The folder of a file.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// A complete, synced temporary file, which is removed unless it is renamed to its target.
///
/// While it exists, its writer holds an advisory lock on it, so that cleanup can distinguish what a killed writer left
/// from the work of a live one.
struct TempFile {
    path: PathBuf,
    kept: bool,
    _lock: File,
}

impl TempFile {
    fn write(target: &Path, bytes: &[u8], mode: u32) -> Result<TempFile, StoreError> {
        let prefix = temporary_prefix(target);
        remove_leftovers(parent(target), &prefix);
        loop {
            let (path, file) = create_temporary(target, &prefix, mode)?;
            // From here on, every early return removes the file again.
            let mut staged = TempFile {
                path,
                kept: false,
                _lock: file,
            };
            // On a file system without locks, only the cleanup is lost.
            let _ = staged._lock.lock();
            let linked = staged._lock.metadata().map(|data| data.nlink() > 0);
            if matches!(linked, Ok(false)) {
                // It was cleaned up between creating and locking it.
                staged.kept = true;
                continue;
            }
            staged.fill(target, bytes, mode)?;
            return Ok(staged);
        }
    }

    /// Errors name the file that is to be written, which the user knows.
    fn fill(&mut self, path: &Path, bytes: &[u8], mode: u32) -> Result<(), StoreError> {
        let file = &mut self._lock;
        // The umask may have removed bits.
        file.set_permissions(fs::Permissions::from_mode(mode))
            .map_err(StoreError::io("set the mode of", path))?;
        file.write_all(bytes)
            .map_err(StoreError::io("write", path))?;
        file.sync_all().map_err(StoreError::io("sync", path))
    }

    fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if !self.kept {
            // What cannot be removed now is removed by the next write.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The prefix of the names of this target's temporary files.
fn temporary_prefix(target: &Path) -> String {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    format!(".{name}.malai-tmp-")
}

fn create_temporary(target: &Path, prefix: &str, mode: u32) -> Result<(PathBuf, File), StoreError> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    loop {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let path = parent(target).join(format!("{prefix}{}-{number}", std::process::id()));
        let created = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&path);
        match created {
            Ok(file) => return Ok((path, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            Err(error) => return Err(StoreError::io("write", target)(error)),
        }
    }
}

/// Removes temporary files whose writers are gone. Files that cannot be removed do no harm.
fn remove_leftovers(folder: &Path, prefix: &str) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let is_ours = entry.file_name().to_string_lossy().starts_with(prefix)
            && entry.file_type().is_ok_and(|kind| kind.is_file());
        if !is_ours {
            continue;
        }
        if let Ok(file) = File::open(entry.path())
            && file.try_lock().is_ok()
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests;
