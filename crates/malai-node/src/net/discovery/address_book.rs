//! Where members were last proven to be: hints for the next dial, kept across restarts.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use malai_cluster::MachineId;
use parking_lot::Mutex;

use crate::os::fs::{self, StoreError};

/// Addresses kept for one member, the latest first.
const MOST: usize = 4;

/// The largest file that is read, in bytes: far more than 10,000 members need.
const CAP: u64 = 8 * 1024 * 1024;

/// Remembered addresses of one cluster's members.
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
    /// Reads the file. It holds hints and nothing else: one that cannot be read is started again.
    pub(crate) fn load(file: &Path) -> Self {
        let known = match fs::read_text(file, CAP) {
            Ok(Some(text)) => serde_json::from_str(&text).unwrap_or_else(|error| {
                tracing::warn!(file = %file.display(), "remembered addresses cannot be read and are forgotten: {error}");
                BTreeMap::new()
            }),
            Ok(None) => BTreeMap::new(),
            Err(error) => {
                tracing::warn!("remembered addresses cannot be read: {error}");
                BTreeMap::new()
            }
        };
        let mut known: BTreeMap<MachineId, Vec<SocketAddr>> = known;
        known.values_mut().for_each(|list| list.truncate(MOST));
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
            of_member.truncate(MOST);
            inner.changed = true;
        }
    }

    /// A member's addresses, the latest first.
    pub(crate) fn of(&self, member: &MachineId) -> Vec<SocketAddr> {
        self.inner
            .lock()
            .known
            .get(member)
            .cloned()
            .unwrap_or_default()
    }

    /// Writes the file if anything has changed.
    ///
    /// # Errors
    ///
    /// The file cannot be written; it is tried again the next time.
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
