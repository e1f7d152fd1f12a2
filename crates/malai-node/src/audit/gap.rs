//! The number of missing records, stored so that a full disk does not matter: in a small file that is written in advance
//! and only ever overwritten.
//!
//! Every process that writes the record adds what it could not write; the next process that can write records the gap. So
//! a gap outlives the processes that noticed it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use malai_wire::audit::Lost;

use crate::os::fs::{StoreError, open_own};

/// The size of the file in bytes: larger than its content.
const SIZE: usize = 512;

/// The maximum length of a stored reason in bytes.
const MAX_REASON: usize = 200;

/// How often to try to lock the file, a millisecond apart.
const TRIES: usize = 50;

/// The file.
#[derive(Debug)]
pub(super) struct Gap {
    path: PathBuf,
}

impl Gap {
    /// The gap file of this record. Nothing is opened yet.
    pub(super) fn beside(record: &Path) -> Self {
        Self {
            path: record.with_extension("gap"),
        }
    }

    /// Allocates the file if it does not exist. If there is no space, a gap is known only while the process lives.
    pub(super) fn prepare(&self) {
        let made = || {
            let file = open(options().create_new(true), &self.path)?;
            file.write_all_at(&[b' '; SIZE], 0)
        };
        match made() {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                let _ = std::fs::remove_file(&self.path);
                tracing::debug!("a gap in the audit record would not outlive the daemon: {error}");
            }
        }
    }

    /// Adds records that could not be written.
    pub(super) fn add(&self, lost: &Lost) {
        // If this fails, the process that noticed the gap still knows it.
        if let Err(error) = self.change(|known| Some(merged(known, lost))) {
            tracing::debug!("cannot store a gap in the audit record: {error}");
        }
    }

    /// Whether the file exists.
    pub(super) fn is_there(&self) -> bool {
        self.path.is_file()
    }

    /// The missing records, if any.
    pub(super) fn known(&self) -> Option<Lost> {
        read(&open(&mut options(), &self.path).ok()?)
    }

    /// Takes the missing records, in order to record them.
    pub(super) fn take(&self) -> Option<Lost> {
        let mut taken = None;
        let cleared = self.change(|known| {
            taken = known;
            None
        });
        taken.filter(|_| cleared.is_ok())
    }

    /// Changes the file, one process at a time.
    fn change(&self, change: impl FnOnce(Option<Lost>) -> Option<Lost>) -> io::Result<()> {
        let file = open(&mut options(), &self.path)?;
        lock(&file)?;
        let changed = change(read(&file));
        let mut bytes = match &changed {
            Some(lost) => serde_json::to_vec(lost)?,
            None => Vec::new(),
        };
        if bytes.len() > SIZE {
            return Err(io::Error::other("too long"));
        }
        bytes.resize(SIZE, b' ');
        file.write_all_at(&bytes, 0)
    }
}

/// Takes the file's lock, which others hold for one read and one write. A process that was stopped in between
/// must not hold up a daemon.
fn lock(file: &File) -> io::Result<()> {
    for _ in 0..TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(1)),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Err(io::Error::from(io::ErrorKind::WouldBlock))
}

fn options() -> OpenOptions {
    let mut options = File::options();
    options.read(true).write(true);
    options
}

fn open(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    open_own(path, options).map_err(|error| match error {
        StoreError::Io { source, .. } => source,
        other => io::Error::other(other),
    })
}

fn read(file: &File) -> Option<Lost> {
    let mut bytes = [0; SIZE];
    let length = file.read_at(&mut bytes, 0).ok()?;
    let lost: Lost = serde_json::from_slice(&bytes[..length]).ok()?;
    (lost.records > 0).then_some(lost)
}

/// Both gaps as one: since the start of the first, with the reason of the last.
fn merged(known: Option<Lost>, lost: &Lost) -> Lost {
    let mut merged = lost.clone();
    if let Some(known) = known {
        merged.records = merged.records.saturating_add(known.records);
        merged.since = merged.since.min(known.since);
    }
    while merged.why.len() > MAX_REASON {
        merged.why.pop();
    }
    merged
}
