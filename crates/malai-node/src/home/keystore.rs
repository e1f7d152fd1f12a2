//! Secret keys in files: created from the system's randomness, readable only by their owner.

use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use malai_cluster::{SecretSeed, SeedError, quote_bytes};
use rand::TryRng;
use rand::rngs::SysRng;

use crate::os::fs::{self, StoreError, display_path};
use crate::os::trust;

/// The maximum size of a key file in bytes. A valid one has 65.
const MAX_KEY_FILE: u64 = 1024;

/// Why a private key cannot be created or read. No variant reveals anything about the key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// There is no such file.
    #[error(
        "the private key {} is missing; restore it from a backup (without it this computer loses its identity)",
        display_path(path)
    )]
    Missing {
        /// The key file.
        path: PathBuf,
    },
    /// Others can read or change the key.
    #[error(
        "the private key {} has mode {mode:04o}, so other users can access it; if it has not been exposed, fix it with: chmod 600 {}",
        display_path(path),
        quoted(path)
    )]
    Exposed {
        /// The key file.
        path: PathBuf,
        /// Its mode's permission bits.
        mode: u32,
    },
    /// The file does not contain a key.
    #[error("cannot use {}: {source}", display_path(path))]
    Malformed {
        /// The key file.
        path: PathBuf,
        /// What is wrong with its content.
        source: SeedError,
    },
    /// The system provides no randomness.
    #[error("cannot create a private key: the system provides no randomness: {reason}")]
    NoRandomness {
        /// The system's error.
        reason: String,
    },
    /// The file cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Creates a new identity and stores its secret in this file, with mode 0600 from the first byte.
///
/// # Errors
///
/// [`StoreError::Exists`] if the file exists (it stays unchanged), or the system refuses.
pub fn create(path: &Path) -> Result<SecretSeed, KeyError> {
    let mut bytes = [0; 32];
    SysRng
        .try_fill_bytes(&mut bytes)
        .map_err(|error| KeyError::NoRandomness {
            reason: error.to_string(),
        })?;
    let seed = SecretSeed::from_bytes(bytes);
    fs::create_atomic(path, seed.to_file().as_bytes(), 0o600)?;
    Ok(seed)
}

/// Reads the secret in this file.
///
/// A symbolic link is followed; the mode that counts is that of its target.
///
/// # Errors
///
/// It is missing, a user other than its owner can read or change it, or it does not contain a key.
pub fn load(path: &Path) -> Result<SecretSeed, KeyError> {
    let text = read_private(path)?;
    SecretSeed::parse_file(&text).map_err(|source| KeyError::Malformed {
        path: path.to_path_buf(),
        source,
    })
}

/// The text of a file that only its owner can access.
///
/// # Errors
///
/// As [`load`], whatever the text is.
pub(crate) fn read_private(path: &Path) -> Result<String, KeyError> {
    let path_buf = || path.to_path_buf();
    let mut file = fs::open_file(path)?.ok_or_else(|| KeyError::Missing { path: path_buf() })?;
    // Read from the opened file, so that the file that is checked is the one that is read.
    let metadata = file.metadata().map_err(StoreError::io("examine", path))?;
    if !trust::is_trusted(&metadata) {
        return Err(StoreError::ForeignOwner {
            path: path_buf(),
            owner: metadata.uid(),
            user: trust::own_user(),
        }
        .into());
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Exposed {
            path: path_buf(),
            mode,
        });
    }
    if metadata.len() > MAX_KEY_FILE {
        return Err(StoreError::TooLarge {
            path: path_buf(),
            limit: MAX_KEY_FILE,
        }
        .into());
    }
    let mut text = String::new();
    file.by_ref()
        .take(MAX_KEY_FILE)
        .read_to_string(&mut text)
        .map_err(StoreError::io("read", path))?;
    Ok(text)
}

/// Quotes a path for a shell, for commands that the user is told to run.
pub(crate) fn quoted(path: &Path) -> String {
    quote_bytes(path.as_os_str().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use tempfile::tempdir;

    fn set_mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_is_made_can_be_loaded_and_is_its_owners_alone() {
        let folder = tempdir().unwrap();
        let path = folder.path().join("machine.private-key");
        let made = create(&path).unwrap();
        assert_eq!(load(&path).unwrap().id(), made.id());
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        let other = create(&folder.path().join("other")).unwrap();
        assert_ne!(other.id(), made.id());
    }

    #[test]
    fn a_key_that_is_there_is_never_overwritten() {
        let folder = tempdir().unwrap();
        let path = folder.path().join("key");
        let made = create(&path).unwrap();
        assert!(matches!(
            create(&path),
            Err(KeyError::Store(StoreError::Exists { .. }))
        ));
        assert_eq!(load(&path).unwrap().id(), made.id());
    }

    #[test]
    fn a_key_that_others_can_reach_is_refused_with_the_command_that_fixes_it() {
        let folder = tempdir().unwrap();
        let path = folder.path().join("my key");
        create(&path).unwrap();
        for mode in [0o644, 0o640, 0o604, 0o620, 0o601] {
            set_mode(&path, mode);
            let message = load(&path).unwrap_err().to_string();
            let fix = format!("chmod 600 '{}'", path.display());
            assert!(message.ends_with(&fix), "{message}");
        }
        let connection = folder.path().join("link");
        symlink(&path, &connection).unwrap();
        assert!(matches!(load(&connection), Err(KeyError::Exposed { .. })));
        set_mode(&path, 0o400);
        load(&path).unwrap();
        load(&connection).unwrap();
    }

    #[test]
    fn missing_and_damaged_keys_are_told_apart_and_never_shown() {
        let folder = tempdir().unwrap();
        let path = folder.path().join("key");
        assert!(matches!(load(&path), Err(KeyError::Missing { .. })));
        std::fs::write(&path, "c0ffee").unwrap();
        set_mode(&path, 0o600);
        let message = load(&path).unwrap_err().to_string();
        assert!(!message.contains("c0ffee"), "{message}");
        std::fs::write(&path, "x".repeat(2000)).unwrap();
        assert!(matches!(
            load(&path),
            Err(KeyError::Store(StoreError::TooLarge { .. }))
        ));
    }
}
