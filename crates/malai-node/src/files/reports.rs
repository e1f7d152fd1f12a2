//! Reports file operations to the malai process that keeps the audit record.

use std::io::Write;
use std::os::fd::OwnedFd;

use malai_wire::file_report::FileReport;
use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::os::fd;

/// The pipe to the process that keeps the record; without it, nothing is recorded.
#[derive(Debug, Default)]
pub(crate) struct Reports(Option<Mutex<std::fs::File>>);

/// The change must not be made, because it could not be recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotRecorded;

impl Reports {
    /// Reports to this descriptor, with which the process was started; `None` reports nothing.
    ///
    /// # Errors
    ///
    /// It was not started with such a descriptor.
    pub(crate) fn inherited(number: Option<i32>) -> std::io::Result<Self> {
        Ok(match number {
            Some(number) => Self::to(fd::inherited(number)?),
            None => Self::default(),
        })
    }

    /// Reports to this pipe.
    pub(crate) fn to(pipe: OwnedFd) -> Self {
        Self(Some(Mutex::new(pipe.into())))
    }

    /// Whether an operation can be recorded. Call it before the operation.
    ///
    /// # Errors
    ///
    /// The process that keeps the record has stopped reading.
    pub(crate) fn ready(&self) -> Result<(), NotRecorded> {
        let Some(pipe) = &self.0 else { return Ok(()) };
        let pipe = pipe.lock();
        let mut polled = [PollFd::new(&*pipe, PollFlags::empty())];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        match poll(&mut polled, Some(&now)) {
            Ok(_) if polled[0].revents().contains(PollFlags::ERR) => Err(NotRecorded),
            _ => Ok(()),
        }
    }

    /// Reports what was done. Waits if the process that keeps the record is slow.
    ///
    /// # Errors
    ///
    /// The process that keeps the record has stopped reading.
    pub(crate) fn tell(&self, report: &FileReport) -> Result<(), NotRecorded> {
        let Some(pipe) = &self.0 else { return Ok(()) };
        let report = report.encode().ok_or(NotRecorded)?;
        pipe.lock().write_all(&report).map_err(|_| NotRecorded)
    }
}
