//! Commands on this machine: spawned in a clean environment, fed and drained, signalled as a group.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use malai_wire::Refusal;
use malai_wire::peer::exec::{Exit, Signal, Size, Status, Terminal};
use rustix::process::Pid;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::audit::{Counts, EndReason, Running};
use crate::cluster::authorize::{self, Command, Granted};
use crate::cluster::state::ClusterState;
use crate::exec::io::{FlowError, PauseGate, Sink, Source};
use crate::exec::kill::{Group, PendingCleanup, end_group, number};
use crate::exec::spawn::{self, ParentStdio, spawn};
use crate::exec::{pipes, terminal};
use crate::node::sessions::PathInfo;

/// The streams of a command.
#[derive(Debug)]
pub(crate) struct Stdio {
    /// What it reads.
    pub stdin: Source,
    /// What it writes.
    pub stdout: Sink,
    /// What it complains.
    pub stderr: Sink,
    /// Holds both back while the one who looks is stopped.
    pub gate: PauseGate,
    /// The terminal that it is given; without one it has pipes.
    pub terminal: Option<Terminal>,
}

/// What reaches a running command beside its streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControlEvent {
    /// A signal.
    Signal(Signal),
    /// A new size of its terminal.
    Resize(Size),
}

/// How running a command ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It ended, and all its output was passed on.
    Exit(Exit),
    /// It ended, and nobody wanted the rest of its output.
    ReaderGone(Exit),
    /// The client went before the end; the process group was ended.
    ClientGone,
    /// The session was ended from this side, for the reason. The client is told before what is left
    /// of the command is waited for.
    Ended(Refusal, PendingCleanup),
    /// Passing its output on failed.
    Failed(String),
}

impl Outcome {
    fn end_reason(&self) -> EndReason<'_> {
        match self {
            Outcome::Exit(exit) => EndReason::Exited(exit),
            Outcome::ReaderGone(exit) => EndReason::ReaderGone(exit),
            Outcome::ClientGone => EndReason::ClientGone,
            Outcome::Ended(reason, _) => EndReason::Ended(&reason.message),
            Outcome::Failed(why) => EndReason::Failed(why),
        }
    }
}

/// Runs a command to its end.
///
/// It gets a process group of its own. When `gone` is cancelled the group gets SIGHUP, then SIGKILL
/// after [`GRACE`]. A command that ends by itself ends the session: what is in its pipes then is
/// passed on, and what it left in the background lives on, no longer read.
///
/// Start and end are recorded; where the start cannot be and has to be, nothing is run.
pub(crate) async fn run(
    cluster_state: &ClusterState,
    command: Granted<Command>,
    streams: Stdio,
    events: mpsc::Receiver<ControlEvent>,
    gone: CancellationToken,
) -> Outcome {
    let Command {
        request,
        run_as,
        session,
        ..
    } = command.inner();
    let (request, user) = (request.clone(), run_as.to_string());
    let running = match Running::begin(&cluster_state.node.audit, request, user, *session) {
        Ok(running) => running,
        Err(refusal) => return Outcome::Failed(refusal.message),
    };
    let counts = running.counts.clone();
    let span = {
        let Command { from, session, .. } = command.inner();
        let (cluster, machine) = (cluster_state.alias(), cluster_state.name_of(from));
        tracing::info_span!(parent: None, "session", %cluster, peer = %from.short(), machine, session)
    };
    let outcome = run_counted(cluster_state, command, streams, events, gone, counts)
        .instrument(span)
        .await;
    running.end(outcome.end_reason());
    outcome
}

async fn run_counted(
    cluster_state: &ClusterState,
    command: Granted<Command>,
    mut streams: Stdio,
    mut events: mpsc::Receiver<ControlEvent>,
    gone: CancellationToken,
    counts: Arc<Counts>,
) -> Outcome {
    let argv = spawn::argument_list(command.inner());
    let connection = streams
        .stdout
        .connection()
        .map(|connection| Arc::downgrade(connection) as Weak<dyn PathInfo>);
    let listed = authorize::begin(cluster_state, command.inner(), connection, counts.clone());
    let terminal = streams.terminal.as_ref();
    let (mut child, ends) = match spawn(cluster_state, command.inner(), &argv, terminal) {
        Ok(started) => started,
        Err(error) => return not_started(&argv, &error, &mut streams).await,
    };
    let Some(id) = child.id() else {
        return Outcome::Failed("the command was started and has no number".into());
    };
    let registration = cluster_state.node.reaper.begun(id, ends.kind());
    counts.started.store(true, Ordering::Relaxed);
    let leader = Pid::from_raw(id.cast_signed());
    let flows = match flow(ends, leader, streams, counts) {
        Ok(flows) => flows,
        Err(error) => {
            return Outcome::Failed(format!("the command's streams cannot be used: {error}"));
        }
    };
    let IoTasks {
        mut group,
        feeding,
        mut out,
        err,
        ended,
    } = flows;
    // What the terminal shows cannot be passed on any more, while it is still there.
    let mut unread = None;

    let status = loop {
        tokio::select! {
            status = child.wait() => break status,
            Some(event) = events.recv() => match event {
                ControlEvent::Signal(signal) => group.pass_on(number(signal)),
                ControlEvent::Resize(size) => group.resize(size),
            },
            shown = &mut out, if unread.is_none() && matches!(group, Group::Session(..)) => {
                unread = Some(shown);
                end_group(&mut child, &mut group).await;
            }
            () = gone.cancelled() => {
                feeding.abort();
                out.abort();
                err.abort();
                end_group(&mut child, &mut group).await;
                registration.ended();
                return Outcome::ClientGone;
            }
            reason = listed.ended() => {
                feeding.abort();
                out.abort();
                err.abort();
                return Outcome::Ended(reason, PendingCleanup { child: Box::new(child), group, registration: Some(registration) });
            }
        }
    };
    feeding.abort();
    // What it left in the background is nobody's to end, from now on.
    registration.ended();
    // Both ends are told at the same moment, after the exit: what is in the pipes now is the rest.
    for ended in ended {
        let _ = ended.send(());
    }
    let out = async {
        match unread {
            Some(unread) => unread,
            None => out.await,
        }
    };
    let (out, err) = tokio::select! {
        both = async { tokio::join!(out, err) } => both,
        () = gone.cancelled() => return Outcome::ClientGone,
        reason = listed.ended() => return Outcome::Ended(reason, PendingCleanup { child: Box::new(child), group: Group::Nobody, registration: None }),
    };
    let status = match status {
        Ok(status) => status,
        Err(error) => return Outcome::Failed(format!("waiting for the command failed: {error}")),
    };
    match (out, err) {
        (Ok((stdout, out)), Ok((stderr, err))) => {
            let exit = Exit {
                status: to_status(status),
                stdout,
                stderr,
            };
            match out.and(err) {
                Ok(()) => Outcome::Exit(exit),
                Err(FlowError::ReaderGone) => Outcome::ReaderGone(exit),
                Err(error) => Outcome::Failed(error.to_string()),
            }
        }
        (Err(panic), _) | (_, Err(panic)) => Outcome::Failed(panic.to_string()),
    }
}

/// The tasks that move a command's bytes.
struct IoTasks {
    group: Group,
    feeding: JoinHandle<()>,
    out: JoinHandle<Moved>,
    err: JoinHandle<Moved>,
    /// To be told the command's end.
    ended: [oneshot::Sender<()>; 2],
}

/// How many bytes, and what stood in the way of more.
type Moved = (u64, Result<(), FlowError>);

/// Begins to move bytes.
fn flow(
    ends: ParentStdio,
    leader: Option<Pid>,
    streams: Stdio,
    counts: Arc<Counts>,
) -> io::Result<IoTasks> {
    let Stdio {
        stdin: input,
        stdout: out_sink,
        stderr: err_sink,
        gate,
        ..
    } = streams;
    let (out_ended, out_end) = oneshot::channel();
    let (err_ended, err_end) = oneshot::channel();
    let (group, feeding, out, err) = match ends {
        ParentStdio::Pipes {
            stdin,
            stdout,
            stderr,
        } => (
            leader.map_or(Group::Nobody, Group::Own),
            tokio::spawn(Box::pin(pipes::feed(input, stdin, counts.clone()))),
            tokio::spawn(Box::pin(pipes::drain(
                stdout,
                out_sink,
                gate.clone(),
                out_end,
                counts.clone(),
                |counts| &counts.stdout,
            ))),
            tokio::spawn(Box::pin(pipes::drain(
                stderr,
                err_sink,
                gate,
                err_end,
                counts,
                |counts| &counts.stderr,
            ))),
        ),
        ParentStdio::Terminal(pty) => {
            let (reader, writer, pty) = (pty.reader()?, pty.writer()?, Arc::new(pty));
            (
                leader.map_or(Group::Nobody, |leader| {
                    Group::Session(leader, Some(pty.clone()))
                }),
                tokio::spawn(terminal::feed(input, writer, pty.clone(), counts.clone())),
                tokio::spawn(terminal::drain(
                    reader, pty, out_sink, gate, out_end, counts,
                )),
                // A terminal has one output.
                tokio::spawn(async { (0, Ok(())) }),
            )
        }
    };
    Ok(IoTasks {
        group,
        feeding,
        out,
        err,
        ended: [out_ended, err_ended],
    })
}

/// What a shell says and returns for a command that cannot be started.
async fn not_started(argv: &[Vec<u8>], error: &io::Error, streams: &mut Stdio) -> Outcome {
    let name = malai_cluster::escape_bytes(argv.first().map_or(&[][..], Vec::as_slice));
    let (code, text) = match error.kind() {
        io::ErrorKind::NotFound => (127, format!("malai: {name}: command not found")),
        io::ErrorKind::ArgumentListTooLong => {
            let bytes: usize = argv.iter().map(|argument| argument.len() + 1).sum();
            let text = format!(
                "malai: {name}: the argument list ({bytes} bytes) is longer than this machine's system allows: `getconf ARG_MAX` in all, 128 KiB each"
            );
            (126, text)
        }
        _ => (126, format!("malai: {name}: {error}")),
    };
    let (mut stdout, mut stderr) = (0, 0);
    // Whoever looks at a terminal has it in raw mode by now, where a line has to be begun anew.
    let (end, sink, count) = match streams.terminal {
        Some(_) => ("\r\n", &mut streams.stdout, &mut stdout),
        None => ("\n", &mut streams.stderr, &mut stderr),
    };
    let bytes = Bytes::from(text + end);
    let length = bytes.len() as u64;
    if sink.write(bytes).await.is_ok() {
        *count = length;
        sink.finish();
    }
    Outcome::Exit(Exit {
        status: Status::Code(code),
        stdout,
        stderr,
    })
}

fn to_status(status: std::process::ExitStatus) -> Status {
    match (status.code(), status.signal()) {
        (Some(code), _) => Status::Code(code as u8),
        (None, signal) => Status::Signal(signal.unwrap_or_default() as u8),
    }
}
