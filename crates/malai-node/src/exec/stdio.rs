//! A command's standard streams: the tasks that move their bytes, and the rest after its exit.

use std::io;
use std::sync::Arc;

use malai_wire::peer::exec::{Signal, Size, Terminal};
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinHandle};

use crate::audit::Counts;
use crate::exec::io::{FlowError, PauseGate, Sink, Source};
use crate::exec::spawn::ParentStdio;
use crate::exec::{pipes, terminal};

/// The streams of a command.
#[derive(Debug)]
pub(crate) struct Stdio {
    /// Its standard input.
    pub stdin: Source,
    /// Its standard output.
    pub stdout: Sink,
    /// Its standard error.
    pub stderr: Sink,
    /// Holds both outputs back while the client is stopped.
    pub gate: PauseGate,
    /// The terminal for the command; `None` for pipes.
    pub terminal: Option<Terminal>,
}

/// An event for a running command, besides its streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControlEvent {
    /// A signal.
    Signal(Signal),
    /// A new size of its terminal.
    Resize(Size),
}

/// The tasks that move a command's bytes. Dropping this stops them.
#[derive(Debug)]
pub(super) struct IoTasks {
    feeding: JoinHandle<()>,
    out: JoinHandle<Moved>,
    err: JoinHandle<Moved>,
    /// Tells both outputs that the command has exited.
    exited: Option<[oneshot::Sender<()>; 2]>,
    /// How its output ended, if that was before its exit.
    last_output: Option<Result<Moved, JoinError>>,
}

/// How many bytes were moved, and what prevented more.
pub(super) type Moved = (u64, Result<(), FlowError>);

impl IoTasks {
    /// Starts to move bytes between a command and its client.
    ///
    /// # Errors
    ///
    /// The terminal cannot be used.
    pub(super) fn start(
        ends: ParentStdio,
        streams: Stdio,
        counts: Arc<Counts>,
    ) -> io::Result<Self> {
        let Stdio {
            stdin: input,
            stdout: out_sink,
            stderr: err_sink,
            gate,
            ..
        } = streams;
        let (out_ended, out_end) = oneshot::channel();
        let (err_ended, err_end) = oneshot::channel();
        let (feeding, out, err) = match ends {
            ParentStdio::Pipes {
                stdin,
                stdout,
                stderr,
            } => (
                tokio::spawn(Box::pin(pipes::feed(input, stdin, counts.clone()))),
                tokio::spawn(Box::pin(pipes::drain(
                    stdout,
                    out_sink,
                    gate.clone(),
                    out_end,
                    counts.clone(),
                    |counts| &counts.stdout,
                ))),
                match stderr {
                    Some(stderr) => tokio::spawn(Box::pin(pipes::drain(
                        stderr,
                        err_sink,
                        gate,
                        err_end,
                        counts,
                        |counts| &counts.stderr,
                    ))),
                    None => tokio::spawn(async { (0, Ok(())) }),
                },
            ),
            ParentStdio::Terminal(pty) => {
                let (reader, writer) = (pty.reader()?, pty.writer()?);
                (
                    tokio::spawn(terminal::feed(input, writer, pty.clone(), counts.clone())),
                    tokio::spawn(terminal::drain(
                        reader, pty, out_sink, gate, out_end, counts,
                    )),
                    // A terminal has only one output.
                    tokio::spawn(async { (0, Ok(())) }),
                )
            }
        };
        Ok(Self {
            feeding,
            out,
            err,
            exited: Some([out_ended, err_ended]),
            last_output: None,
        })
    }

    /// Waits until the output ends or cannot be passed on any more, and stores how it ended. Call it only once.
    pub(super) async fn output_ends(&mut self) {
        if self.last_output.is_some() {
            std::future::pending::<()>().await;
        }
        self.last_output = Some((&mut self.out).await);
    }

    /// Passes on the rest: what is in the pipes of a command that has just exited. Returns what was moved of its standard output
    /// and of its standard error.
    ///
    /// # Errors
    ///
    /// A task failed.
    pub(super) async fn rest(&mut self) -> Result<[Moved; 2], JoinError> {
        self.feeding.abort();
        // Both are told at the same time, after the exit: what is in the pipes now is the rest.
        for exited in self.exited.take().into_iter().flatten() {
            let _ = exited.send(());
        }
        let last_output = self.last_output.take();
        let out = async {
            match last_output {
                Some(ended) => ended,
                None => (&mut self.out).await,
            }
        };
        let (out, err) = tokio::join!(out, &mut self.err);
        Ok([out?, err?])
    }
}

impl Drop for IoTasks {
    fn drop(&mut self) {
        self.feeding.abort();
        self.out.abort();
        self.err.abort();
    }
}
