//! What a process that serves files reports of them, on its way into the audit record.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use malai_wire::file_report::{FileReport, MAX_REPORT};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

use crate::audit::FileRecords;

/// The end of the pipe that the new process is to have.
#[derive(Debug)]
pub(super) struct ReportsOut(OwnedFd);

impl ReportsOut {
    /// The pipe: what the process writes can be read from the second.
    pub(super) fn pipe() -> io::Result<(Self, OwnedFd)> {
        let (reports, out) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        // Not one of the three that the new process has for other things.
        let out = rustix::io::fcntl_dupfd_cloexec(&out, 3)?;
        Ok((Self(out), reports))
    }

    /// Its number in the new process.
    pub(super) fn number(&self) -> String {
        self.0.as_fd().as_raw_fd().to_string()
    }

    /// To be called between fork and exec: the descriptor outlives the exec of this process alone. Allocates nothing.
    pub(super) fn keep(&self) -> io::Result<()> {
        Ok(rustix::io::fcntl_setfd(
            &self.0,
            rustix::io::FdFlags::empty(),
        )?)
    }
}

/// Records reports until the process has ended. Where one cannot be recorded and has to be, or is not a report, reading
/// ends: the process finds that out, and changes nothing more.
pub(super) async fn record(reports: OwnedFd, mut records: FileRecords) {
    let mut reports = match Receiver::from_owned_fd(reports) {
        Ok(reports) => reports,
        Err(error) => return tracing::warn!("what is done to files cannot be recorded: {error}"),
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
                return tracing::warn!("what is done to files cannot be recorded: {error}");
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
    let wrong = || io::Error::other("the process that serves them sends what is not a report");
    if length > MAX_REPORT {
        return Err(wrong());
    }
    let mut body = vec![0; length];
    reports.read_exact(&mut body).await?;
    FileReport::decode(&body).map(Some).ok_or_else(wrong)
}
