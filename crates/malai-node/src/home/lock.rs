//! One daemon per home: an advisory lock on the home folder itself, with `malai.lock` as its visible sign.
//!
//! The folder is locked, not the file, because people remove `malai.lock` (the tutorial tells them to), and a live
//! daemon's lock must survive that. The file contains the daemon's pid, for people.

use std::fs::{File, TryLockError};
use std::io;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use crate::home::Home;
use crate::os::fs::{self, StoreError, display_path};

/// How long [`HomeLock::acquire`] tries: clients that check for a daemon hold a shared lock briefly.
const LOCK_TIMEOUT: Duration = Duration::from_millis(300);

/// The pause between two attempts.
const PAUSE: Duration = Duration::from_millis(5);

/// The maximum size of `malai.lock` in bytes. A pid and a newline are at most eleven.
const MAX_LOCK_FILE: u64 = 64;

/// Why the lock could not be acquired.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// A daemon holds it.
    #[error(
        "a malai daemon is already running for {}{}; see `malai status`, or stop it with `malai stop`",
        display_path(home),
        pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
    )]
    Held {
        /// The locked home.
        home: PathBuf,
        /// The daemon's process id, if `malai.lock` has it.
        pid: Option<u32>,
    },
    /// The system refused the lock itself.
    #[error(
        "cannot lock {}: {source} (the home must be on a file system with advisory locks; put MALAI_HOME on a local disk)",
        display_path(home)
    )]
    Io {
        /// The home.
        home: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// `malai.lock` could not be written.
    #[error(transparent)]
    Sign(#[from] StoreError),
}

/// Whether a daemon holds a home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockState {
    /// No daemon is running.
    Free,
    /// A daemon is running.
    Held {
        /// Its process id, if `malai.lock` has it.
        pid: Option<u32>,
    },
}

/// The exclusive lock on a home, until dropped.
#[derive(Debug)]
pub struct HomeLock {
    home: Home,
    // Closed after `drop` has run, so `malai.lock` is gone before another daemon can write its own.
    folder: File,
}

impl HomeLock {
    /// Acquires the lock of a home that [`Home::prepare`] has created, and writes `malai.lock`.
    ///
    /// # Errors
    ///
    /// [`LockError::Held`] if a daemon holds it, otherwise what the system refused.
    pub fn acquire(home: &Home) -> Result<HomeLock, LockError> {
        let io = |source| LockError::Io {
            home: home.root().to_path_buf(),
            source,
        };
        let folder = File::open(home.root()).map_err(io)?;
        let deadline = Instant::now() + LOCK_TIMEOUT;
        loop {
            match folder.try_lock() {
                Ok(()) => break,
                // There is no event to wait for: a lock cannot be awaited with a timeout.
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => thread::sleep(PAUSE),
                Err(TryLockError::WouldBlock) => {
                    return Err(LockError::Held {
                        home: home.root().to_path_buf(),
                        pid: read_pid(home),
                    });
                }
                Err(TryLockError::Error(source)) => return Err(io(source)),
            }
        }
        let lock = HomeLock {
            home: home.clone(),
            folder,
        };
        lock.write_sign()?;
        Ok(lock)
    }

    /// Rewrites `malai.lock` if it is missing or names another process; cheap otherwise.
    ///
    /// # Errors
    ///
    /// It cannot be written. The lock is still held.
    pub fn refresh(&self) -> Result<(), StoreError> {
        if read_pid(&self.home) == Some(std::process::id()) {
            return Ok(());
        }
        self.write_sign()
    }

    /// Whether the home's path still leads to the locked folder. It may have been removed or replaced, and another daemon
    /// can lock the replacement.
    pub fn is_in_place(&self) -> bool {
        use std::os::unix::fs::MetadataExt;
        match (self.folder.metadata(), std::fs::metadata(self.home.root())) {
            (Ok(locked), Ok(there)) => (locked.dev(), locked.ino()) == (there.dev(), there.ino()),
            _ => false,
        }
    }

    fn write_sign(&self) -> Result<(), StoreError> {
        let text = format!("{}\n", std::process::id());
        fs::write_atomic(&self.home.lock_file(), text.as_bytes(), 0o600)
    }
}

impl Drop for HomeLock {
    fn drop(&mut self) {
        // Never another daemon's file, in a home that replaced this one.
        if !self.is_in_place() {
            return;
        }
        // A file that stays behind without its lock is harmless: it is not mistaken for a daemon.
        let _ = std::fs::remove_file(self.home.lock_file());
    }
}

/// Whether a daemon holds this home, checked by briefly holding a shared lock.
///
/// # Errors
///
/// The home exists but cannot be opened or locked. A missing home is free.
pub fn probe(home: &Home) -> io::Result<LockState> {
    let folder = match File::open(home.root()) {
        Ok(folder) => folder,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(LockState::Free),
        Err(error) => return Err(error),
    };
    match folder.try_lock_shared() {
        Ok(()) => Ok(LockState::Free),
        Err(TryLockError::WouldBlock) => Ok(LockState::Held {
            pid: read_pid(home),
        }),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// The pid in `malai.lock`, if there is one.
fn read_pid(home: &Home) -> Option<u32> {
    let text = fs::read_text(&home.lock_file(), MAX_LOCK_FILE).ok()??;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::{TempDir, tempdir};

    fn home() -> (TempDir, Home) {
        let folder = tempdir().unwrap();
        let home = Home::at(folder.path().join("home"));
        home.prepare().unwrap();
        (folder, home)
    }

    #[test]
    fn the_second_daemon_is_told_who_has_the_lock() {
        let (_folder, home) = home();
        let own = std::process::id();
        assert_eq!(probe(&home).unwrap(), LockState::Free);
        let lock = HomeLock::acquire(&home).unwrap();
        assert_eq!(probe(&home).unwrap(), LockState::Held { pid: Some(own) });
        match HomeLock::acquire(&home) {
            Err(LockError::Held { pid, .. }) => assert_eq!(pid, Some(own)),
            other => panic!("{other:?}"),
        }
        drop(lock);
        assert!(!home.lock_file().exists());
        assert_eq!(probe(&home).unwrap(), LockState::Free);
        HomeLock::acquire(&home).unwrap();
    }

    #[test]
    fn a_removed_sign_changes_nothing_and_is_made_again() {
        let (_folder, home) = home();
        let lock = HomeLock::acquire(&home).unwrap();
        std::fs::remove_file(home.lock_file()).unwrap();
        assert_eq!(probe(&home).unwrap(), LockState::Held { pid: None });
        assert!(HomeLock::acquire(&home).is_err());
        lock.refresh().unwrap();
        assert!(home.lock_file().exists());
        lock.refresh().unwrap();
    }

    #[test]
    fn a_stale_sign_stops_nobody() {
        let (_folder, home) = home();
        std::fs::write(home.lock_file(), "4194304\n").unwrap();
        assert_eq!(probe(&home).unwrap(), LockState::Free);
        let lock = HomeLock::acquire(&home).unwrap();
        let text = std::fs::read_to_string(home.lock_file()).unwrap();
        assert_eq!(text, format!("{}\n", std::process::id()));
        drop(lock);
    }

    #[test]
    fn a_client_that_looks_does_not_keep_a_daemon_from_starting() {
        let (_folder, home) = home();
        let probing = File::open(home.root()).unwrap();
        probing.lock_shared().unwrap();
        let release = thread::spawn(move || {
            thread::sleep(LOCK_TIMEOUT / 4);
            drop(probing);
        });
        HomeLock::acquire(&home).unwrap();
        release.join().unwrap();
    }

    #[test]
    fn a_home_that_is_not_there_is_free() {
        let folder = tempdir().unwrap();
        let home = Home::at(folder.path().join("absent"));
        assert_eq!(probe(&home).unwrap(), LockState::Free);
    }

    #[test]
    fn a_home_that_was_replaced_is_noticed_and_the_new_one_is_left_alone() {
        let (_folder, home) = home();
        let lock = HomeLock::acquire(&home).unwrap();
        assert!(lock.is_in_place());
        std::fs::remove_dir_all(home.root()).unwrap();
        assert!(!lock.is_in_place());
        home.prepare().unwrap();
        assert!(!lock.is_in_place());
        let other = HomeLock::acquire(&home).unwrap();
        drop(lock);
        assert!(other.is_in_place() && home.lock_file().exists());
    }
}
