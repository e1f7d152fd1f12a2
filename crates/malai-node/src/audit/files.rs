//! A session's files in the audit record: by name up to a limit, and the rest as a count.

use std::collections::BTreeMap;
use std::sync::Arc;

use malai_wire::Refusal;
use malai_wire::audit::{Change, Event, FileRecord, Request, UnnamedFiles, recorded_name};
use malai_wire::file_report::FileReport;

use super::Audit;

/// How many files of one session are recorded by name. More would push other sessions out of the record.
pub(crate) const NAMED: usize = 1000;

/// How many open files are tracked: more than a server may have.
const OPEN: usize = 4096;

/// Turns a session's file reports into records. Files still open are recorded when this is dropped.
#[derive(Debug)]
pub(crate) struct FileRecords {
    audit: Arc<Audit>,
    request: Request,
    user: String,
    session: u64,
    /// Files that are open: whether they can be written, and their names.
    open: BTreeMap<u32, (bool, Vec<u8>)>,
    recorded: usize,
    left_out: u64,
    bytes_read: u64,
    bytes_written: u64,
}

impl FileRecords {
    /// Nothing has been recorded yet.
    pub(crate) fn new(audit: &Arc<Audit>, request: &Request, user: String, session: u64) -> Self {
        let mut request = request.clone();
        request.action = request.action.brief();
        Self {
            audit: audit.clone(),
            request,
            user,
            session,
            open: BTreeMap::new(),
            recorded: 0,
            left_out: 0,
            bytes_read: 0,
            bytes_written: 0,
        }
    }

    /// Records a report.
    ///
    /// # Errors
    ///
    /// The refusal, if it cannot be recorded but must be.
    pub(crate) fn add(&mut self, report: FileReport) -> Result<(), Refusal> {
        match report {
            FileReport::Opened {
                number,
                write,
                created,
                path,
            } => {
                if write {
                    let change = if created {
                        Change::Created
                    } else {
                        Change::Opened
                    };
                    self.record(change, &path, None, None)?;
                }
                if self.open.len() < OPEN {
                    self.open.insert(number, (write, path));
                }
                Ok(())
            }
            FileReport::Closed {
                number,
                read,
                written,
            } => match self.open.remove(&number) {
                Some((true, path)) => {
                    if read > 0 {
                        self.record(Change::Read, &path, None, Some(read))?;
                    }
                    self.record(Change::Written, &path, None, Some(written))
                }
                Some((false, path)) => self.record(Change::Read, &path, None, Some(read)),
                None => Ok(()),
            },
            FileReport::Created { path } => self.record(Change::Created, &path, None, None),
            FileReport::Removed { path } => self.record(Change::Removed, &path, None, None),
            FileReport::Renamed { path, to } => {
                self.record(Change::Renamed, &path, Some(&to), None)
            }
            FileReport::Linked { path, to } => self.record(Change::Linked, &path, Some(&to), None),
            FileReport::Changed { path } => self.record(Change::Changed, &path, None, None),
            FileReport::Refused { path } => self.record(Change::Refused, &path, None, None),
        }
    }

    fn record(
        &mut self,
        change: Change,
        path: &[u8],
        to: Option<&[u8]>,
        bytes: Option<u64>,
    ) -> Result<(), Refusal> {
        if self.recorded >= NAMED {
            self.left_out += 1;
            match change {
                Change::Read => self.bytes_read += bytes.unwrap_or(0),
                Change::Written => self.bytes_written += bytes.unwrap_or(0),
                _ => {}
            }
            return Ok(());
        }
        self.recorded += 1;
        let named = self.audit.settings().arguments;
        self.audit.record(Event::File(FileRecord {
            request: self.request.clone(),
            user: self.user.clone(),
            session: self.session,
            change,
            path: named.then(|| recorded_name(path)),
            to: to.filter(|_| named).map(recorded_name),
            bytes,
        }))
    }
}

impl Drop for FileRecords {
    fn drop(&mut self) {
        // A failure to write has been reported, and the files are as they are.
        for (_, (write, path)) in std::mem::take(&mut self.open) {
            let change = if write { Change::Written } else { Change::Read };
            let _ = self.record(change, &path, None, None);
        }
        if self.left_out > 0 {
            let _ = self.audit.record(Event::Files(UnnamedFiles {
                request: self.request.clone(),
                user: self.user.clone(),
                session: self.session,
                left_out: self.left_out,
                bytes_read: self.bytes_read,
                bytes_written: self.bytes_written,
            }));
        }
    }
}
