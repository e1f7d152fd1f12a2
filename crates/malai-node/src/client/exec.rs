//! A command on another machine: opened, fed, read to the last byte; run once or not at all.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use iroh::endpoint::{RecvStream, SendStream};
use malai_cluster::MachineId;
use malai_wire::peer::exec::{Action, Exit, FromClient, FromServer, Open, Terminal};
use malai_wire::peer::{RequestKind, StreamKind};
use malai_wire::{Refusal, frame};
use tokio::sync::{mpsc, oneshot};

use crate::audit::Counts;
use crate::exec::io::{self, FlowError, PauseGate, Sink, Source};
use crate::exec::process::ControlEvent;
use crate::net::framing::{self, StreamError};
use crate::node::sessions::{Live, OutboundSession, PathInfo};
use crate::os::clock::BoundedInstant;
use crate::peer::activity::InUse;
use crate::peer::connection::PeerConnection;
use crate::peer::pool::{PeerPool, ReachError};
use crate::peer::streams::SessionStreams;

/// How long an open may go unanswered on a healthy connection before the peer is looked for anew.
const UNANSWERED: Duration = Duration::from_millis(150);

/// How far two computers' clocks may run apart while an answer is waited for: one part in this many.
/// (Crystals keep a hundredth of that.) The age itself is rounded down by its sender.
const CLOCK_DRIFT: u32 = 500;

/// What the caller wants run, and its own ends of the streams.
#[derive(Debug)]
pub struct Caller {
    /// What is to be run.
    pub action: Action,
    /// The terminal that it is to be given; without one it has pipes.
    pub terminal: Option<Terminal>,
    /// Where the command's input comes from.
    pub stdin: Source,
    /// Where its output goes.
    pub stdout: Sink,
    /// Where its complaints go.
    pub stderr: Sink,
    /// Holds output back while the caller is stopped.
    pub gate: PauseGate,
    /// Signals for the command, and sizes for its terminal.
    pub events: mpsc::Receiver<ControlEvent>,
}

/// Why a command did not come to a known end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExecError {
    /// The machine was not reached; nothing was run.
    #[error(transparent)]
    Reach(#[from] ReachError),
    /// The machine refused, or failed at what it had allowed.
    #[error("{machine}{}: {}", if .refusal.is_end() { "" } else { " refused" }, malai_cluster::escape(&.refusal.message))]
    Refused {
        /// The machine.
        machine: String,
        /// Its words.
        refusal: Refusal,
    },
    /// Nobody knows whether it ran, or how far it came. It was not run a second time.
    #[error(
        "the connection to {machine} broke while the command may have been running: {why}; it is not run again by itself"
    )]
    Lost {
        /// The machine.
        machine: String,
        /// What happened.
        why: String,
    },
    /// Less output arrived than the machine sent.
    #[error("output of {machine} was lost: {received} of {sent} bytes arrived")]
    Cut {
        /// The machine.
        machine: String,
        /// Bytes received.
        received: u64,
        /// Bytes sent.
        sent: u64,
    },
    /// The caller's own streams failed.
    #[error("{0}")]
    Local(FlowError),
    /// Whoever read the output has gone.
    #[error("the reader of the output has gone")]
    ReaderGone,
    /// This computer's user ended it by hand.
    #[error("the command on {machine} was {why}")]
    Ended {
        /// The machine.
        machine: String,
        /// By whom.
        why: String,
    },
}

/// Runs a command on a machine and passes its streams through.
///
/// # Errors
///
/// It was refused, did not start, or its end is not known.
pub(crate) async fn run(
    peers: &Arc<PeerPool>,
    target: MachineId,
    name: &str,
    mut caller: Caller,
    started: impl FnOnce(),
) -> Result<Exit, ExecError> {
    let session = open(peers, target, name, &caller).await?;
    started();
    let counts = Arc::<Counts>::default();
    let cluster_state = peers.cluster_state();
    let sessions = &cluster_state.sessions;
    let connection: Weak<dyn PathInfo> = Arc::<PeerConnection>::downgrade(&session.connection);
    let listed = sessions.begin_outbound(OutboundSession {
        live: Live::new(
            sessions.next_id(),
            cluster_state.alias().clone(),
            caller.action.clone(),
            Some(connection),
            counts.clone(),
        ),
        target: name.to_owned(),
    });
    tokio::select! {
        ended = session.run(name, &mut caller, &counts) => ended,
        // Dropping the session ends its streams, and with them the command there.
        reason = listed.ended() => Err(ExecError::Ended {
            machine: name.to_owned(),
            why: reason.message,
        }),
    }
}

/// A command that the machine has accepted.
struct Session {
    connection: Arc<PeerConnection>,
    control: SendStream,
    answers: RecvStream,
    stdout: oneshot::Receiver<RecvStream>,
    stderr: oneshot::Receiver<RecvStream>,
    streams: SessionStreams,
    _in_use: InUse,
}

/// Sends the open and waits for the answer. An open that gets none is sent again only if the peer's
/// new instance proves that no run of it has received the first.
async fn open(
    peers: &Arc<PeerPool>,
    target: MachineId,
    name: &str,
    caller: &Caller,
) -> Result<Session, ExecError> {
    let mut connection = peers.connect_for_session(target).await?;
    let mut made_way = false;
    loop {
        let sent = BoundedInstant::now();
        let mut session = match send_open(&connection, caller).await {
            Ok(session) => session,
            // The stream was not even opened: nothing has left this computer.
            Err(_) => {
                connection = peers.dial_new(target).await?;
                send_open(&connection, caller)
                    .await
                    .map_err(|error| lost(name, &error))?
            }
        };
        let answer = tokio::select! {
            answer = framing::read(&mut session.answers, frame::SMALL) => answer,
            next = replaced(peers, &connection, sent) => match next {
                Ok(next) => {
                    connection.close(&Refusal::new(malai_wire::RefusalCode::Done, "the peer has started anew"));
                    connection = next;
                    continue;
                }
                Err(why) => return Err(ExecError::Lost { machine: name.to_owned(), why }),
            },
        };
        match answer {
            Ok(Some(FromServer::Accepted)) => {
                connection.heard_now();
                return Ok(session);
            }
            Ok(Some(FromServer::Refused(refusal))) => {
                return Err(ExecError::Refused {
                    machine: name.to_owned(),
                    refusal,
                });
            }
            Ok(Some(FromServer::Exit(_))) => {
                return Err(lost(name, &"it ended before it was accepted"));
            }
            Ok(None) => {
                return Err(lost(
                    name,
                    &"the machine ended the request without an answer",
                ));
            }
            Err(error) => {
                if let Some(refusal) = connection.refused() {
                    // A connection that made room for others carried no request that was not answered.
                    if refusal.known_code() == Some(malai_wire::RefusalCode::Busy) && !made_way {
                        made_way = true;
                        connection = peers.dial_new(target).await?;
                        continue;
                    }
                    // A peer that turns us away as a whole has not looked at the request.
                    if matches!(
                        refusal.known_code(),
                        Some(
                            malai_wire::RefusalCode::NotAMember
                                | malai_wire::RefusalCode::Version
                                | malai_wire::RefusalCode::Busy
                        )
                    ) {
                        return Err(ExecError::Refused {
                            machine: name.to_owned(),
                            refusal,
                        });
                    }
                }
                match never_received(peers, &connection, sent).await {
                    Some(next) => connection = next,
                    None => return Err(lost(name, &end_or(&connection, error.to_string()))),
                }
            }
        }
    }
}

async fn send_open(
    connection: &Arc<PeerConnection>,
    caller: &Caller,
) -> Result<Session, StreamError> {
    let in_use = connection.in_use();
    let (mut control, answers) = connection.open(RequestKind::Exec).await?;
    let streams = connection.start_session(&control);
    let open = Open {
        action: caller.action.clone(),
        stdin: !matches!(caller.stdin, Source::Empty),
        terminal: caller.terminal.clone(),
    };
    // One that is refused for its length is not read to its end: the answer says so.
    if let Err(error) = framing::write(&mut control, &FromClient::Open(open)).await
        && connection.is_closed()
    {
        return Err(error);
    }
    Ok(Session {
        connection: connection.clone(),
        control,
        answers,
        stdout: streams.expect(StreamKind::Stdout),
        stderr: streams.expect(StreamKind::Stderr),
        streams,
        _in_use: in_use,
    })
}

/// Resolves only if the peer stays silent and another run of it is found in its place: to a link to
/// that run if it proves that the open was never received, else to what has happened.
async fn replaced(
    peers: &Arc<PeerPool>,
    connection: &Arc<PeerConnection>,
    sent: BoundedInstant,
) -> Result<Arc<PeerConnection>, String> {
    let mut pause = UNANSWERED + 2 * connection.round_trip().unwrap_or_default();
    loop {
        tokio::time::sleep(pause).await;
        // A large argument list on a slow path is no silence: whoever answers a question is there.
        if !connection.ping(connection.patience(UNANSWERED)).await && !connection.is_closed() {
            match peers.find_restarted_peer(connection).await {
                Some(next) if proves(connection, &next, sent) => return Ok(next),
                Some(_) => return Err("the machine's daemon was restarted".into()),
                None => {}
            }
        }
        pause = UNANSWERED;
    }
}

/// After a connection broke: a link to a new run of the peer that proves that the open was never
/// received by the old one.
async fn never_received(
    peers: &Arc<PeerPool>,
    connection: &Arc<PeerConnection>,
    sent: BoundedInstant,
) -> Option<Arc<PeerConnection>> {
    let next = peers.find_restarted_peer(connection).await?;
    proves(connection, &next, sent).then_some(next)
}

/// A new run that had begun to serve before the open was sent proves that the old run, which held the
/// same home's lock, was gone by then: nobody received the open.
fn proves(old: &Arc<PeerConnection>, new: &Arc<PeerConnection>, sent: BoundedInstant) -> bool {
    let (Some(old), Some(new)) = (old.hello(), new.hello()) else {
        return false;
    };
    // Its words were here before the open left; else its age has to reach back to then.
    let waited = new.at.max_elapsed_since(&sent);
    old.hello.instance != new.hello.instance
        && (waited.is_zero()
            || Duration::from_millis(new.hello.age_ms) > waited + waited / CLOCK_DRIFT)
}

impl Session {
    /// Passes the streams through until the exit, and proves that nothing is missing.
    async fn run(
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
            _in_use,
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
            let feeding = feed(&connection, streams.session(), stdin, &counts.stdin);
            let out = pass(stdout, out_sink, gate, &counts.stdout);
            let err = pass(stderr, err_sink, &mut err_gate, &counts.stderr);
            let answer = answered(&mut answers, &mut control, events);
            tokio::pin!(feeding, out, err, answer);
            let (mut fed, mut out_done, mut err_done) = (false, false, false);
            let exit = loop {
                tokio::select! {
                    // First: an answer that has arrived counts, whatever has broken since.
                    biased;
                    answer = &mut answer => break answer,
                    result = &mut out, if !out_done => { out_done = true; if let Err(error) = result { break Err(Broken::Flow(error)) } }
                    result = &mut err, if !err_done => { err_done = true; if let Err(error) = result { break Err(Broken::Flow(error)) } }
                    result = &mut feeding, if !fed => { fed = true; if let Err(error) = result { break Err(Broken::Flow(error)) } }
                }
            };
            match exit {
                Ok(exit) => {
                    // The exit says how much was sent; a stream without bytes does not exist.
                    let rest = async {
                        if exit.stdout > 0 && !out_done {
                            out.await?;
                        }
                        if exit.stderr > 0 && !err_done {
                            err.await?;
                        }
                        Ok(())
                    };
                    tokio::select! {
                        rest = rest => rest.map_err(Broken::Flow).map(|()| exit),
                        () = connection.closed() => Err(Broken::Flow(FlowError::Broken(connection.end()))),
                    }
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
                    Broken::Refused(refusal) => ExecError::Refused {
                        machine: name.to_owned(),
                        refusal,
                    },
                    Broken::Stream(error) => lost(name, &end_or(&connection, error.to_string())),
                    Broken::Flow(FlowError::Broken(why)) => ExecError::Lost {
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

/// How a session can end other than by an exit.
enum Broken {
    Refused(Refusal),
    Stream(StreamError),
    Flow(FlowError),
}

/// Why the connection has ended, where it has; else what went wrong on it.
fn end_or(connection: &PeerConnection, why: String) -> String {
    if connection.is_closed() {
        connection.end()
    } else {
        why
    }
}

/// Waits for the exit, and sends signals and sizes meanwhile.
async fn answered(
    answers: &mut RecvStream,
    control: &mut SendStream,
    events: &mut mpsc::Receiver<ControlEvent>,
) -> Result<Exit, Broken> {
    let read = framing::read(answers, frame::SMALL);
    tokio::pin!(read);
    loop {
        tokio::select! {
            answer = &mut read => return match answer {
                Ok(Some(FromServer::Exit(exit))) => Ok(exit),
                Ok(Some(FromServer::Refused(refusal))) => Err(Broken::Refused(refusal)),
                Ok(Some(FromServer::Accepted) | None) => Err(Broken::Stream(StreamError::Ended)),
                Err(error) => Err(Broken::Stream(error)),
            },
            Some(event) = events.recv() => {
                let message = match event {
                    ControlEvent::Signal(signal) => FromClient::Signal(signal),
                    ControlEvent::Resize(size) => FromClient::Resize(size),
                };
                // A machine whose command has ended hears no more; its answer, or the want of one, says
                // what became of it.
                let _ = framing::write(control, &message).await;
            }
        }
    }
}

/// Sends the caller's input. A command that reads no more of it is nothing unusual.
async fn feed(
    connection: &Arc<PeerConnection>,
    session: u64,
    stdin: &mut Source,
    mut moved: &AtomicU64,
) -> Result<(), FlowError> {
    if matches!(stdin, Source::Empty) {
        return Ok(());
    }
    let mut sink = Sink::Stream(crate::exec::io::LazySendStream::new(
        connection.clone(),
        StreamKind::Stdin,
        session,
    ));
    let mut fed = io::copy(stdin, &mut sink, &mut PauseGate::open(), &mut moved).await;
    if let Err(FlowError::Read(error)) = &fed
        && moved.load(Ordering::Relaxed) == 0
    {
        // Not open for reading (nohup leaves such), or a folder: there is no input, as with ssh.
        tracing::debug!("standard input cannot be read and counts as empty: {error}");
        fed = Ok(());
    }
    if fed.is_ok() {
        fed = sink.finish_even_if_empty().await;
    }
    match fed {
        Ok(()) => Ok(()),
        Err(FlowError::ReaderGone) => Ok(()),
        // The control stream says what became of the command.
        Err(FlowError::Broken(_)) => std::future::pending().await,
        Err(error) => Err(error),
    }
}

/// Passes one stream through to its end.
async fn pass(
    stream: oneshot::Receiver<RecvStream>,
    sink: &mut Sink,
    gate: &mut PauseGate,
    mut moved: &AtomicU64,
) -> Result<(), FlowError> {
    // Never sent, if there is no output: then the exit says so.
    let Ok(stream) = stream.await else {
        return std::future::pending().await;
    };
    io::copy(&mut Source::Stream(stream), sink, gate, &mut moved).await
}

fn lost(name: &str, why: &impl std::fmt::Display) -> ExecError {
    ExecError::Lost {
        machine: name.to_owned(),
        why: why.to_string(),
    }
}
