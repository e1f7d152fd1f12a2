//! A session in the audit record: its start before anything runs, and its end, for whatever reason.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use malai_wire::Refusal;
use malai_wire::audit::{End, Event, Request, Start};
use malai_wire::peer::exec::{Exit, Status};

use super::Audit;

/// Counts kept while a command runs.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Bytes of standard input that it received.
    pub stdin: AtomicU64,
    /// Bytes of standard output that were passed on.
    pub stdout: AtomicU64,
    /// Bytes of standard error that were passed on.
    pub stderr: AtomicU64,
    /// Whether it was started.
    pub started: AtomicBool,
}

/// Why a session ended.
#[derive(Debug, Clone, Copy)]
pub(crate) enum EndReason<'a> {
    /// The command exited, and all its output was passed on.
    Exited(&'a Exit),
    /// The command exited, but the reader of its output had gone.
    ReaderGone(&'a Exit),
    /// The client went away before the command exited.
    ClientGone,
    /// This side ended it for this reason.
    Ended(&'a str),
    /// Running it failed.
    Failed(&'a str),
}

impl fmt::Display for EndReason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EndReason::Exited(_) => f.write_str("the command ended"),
            EndReason::ReaderGone(_) => {
                f.write_str("the command ended; the reader of its output had gone")
            }
            EndReason::ClientGone => f.write_str("the client went before the end"),
            EndReason::Ended(reason) => f.write_str(reason),
            EndReason::Failed(why) => write!(f, "failed: {why}"),
        }
    }
}

/// A session whose start is recorded. Its end is recorded at the latest when this is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    audit: Arc<Audit>,
    begun: Instant,
    /// Its counts.
    pub counts: Arc<Counts>,
    /// The record of the end, except for what is not known yet.
    end: Option<End>,
}

impl Running {
    /// Records that a command is about to start.
    ///
    /// # Errors
    ///
    /// The refusal, if it cannot be recorded although that is required.
    pub(crate) fn begin(
        audit: &Arc<Audit>,
        request: Request,
        user: String,
        session: u64,
    ) -> Result<Self, Refusal> {
        audit.record(Event::Start(Start {
            request: request.clone(),
            user: user.clone(),
            session,
        }))?;
        Ok(Self {
            audit: audit.clone(),
            begun: Instant::now(),
            counts: Arc::default(),
            end: Some(End {
                request,
                user,
                session,
                exit: None,
                signal: None,
                why: "malai stopped before its end".to_owned(),
                bytes_in: 0,
                bytes_out: 0,
                bytes_err: 0,
                duration_ms: 0,
            }),
        })
    }

    /// Records the end.
    pub(crate) fn end(mut self, reason: EndReason<'_>) {
        if let Some(end) = &mut self.end {
            if let EndReason::Exited(exit) | EndReason::ReaderGone(exit) = reason {
                match exit.status {
                    Status::Code(code) => end.exit = Some(code),
                    Status::Signal(signal) => end.signal = Some(signal),
                }
            }
            end.why = match reason {
                EndReason::Exited(_) if !self.counts.started.load(Ordering::Relaxed) => {
                    "the command could not be started".to_owned()
                }
                reason => reason.to_string(),
            };
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(mut end) = self.end.take() else {
            return;
        };
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        end.bytes_in = count(&self.counts.stdin);
        end.bytes_out = count(&self.counts.stdout);
        end.bytes_err = count(&self.counts.stderr);
        end.duration_ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        // A failure to write has been reported, and the command has run.
        let _ = self.audit.record(Event::End(end));
    }
}
