//! Sessions whose end is not in the record: the daemon that ran them was killed, or the machine went down.

use std::collections::BTreeMap;

use malai_wire::audit::{End, Event, Record, Start};

use super::{Audit, AuditReader, files, now};
use crate::os::fs::StoreError;

/// How many files are read, from the newest: this bounds the time that a start takes.
const READ: usize = 2;

/// How many ends are recorded at most.
const MOST: usize = 1000;

/// Why such a session ended.
const WHY: &str =
    "malai ended before it could record the end; exit code, bytes and duration are unknown";

impl Audit {
    /// Records an end for each session of a peer that an earlier daemon left without one. Only the process that holds the
    /// home's lock may call it: no other daemon runs sessions then. Commands of this computer may be running in processes
    /// without a daemon, so their sessions are left alone.
    pub(crate) fn end_killed(&self) {
        let killed = match self.killed() {
            Ok(killed) => killed,
            Err(error) => {
                tracing::warn!("cannot look for sessions of a killed daemon: {error}");
                return;
            }
        };
        for ((instance, session), start) in killed.into_iter().take(MOST) {
            let record = Record {
                time: now(),
                event: Event::End(End {
                    request: start.request,
                    user: start.user,
                    session,
                    exit: None,
                    signal: None,
                    why: WHY.to_owned(),
                    bytes_in: 0,
                    bytes_out: 0,
                    bytes_err: 0,
                    duration_ms: 0,
                }),
                instance,
            };
            // What is missing now is found at the next start again.
            if self.write(&record.to_line()).is_err() {
                return;
            }
        }
    }

    /// Starts without an end, by the run of malai and the session's number.
    fn killed(&self) -> Result<BTreeMap<(String, u64), Start>, StoreError> {
        let mut reader = AuditReader::of_files(files(&self.path).take(READ).collect())?;
        let mut open = BTreeMap::new();
        while let Some(entry) = reader.next_entry()? {
            let instance = entry.record.instance;
            match entry.record.event {
                Event::Start(start) if start.request.from != "here" => {
                    open.insert((instance, start.session), start);
                }
                Event::End(end) => drop(open.remove(&(instance, end.session))),
                _ => {}
            }
        }
        Ok(open)
    }
}
