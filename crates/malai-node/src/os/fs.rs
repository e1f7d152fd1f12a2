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

/// Writes a file so that at every instant it has either its old or its new content, with exactly this mode.
///
/// A symbolic link at `path` is followed if this user or root created it, so that a configuration kept elsewhere
/// stays a link. Any other link is replaced.
///
/// # Errors
///
/// The system refuses a step. The old content is then still there.
pub(crate) fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> Result<(), StoreError> {
    let target = target_of(path);
    let staged = TempFile::write(&target, bytes, mode)?;
    fs::rename(&staged.path, &target).map_err(StoreError::io("write", &target))?;
    staged.keep();
    sync_folder(parent(&target))
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

/// Refuses what a user other than this one and root has put at a path. The target of a trusted symbolic link is its
/// creator's choice.
///
/// # Errors
///
/// [`StoreError::ForeignOwner`].
pub fn require_trusted(path: &Path) -> Result<(), StoreError> {
    match path.symlink_metadata() {
        Ok(metadata) if !trust::is_trusted(&metadata) => Err(foreign(path, &metadata)),
        _ => Ok(()),
    }
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
    // Without O_NONBLOCK, opening a pipe that another user put there would block forever.
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
mod tests {
    use super::*;
    use tempfile::tempdir;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn a_write_replaces_content_and_mode_and_leaves_nothing_else() {
        let folder = tempdir().unwrap();
        let path = folder.path().join("a.toml");
        write_atomic(&path, b"old", 0o644).unwrap();
        assert_eq!(mode(&path), 0o644);
        write_atomic(&path, b"new", 0o600).unwrap();
        assert_eq!(read_text(&path, 10).unwrap().as_deref(), Some("new"));
        assert_eq!(mode(&path), 0o600);
        assert_eq!(names(folder.path()), ["a.toml"]);
    }

    #[test]
    fn leftovers_of_killed_writers_go_and_those_of_live_ones_stay() {
        let folder = tempdir().unwrap();
        let path = folder.path().join("a.toml");
        let dead = folder.path().join(".a.toml.malai-tmp-1-0");
        let live = folder.path().join(".a.toml.malai-tmp-2-0");
        let other = folder.path().join(".b.toml.malai-tmp-1-0");
        for file in [&dead, &live, &other] {
            fs::write(file, "half").unwrap();
        }
        let writer = File::open(&live).unwrap();
        writer.lock().unwrap();
        write_atomic(&path, b"whole", 0o600).unwrap();
        assert!(!dead.exists());
        assert!(live.exists());
        assert!(other.exists(), "another file's temporary is not ours");
    }

    #[test]
    fn a_failed_write_leaves_the_old_content_and_no_temporary() {
        let folder = tempdir().unwrap();
        let path = folder.path().join("a.toml");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("inside"), "x").unwrap();
        let error = write_atomic(&path, b"new", 0o600).unwrap_err();
        assert!(error.to_string().contains("a.toml"), "{error}");
        assert_eq!(names(folder.path()), ["a.toml"]);
        assert!(path.join("inside").exists());
    }

    #[test]
    fn concurrent_writers_never_mix_and_never_fail() {
        let folder = tempdir().unwrap();
        let path = folder.path().join("a");
        std::thread::scope(|scope| {
            for letter in [b'a', b'b', b'c', b'd'] {
                let path = &path;
                scope.spawn(move || {
                    for _ in 0..20 {
                        write_atomic(path, &[letter; 4096], 0o600).unwrap();
                    }
                });
            }
        });
        let text = read_text(&path, 5000).unwrap().unwrap();
        assert_eq!(text.len(), 4096);
        assert_eq!(
            text.bytes().filter(|b| *b == text.as_bytes()[0]).count(),
            4096
        );
        assert_eq!(names(folder.path()), ["a"]);
    }

    #[test]
    fn a_linked_file_stays_a_link() {
        let folder = tempdir().unwrap();
        let real = folder.path().join("real.toml");
        let connection = folder.path().join("link.toml");
        fs::write(&real, "old").unwrap();
        std::os::unix::fs::symlink(&real, &connection).unwrap();
        write_atomic(&connection, b"new", 0o600).unwrap();
        assert!(connection.symlink_metadata().unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&real).unwrap(), "new");
    }

    #[test]
    fn creating_never_overwrites() {
        let folder = tempdir().unwrap();
        let path = folder.path().join("key");
        create_atomic(&path, b"first", 0o600).unwrap();
        let error = create_atomic(&path, b"second", 0o600).unwrap_err();
        assert!(matches!(error, StoreError::Exists { .. }), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "first");
        assert_eq!(mode(&path), 0o600);
        assert_eq!(names(folder.path()), ["key"]);
    }

    #[test]
    fn reading_is_bounded_and_says_what_is_wrong() {
        let folder = tempdir().unwrap();
        let path = folder.path().join("a");
        assert_eq!(read_text(&path, 3).unwrap(), None);
        fs::write(&path, "123").unwrap();
        assert_eq!(read_text(&path, 3).unwrap().as_deref(), Some("123"));
        fs::write(&path, "1234").unwrap();
        assert!(matches!(
            read_text(&path, 3),
            Err(StoreError::TooLarge { limit: 3, .. })
        ));
        fs::write(&path, b"a\nb\xff").unwrap();
        assert!(matches!(
            read_text(&path, 9),
            Err(StoreError::NotText { line: 2, .. })
        ));
        assert!(matches!(
            read_text(folder.path(), 9),
            Err(StoreError::NotAFile { .. })
        ));
        let dangling = folder.path().join("dangling");
        std::os::unix::fs::symlink("nowhere", &dangling).unwrap();
        assert!(read_text(&dangling, 9).is_err());
    }

    #[test]
    fn a_pipe_is_refused_without_waiting_for_a_writer() {
        let folder = tempdir().unwrap();
        let path = folder.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        assert!(matches!(
            read_text(&path, 9),
            Err(StoreError::NotAFile { .. })
        ));
    }
}
