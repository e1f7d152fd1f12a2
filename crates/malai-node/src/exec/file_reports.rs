//! The file reports of a process that serves files, on their way to the audit record.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use malai_wire::file_report::{FileReport, MAX_REPORT};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

use crate::audit::FileRecords;

/// The end of the pipe for the new process.
#[derive(Debug)]
pub(super) struct ReportsOut(OwnedFd);

impl ReportsOut {
    /// Creates the pipe: the process writes to the first end, and the second is read here.
    pub(super) fn pipe() -> io::Result<(Self, OwnedFd)> {
        let (reports, out) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        // Must not be one of the three standard descriptors of the new process.
        let out = rustix::io::fcntl_dupfd_cloexec(&out, 3)?;
        Ok((Self(out), reports))
    }

    /// Its number in the new process.
    pub(super) fn number(&self) -> String {
        self.0.as_fd().as_raw_fd().to_string()
    }

    /// Called between fork and exec: keeps the descriptor open across the exec of this process only. Allocates nothing.
    pub(super) fn keep(&self) -> io::Result<()> {
        Ok(rustix::io::fcntl_setfd(
            &self.0,
            rustix::io::FdFlags::empty(),
        )?)
    }
}

/// Records reports until the process has exited. If a report cannot be recorded although that is required, or is invalid,
/// reading stops; the process notices that and changes nothing more.
pub(super) async fn record(reports: OwnedFd, mut records: FileRecords) {
    let mut reports = match Receiver::from_owned_fd(reports) {
        Ok(reports) => reports,
        Err(error) => return tracing::warn!("cannot record file operations: {error}"),
    };
    loop {
        match next(&mut reports).await {
            Ok(Some(report)) => {
                if records.add(report).is_err() {
                    return;
                }
            }
            Ok(None) => return,
            Err(error) => {
                return tracing::warn!("cannot record file operations: {error}");
            }
        }
    }
}

async fn next(reports: &mut Receiver) -> io::Result<Option<FileReport>> {
    let length = match reports.read_u32().await {
        Ok(length) => usize::try_from(length).unwrap_or(usize::MAX),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    let wrong = || io::Error::other("the process that serves files sent an invalid report");
    if length > MAX_REPORT {
        return Err(wrong());
    }
    let mut body = vec![0; length];
    reports.read_exact(&mut body).await?;
    FileReport::decode(&body).map(Some).ok_or_else(wrong)
}
