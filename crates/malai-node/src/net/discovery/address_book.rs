//! The addresses where members were last proven to be: hints for the next dial, kept across restarts.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use malai_cluster::MachineId;
use parking_lot::Mutex;

use crate::os::fs::{self, StoreError};

/// How many addresses are kept per member, latest first.
const MAX_PER_MEMBER: usize = 4;

/// The maximum size of the file in bytes: much more than 10,000 members need.
const MAX_FILE_SIZE: u64 = 8 * 1024 * 1024;

/// The remembered addresses of one cluster's members.
#[derive(Debug)]
pub(crate) struct AddressBook {
    file: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    known: BTreeMap<MachineId, Vec<SocketAddr>>,
    changed: bool,
}

impl AddressBook {
    /// Reads the file. It contains only hints, so an unreadable file is discarded.
    pub(crate) fn load(file: &Path) -> Self {
        let known = match fs::read_text(file, MAX_FILE_SIZE) {
            Ok(Some(text)) => serde_json::from_str(&text).unwrap_or_else(|error| {
                tracing::warn!(file = %file.display(), "discarding the remembered addresses, which cannot be parsed: {error}");
                BTreeMap::new()
            }),
            Ok(None) => BTreeMap::new(),
            Err(error) => {
                tracing::warn!("cannot read the remembered addresses: {error}");
                BTreeMap::new()
            }
        };
        let mut known: BTreeMap<MachineId, Vec<SocketAddr>> = known;
        known
            .values_mut()
            .for_each(|list| list.truncate(MAX_PER_MEMBER));
        Self {
            file: file.to_owned(),
            inner: Mutex::new(Inner {
                known,
                changed: false,
            }),
        }
    }

    /// Remembers an address that was proven to be a member's.
    pub(crate) fn remember(&self, member: MachineId, address: SocketAddr) {
        let mut inner = self.inner.lock();
        let of_member = inner.known.entry(member).or_default();
        if of_member.first() != Some(&address) {
            of_member.retain(|known| *known != address);
            of_member.insert(0, address);
            of_member.truncate(MAX_PER_MEMBER);
            inner.changed = true;
        }
    }

    /// A member's addresses, latest first.
    pub(crate) fn of(&self, member: &MachineId) -> Vec<SocketAddr> {
        self.inner
            .lock()
            .known
            .get(member)
            .cloned()
            .unwrap_or_default()
    }

    /// Writes the file if something has changed.
    ///
    /// # Errors
    ///
    /// The file cannot be written. The next call tries again.
    pub(crate) fn save(&self) -> Result<(), StoreError> {
        let text = {
            let mut inner = self.inner.lock();
            if !std::mem::take(&mut inner.changed) {
                return Ok(());
            }
            serde_json::to_string_pretty(&inner.known).unwrap_or_default()
        };
        fs::write_atomic(&self.file, text.as_bytes(), 0o600)
            .inspect_err(|_| self.inner.lock().changed = true)
    }
}
