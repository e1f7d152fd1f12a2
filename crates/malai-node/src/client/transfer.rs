//! Passes a command's streams through until its exit, and checks that no byte is missing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use iroh::endpoint::{RecvStream, SendStream};
use malai_wire::Refusal;
use malai_wire::peer::StreamKind;
use malai_wire::peer::exec::{Exit, FromClient, FromServer};
use tokio::sync::{mpsc, oneshot, watch};

use super::open::{self, Session};
use super::{Caller, ExecError, end_or};

use crate::audit::Counts;
use crate::exec::io::{self, Count, FlowError, LazySendStream, PauseGate, Sink, Source};
use crate::exec::stdio::ControlEvent;
use crate::net::framing::{self, StreamError};
use crate::peer::connection::PeerConnection;
use crate::peer::streams::RawStream;

impl Session {
    /// Passes the streams through until the exit, and checks that no byte is missing.
    pub(super) async fn run(
        self,
        name: &str,
        caller: &mut Caller,
        counts: &Counts,
    ) -> Result<Exit, ExecError> {
        let Self {
            connection,
            mut control,
            mut answers,
            stdout,
            stderr,
            streams,
            in_use: _in_use,
            most_input,
        } = self;
        let Caller {
            stdin,
            stdout: out_sink,
            stderr: err_sink,
            gate,
            events,
            ..
        } = caller;
        let mut err_gate = gate.clone();
        let exit = {
            let most = most_input.subscribe();
            let feeding = feed(&connection, streams.session(), stdin, most, &counts.stdin);
            let received = [&counts.stdout, &counts.stderr].map(Received::new);
            let out = pass(stdout, "standard output", out_sink, gate, &received[0]);
            let err = pass(
                stderr,
                "standard error",
                err_sink,
                &mut err_gate,
                &received[1],
            );
            let answer = answered(&mut answers, &most_input, &mut control, events);
            tokio::pin!(feeding, out, err, answer);
            let (mut fed, mut out_done, mut err_done) = (false, false, false);
            let exit = loop {
                tokio::select! {
                    // Checked first: an answer that has arrived counts, whatever has failed since.
                    biased;
                    answer = &mut answer => break answer,
                    result = &mut out, if !out_done => { out_done = true; if let Err(error) = result { break Err(Broken::Flow(error)) } }
                    result = &mut err, if !err_done => { err_done = true; if let Err(error) = result { break Err(Broken::Flow(error)) } }
                    result = &mut feeding, if !fed => { fed = true; if let Err(error) = result { break Err(Broken::Flow(error)) } }
                }
            };
            match exit {
                Ok(exit) => {
                    // The exit contains the number of bytes sent. A stream without bytes was never opened, and one with more is not read to its end.
                    received[0].most.store(exit.stdout, Ordering::Relaxed);
                    received[1].most.store(exit.stderr, Ordering::Relaxed);
                    let comes = |received: &AtomicU64, sent| {
                        sent > 0 && received.load(Ordering::Relaxed) <= sent
                    };
                    let rest = async {
                        if comes(&counts.stdout, exit.stdout) && !out_done {
                            out.await?;
                        }
                        if comes(&counts.stderr, exit.stderr) && !err_done {
                            err.await?;
                        }
                        Ok(())
                    };
                    // Data that has arrived is read even if the connection has ended meanwhile.
                    rest.await.map_err(Broken::Flow).map(|()| exit)
                }
                Err(error) => Err(error),
            }
        };
        match exit {
            Ok(exit) => {
                let _ = control.finish();
                connection.heard_now();
                let both = [(&counts.stdout, exit.stdout), (&counts.stderr, exit.stderr)];
                for (received, sent) in both {
                    let received = received.load(Ordering::Relaxed);
                    if received != sent {
                        return Err(ExecError::Cut {
                            machine: name.to_owned(),
                            received,
                            sent,
                        });
                    }
                }
                Ok(exit)
            }
            Err(broken) => {
                // The machine ends the command when its control stream breaks.
                let _ = control.reset(0u32.into());
                Err(match broken {
                    Broken::Refused(refusal) => ExecError::Stopped {
                        machine: name.to_owned(),
                        refusal,
                    },
                    Broken::Stream(error) => ExecError::LostWhileRunning {
                        machine: name.to_owned(),
                        why: end_or(&connection, error.to_string()),
                    },
                    Broken::Flow(FlowError::Broken(why)) => ExecError::LostWhileRunning {
                        machine: name.to_owned(),
                        why: end_or(&connection, why),
                    },
                    Broken::Flow(FlowError::ReaderGone) => ExecError::ReaderGone,
                    Broken::Flow(error) => ExecError::Local(error),
                })
            }
        }
    }
}

/// How a session can end other than with an exit.
enum Broken {
    Refused(Refusal),
    Stream(StreamError),
    Flow(FlowError),
}

/// Waits for the exit, and sends signals and sizes meanwhile.
async fn answered(
    answers: &mut RecvStream,
    most_input: &watch::Sender<u64>,
    control: &mut SendStream,
    events: &mut mpsc::Receiver<ControlEvent>,
) -> Result<Exit, Broken> {
    let read = open::answer(answers, most_input);
    tokio::pin!(read);
    loop {
        tokio::select! {
            answer = &mut read => return match answer {
                Ok(Some(FromServer::Exit(exit))) => Ok(exit),
                Ok(Some(FromServer::Refused(refusal))) => Err(Broken::Refused(refusal)),
                Ok(Some(FromServer::Accepted | FromServer::Input(_)) | None) => Err(Broken::Stream(StreamError::Ended)),
                Err(error) => Err(Broken::Stream(error)),
            },
            Some(event) = events.recv() => {
                let message = match event {
                    ControlEvent::Signal(signal) => FromClient::Signal(signal),
                    ControlEvent::Resize(size) => FromClient::Resize(size),
                };
                // A machine whose command has exited stops reading; its answer, or the lack of one, shows what happened.
                let _ = framing::write(control, &message).await;
            }
        }
    }
}

/// Sends the caller's input. It is normal for a command to stop reading it.
async fn feed(
    connection: &Arc<PeerConnection>,
    session: u64,
    stdin: &mut Source,
    most: watch::Receiver<u64>,
    mut moved: &AtomicU64,
) -> Result<(), FlowError> {
    if matches!(stdin, Source::Empty) {
        return Ok(());
    }
    let mut sink = Sink::Stream(LazySendStream::new(
        connection.clone(),
        StreamKind::Stdin,
        session,
    ));
    let mut fed = io::copy_up_to(stdin, &mut sink, most, &mut moved).await;
    if let Err(FlowError::Read(error)) = &fed
        && moved.load(Ordering::Relaxed) == 0
    {
        // Not open for reading (nohup leaves it like that), or a folder: there is no input, as with ssh.
        tracing::debug!("standard input cannot be read and counts as empty: {error}");
        fed = Ok(());
    }
    if fed.is_ok() {
        fed = sink.finish_even_if_empty().await;
    }
    match fed {
        Ok(()) => Ok(()),
        Err(FlowError::ReaderGone) => Ok(()),
        // The control stream shows what happened to the command.
        Err(FlowError::Broken(_)) => std::future::pending().await,
        Err(error) => Err(error),
    }
}

/// The output received, and how much there may be: the machine reports that at the end, and may lie.
struct Received<'c> {
    moved: &'c AtomicU64,
    most: AtomicU64,
}

impl<'c> Received<'c> {
    fn new(moved: &'c AtomicU64) -> Self {
        Received {
            moved,
            most: AtomicU64::new(u64::MAX),
        }
    }
}

impl Count for &Received<'_> {
    fn add(&mut self, bytes: u64) {
        self.moved.fetch_add(bytes, Ordering::Relaxed);
    }

    fn is_too_much(&self) -> bool {
        self.moved.load(Ordering::Relaxed) > self.most.load(Ordering::Relaxed)
    }
}

/// The error when the machine's byte count differs from the bytes received.
pub(super) fn miscounted(machine: &str, received: u64, sent: u64) -> String {
    match received < sent {
        true => format!("output of {machine} was lost: {received} of {sent} bytes arrived"),
        false => format!(
            "{machine} sent more output than it reported: at least {received} bytes, not {sent}"
        ),
    }
}

/// Passes one stream through to its end.
async fn pass(
    stream: oneshot::Receiver<RawStream>,
    name: &'static str,
    sink: &mut Sink,
    gate: &mut PauseGate,
    mut moved: &Received<'_>,
) -> Result<(), FlowError> {
    // A stream without bytes is never opened. The wait for it ends with the connection.
    let Ok(stream) = stream.await else {
        let why = "the stream was never opened".to_owned();
        return Err(FlowError::Broken(why));
    };
    let passed = io::copy(&mut Source::Stream(stream), sink, gate, &mut moved).await;
    passed.map_err(|error| error.on(name))
}
