//! What `malai cp` does to the files of a machine, for its audit record.

use malai_wire::copy::Kind;
use malai_wire::file_report::FileReport;

use super::{Observer, destination};
use crate::files::reports::Reports;

/// Reports what is read and written.
pub(super) struct Recorder {
    reports: Reports,
    /// The path of each source on this machine.
    tops: Vec<Vec<u8>>,
    /// The number of the next file.
    next: u32,
}

impl Recorder {
    pub(super) fn new(reports: Reports, tops: Vec<Vec<u8>>) -> Self {
        Self {
            reports,
            tops,
            next: 0,
        }
    }

    fn path(&self, source: u32, below: &[u8]) -> Vec<u8> {
        let top = self.tops.get(source as usize);
        destination::below(top.map_or(&b""[..], |top| top), below)
    }

    fn open(&self, source: u32, path: &[u8], write: bool, created: bool) {
        self.tell(&FileReport::Opened {
            number: self.next,
            write,
            created,
            path: self.path(source, path),
        });
    }

    /// A failed report is the last: from then on [`Observer::changing`] refuses everything.
    fn tell(&self, report: &FileReport) {
        let _ = self.reports.tell(report);
    }
}

impl Observer for Recorder {
    fn changing(&mut self) -> Result<(), String> {
        let refused = |_| "this machine must record it, but cannot".to_owned();
        self.reports.ready().map_err(refused)
    }

    fn reading(&mut self, source: u32, path: &[u8]) {
        self.open(source, path, false, false);
    }

    fn written(&mut self, source: u32, path: &[u8], created: bool) {
        self.open(source, path, true, created);
    }

    fn closed(&mut self, read: u64, written: u64) {
        self.tell(&FileReport::Closed {
            number: self.next,
            read,
            written,
        });
        self.next = self.next.wrapping_add(1);
    }

    fn made(&mut self, source: u32, path: &[u8], kind: &Kind) {
        let path = self.path(source, path);
        let report = match kind {
            Kind::Symlink(to) => FileReport::Linked {
                path,
                to: to.clone(),
            },
            Kind::HardLink(source, to) => FileReport::Linked {
                path,
                to: self.path(*source, to),
            },
            _ => FileReport::Created { path },
        };
        self.tell(&report);
    }
}
