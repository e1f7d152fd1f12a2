//! A session in the audit record: its start before anything runs, its end whatever way it takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use malai_wire::Refusal;
use malai_wire::audit::{End, Event, Start};
use malai_wire::peer::exec::{Exit, Status};

use super::Audit;

use crate::cluster::authorize::Command;
use crate::exec::process::Outcome;

/// What is counted while a command runs.
#[derive(Debug, Default)]
pub struct Counts {
    /// Bytes that it was given.
    pub stdin: AtomicU64,
    /// Bytes of its output that were passed on.
    pub stdout: AtomicU64,
    /// Bytes of its complaints that were passed on.
    pub stderr: AtomicU64,
    /// Whether it was started at all.
    pub started: AtomicBool,
}

/// A session whose start is recorded; its end is recorded at the latest when this is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    audit: Arc<Audit>,
    begun: Instant,
    /// What is counted meanwhile.
    pub counts: Arc<Counts>,
    /// The record of the end, but for what is not known yet.
    end: Option<End>,
}

impl Running {
    /// Records that a command is about to start.
    ///
    /// # Errors
    ///
    /// The refusal, if that cannot be recorded and has to be.
    pub(crate) fn begin(audit: &Arc<Audit>, command: &Command) -> Result<Self, Refusal> {
        let (request, session) = (command.request.clone(), command.session);
        let user = command.run_as.to_string();
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
    pub(crate) fn end(mut self, outcome: &Outcome) {
        if let Some(end) = &mut self.end {
            let exited = |end: &mut End, exit: &Exit| match exit.status {
                Status::Code(code) => end.exit = Some(code),
                Status::Signal(signal) => end.signal = Some(signal),
            };
            match outcome {
                Outcome::Exit(exit) => exited(end, exit),
                Outcome::ReaderGone(exit) => exited(end, exit),
                _ => {}
            }
            end.why = match outcome {
                Outcome::Exit(_) if !self.counts.started.load(Ordering::Relaxed) => {
                    "the command could not be started".to_owned()
                }
                Outcome::Exit(_) => "the command ended".to_owned(),
                Outcome::ReaderGone(_) => {
                    "the command ended; the reader of its output had gone".to_owned()
                }
                Outcome::ClientGone => "the client went before the end".to_owned(),
                Outcome::Ended(reason, _) => reason.message.clone(),
                Outcome::Failed(why) => format!("failed: {why}"),
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
        // Where it cannot be written that has been said; the command has run.
        let _ = self.audit.record(Event::End(end));
    }
}
