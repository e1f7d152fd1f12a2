//! Runs commands on this machine: records, lists and starts them, and serves their client until they exit.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use malai_wire::Refusal;
use malai_wire::peer::exec::{Exit, Status};
use rustix::io::Errno;
use tokio::sync::mpsc;
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::audit::{Counts, EndReason, FileRecords, Running};
use crate::cluster::authorize::{self, Command, Granted};
use crate::cluster::state::ClusterState;
use crate::exec::child::{PendingCleanup, Process};
use crate::exec::file_reports;
use crate::exec::io::FlowError;
use crate::exec::spawn;
use crate::exec::stdio::{ControlEvent, IoTasks, Moved, Stdio};
use crate::exec::surroundings;
use crate::node::sessions::PathInfo;

/// How a running command ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It exited, and all its output was passed on.
    Exit(Exit),
    /// It exited, but the reader of its output had gone.
    ReaderGone(Exit),
    /// The client went away before the command exited; the process group was ended.
    ClientGone,
    /// This side ended the session for this reason. The client is told before waiting for the rest of the command.
    Ended(Refusal, PendingCleanup),
    /// It exited, but its output could not be written to its destination on this computer.
    Unwritable(String),
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
            Outcome::Unwritable(why) | Outcome::Failed(why) => EndReason::Failed(why),
        }
    }
}

/// Runs a command to its end.
///
/// It gets its own process group. When `gone` is cancelled, the group gets SIGHUP, then SIGKILL after [`GRACE`]. When the
/// command exits by itself, the session ends: what is in its pipes is passed on, and what it left in the background keeps
/// running, but is no longer read.
///
/// Start and end are recorded. If the start cannot be recorded although that is required, nothing is run.
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
    let running_command = async {
        let outcome = run_counted(cluster_state, command, streams, events, gone, counts).await;
        tracing::debug!("ended: {}", outcome.end_reason());
        outcome
    };
    let outcome = running_command.instrument(span).await;
    running.end(outcome.end_reason());
    outcome
}

async fn run_counted(
    cluster_state: &ClusterState,
    command: Granted<Command>,
    mut streams: Stdio,
    events: mpsc::Receiver<ControlEvent>,
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
    let (process, ends, reports) =
        match Process::start(cluster_state, command.inner(), &argv, terminal) {
            Ok(started) => started,
            // The command is not at fault, and another one would not start either.
            Err(error) if is_exhaustion(&error) => {
                return Outcome::Failed(format!("cannot start a process: {error}"));
            }
            Err(error) => {
                let path = surroundings::path(cluster_state);
                return not_started(&argv, &path, &error, &mut streams).await;
            }
        };
    tracing::debug!(pid = process.id(), "started");
    counts.started.store(true, Ordering::Relaxed);
    // Ends with the process, which has the only other end.
    let recording = reports.map(|reports| {
        let Command {
            request,
            run_as,
            session,
            ..
        } = command.inner();
        let audit = &cluster_state.node.audit;
        let records = FileRecords::new(audit, request, run_as.to_string(), *session);
        tokio::spawn(file_reports::record(reports, records))
    });
    let outcome = match IoTasks::start(ends, streams, counts) {
        Ok(tasks) => attend(process, tasks, events, &gone, listed.ended()).await,
        Err(error) => {
            process.end().await;
            Outcome::Failed(format!("the command's streams cannot be used: {error}"))
        }
    };
    // File operations come before the end in the record. A process that is still to be ended has time for that.
    if let Some(recording) = recording
        && !matches!(outcome, Outcome::Ended(..))
    {
        let _ = recording.await;
    }
    outcome
}

/// Serves the client of a running command until its exit is reported. When the client is `gone`, the command is ended. When this
/// side ends the session (`ended`), the client is told first.
async fn attend(
    mut process: Process,
    mut tasks: IoTasks,
    mut events: mpsc::Receiver<ControlEvent>,
    gone: &CancellationToken,
    ended: impl Future<Output = Refusal>,
) -> Outcome {
    tokio::pin!(ended);
    let status = loop {
        tokio::select! {
            status = process.wait() => break status,
            Some(event) = events.recv() => process.control(event),
            // The terminal's output can no longer be passed on while the terminal is still open.
            () = tasks.output_ends(), if process.has_terminal() => process.hang_up().await,
            () = gone.cancelled() => {
                drop(tasks);
                process.end().await;
                return Outcome::ClientGone;
            }
            reason = &mut ended => return Outcome::Ended(reason, PendingCleanup(Box::new(process))),
        }
    };
    // What it left in the background keeps running.
    process.release();
    let moved = tokio::select! {
        moved = tasks.rest() => moved,
        () = gone.cancelled() => return Outcome::ClientGone,
        reason = &mut ended => return Outcome::Ended(reason, PendingCleanup(Box::new(process))),
    };
    let status = match status {
        Ok(status) => status,
        Err(error) => return Outcome::Failed(format!("waiting for the command failed: {error}")),
    };
    report(status, moved)
}

/// What the client is told about an exit.
fn report(status: ExitStatus, moved: Result<[Moved; 2], JoinError>) -> Outcome {
    let [(stdout, out), (stderr, err)] = match moved {
        Ok(moved) => moved,
        Err(panic) => return Outcome::Failed(panic.to_string()),
    };
    let exit = Exit {
        status: to_status(status),
        stdout,
        stderr,
    };
    let out = out.map_err(|error| error.on("standard output"));
    let err = err.map_err(|error| error.on("standard error"));
    match out.and(err) {
        Ok(()) => Outcome::Exit(exit),
        Err(error @ FlowError::Output { .. }) => Outcome::Unwritable(error.to_string()),
        Err(FlowError::ReaderGone) => Outcome::ReaderGone(exit),
        Err(error) => Outcome::Failed(error.to_string()),
    }
}

/// Whether this process, or its computer, has run out of something that every command needs.
fn is_exhaustion(error: &io::Error) -> bool {
    let number = Errno::from_io_error(error);
    number.is_some_and(|number| {
        [Errno::MFILE, Errno::NFILE, Errno::AGAIN, Errno::NOMEM].contains(&number)
    })
}

/// The message and exit code of a shell for a command that cannot be started.
async fn not_started(
    argv: &[Vec<u8>],
    path: &str,
    error: &io::Error,
    streams: &mut Stdio,
) -> Outcome {
    let name = malai_cluster::escape_bytes(argv.first().map_or(&[][..], Vec::as_slice));
    let (code, text) = match error.kind() {
        io::ErrorKind::NotFound => (127, format!("malai: {name}: {}", why_not_found(argv, path))),
        io::ErrorKind::ArgumentListTooLong => {
            let bytes: usize = argv.iter().map(|argument| argument.len() + 1).sum();
            let text = format!(
                "malai: {name}: the argument list ({bytes} bytes) exceeds this machine's limit: `getconf ARG_MAX` in total, 128 KiB each"
            );
            (126, text)
        }
        _ => {
            let error = malai_cluster::without_error_numbers(&error.to_string());
            (126, format!("malai: {name}: {error}"))
        }
    };
    let (mut stdout, mut stderr) = (0, 0);
    // The client's terminal is in raw mode by now, so a line starts with a carriage return.
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

/// Why a program was not found, with the folders that were searched.
fn why_not_found(argv: &[Vec<u8>], path: &str) -> String {
    let name = OsStr::from_bytes(argv.first().map_or(&[][..], Vec::as_slice));
    match spawn::found(name, path) {
        Ok(file) if file.as_bytes().contains(&b'/') && Path::new(&file).exists() => {
            "the interpreter in its first line, or its dynamic linker, does not exist".to_owned()
        }
        Ok(_) => "no such file".to_owned(),
        Err(_) => {
            let hint = as_words(argv).map_or_else(String::new, |line| {
                format!("; a word with blanks is a single name: type its words separately, as in malai <target> {line}")
            });
            format!("command not found in {}{hint}", malai_cluster::escape(path))
        }
    }
}

/// What to type instead of a program's name with blanks in it: its words, or a shell where they need one.
fn as_words(argv: &[Vec<u8>]) -> Option<String> {
    let (name, arguments) = argv.split_first()?;
    if !name.iter().any(u8::is_ascii_whitespace) {
        return None;
    }
    let words = match malai_cluster::split_line(name) {
        Ok(words) => [&words[..], arguments].concat(),
        Err(_) => vec![b"sh".to_vec(), b"-c".to_vec(), name.clone()],
    };
    let words: Vec<String> = words
        .iter()
        .map(|word| malai_cluster::quote_bytes(word))
        .collect();
    Some(malai_cluster::escape(&words.join(" ")))
}

fn to_status(status: ExitStatus) -> Status {
    match (status.code(), status.signal()) {
        (Some(code), _) => Status::Code(code as u8),
        (None, signal) => Status::Signal(signal.unwrap_or_default() as u8),
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::io::Read;
    use std::os::fd::OwnedFd;
    use std::sync::Arc;
    use std::time::Duration;

    use malai_wire::peer::exec::{Signal, Status};
    use malai_wire::{Refusal, RefusalCode};
    use rustix::process::{Pid, test_kill_process_group};
    use tokio::sync::mpsc;
    use tokio_util::sync::CancellationToken;

    use super::{Outcome, attend};
    use crate::audit::Counts;
    use crate::exec::child::Process;
    use crate::exec::io::{PauseGate, Sink, Source};
    use crate::exec::spawn::ParentStdio;
    use crate::exec::stdio::{ControlEvent, IoTasks, Stdio};
    use crate::os::fd::{Direction, Fd};

    /// A script that runs, with pipes, and the ends of its client.
    struct Client {
        process: Process,
        tasks: IoTasks,
        group: Pid,
        stdout: OwnedFd,
        stderr: OwnedFd,
    }

    fn start(script: &str) -> Client {
        let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        // As malai's own ends are.
        let nonblocking = |fd: OwnedFd| {
            rustix::fs::fcntl_setfl(&fd, rustix::fs::OFlags::NONBLOCK).unwrap();
            fd
        };
        let [stdin, stdout, stderr] = [pipe(), pipe(), pipe()];
        let child = tokio::process::Command::new("/bin/sh")
            .args(["-c", script])
            .process_group(0)
            .stdin(stdin.0)
            .stdout(stdout.1)
            .stderr(stderr.1)
            .spawn()
            .unwrap();
        let group = Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
        let ends = ParentStdio::Pipes {
            stdin: nonblocking(stdin.1),
            stdout: nonblocking(stdout.0),
            stderr: Some(nonblocking(stderr.0)),
        };
        let [(stdout, out), (stderr, err)] = [pipe(), pipe()];
        let sink = |fd| Sink::Fd(Fd::own(nonblocking(fd), Direction::Write).unwrap());
        let streams = Stdio {
            stdin: Source::Empty,
            stdout: sink(out),
            stderr: sink(err),
            gate: PauseGate::open(),
            terminal: None,
        };
        Client {
            process: Process::of(child),
            tasks: IoTasks::start(ends, streams, Arc::<Counts>::default()).unwrap(),
            group,
            stdout,
            stderr,
        }
    }

    fn text(fd: OwnedFd) -> String {
        let mut text = String::new();
        std::fs::File::from(fd).read_to_string(&mut text).unwrap();
        text
    }

    fn lives(group: Pid) -> bool {
        test_kill_process_group(group).is_ok()
    }

    /// Waits until the script has written a line: it is past its traps then.
    async fn first_line(fd: &OwnedFd) {
        let fd = fd.try_clone().unwrap();
        let read = move || std::fs::File::from(fd).read_exact(&mut [0]).unwrap();
        tokio::task::spawn_blocking(read).await.unwrap();
    }

    #[tokio::test]
    async fn an_exit_is_reported_with_all_output() {
        let client = start("echo out; echo error >&2; exit 3");
        let (_events, receiver) = mpsc::channel(1);
        let gone = CancellationToken::new();
        let outcome = attend(client.process, client.tasks, receiver, &gone, pending()).await;
        let Outcome::Exit(exit) = outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!(exit.status, Status::Code(3));
        assert_eq!((exit.stdout, exit.stderr), (4, 6));
        assert_eq!(
            (text(client.stdout), text(client.stderr)),
            ("out\n".into(), "error\n".into())
        );
    }

    #[tokio::test]
    async fn what_a_command_leaves_in_the_background_lives_on() {
        let client = start("sleep 60 & echo $!");
        let (_events, receiver) = mpsc::channel(1);
        let gone = CancellationToken::new();
        let outcome = attend(client.process, client.tasks, receiver, &gone, pending()).await;
        assert!(matches!(outcome, Outcome::Exit(_)), "{outcome:?}");
        assert!(lives(client.group));
        rustix::process::kill_process_group(client.group, rustix::process::Signal::KILL).unwrap();
    }

    #[tokio::test]
    async fn signals_are_passed_on() {
        let client = start("echo ready; sleep 60");
        let (events, receiver) = mpsc::channel(1);
        let gone = CancellationToken::new();
        let attended = attend(client.process, client.tasks, receiver, &gone, pending());
        let signaled = async {
            first_line(&client.stdout).await;
            events
                .send(ControlEvent::Signal(Signal::Term))
                .await
                .unwrap();
        };
        let (outcome, ()) = tokio::join!(attended, signaled);
        let Outcome::Exit(exit) = outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!(exit.status, Status::Signal(15));
    }

    #[tokio::test]
    async fn a_command_whose_client_goes_is_ended() {
        let client = start("echo ready; sleep 60");
        let (_events, receiver) = mpsc::channel(1);
        let gone = CancellationToken::new();
        let attended = attend(client.process, client.tasks, receiver, &gone, pending());
        let goes = async {
            first_line(&client.stdout).await;
            gone.cancel();
        };
        let (outcome, ()) = tokio::join!(attended, goes);
        assert!(matches!(outcome, Outcome::ClientGone), "{outcome:?}");
        assert!(!lives(client.group));
    }

    #[tokio::test]
    async fn the_client_is_told_of_an_ended_session_before_the_command_is_ended() {
        let client = start("echo ready; sleep 60");
        let (_events, receiver) = mpsc::channel(1);
        let gone = CancellationToken::new();
        let ended = async {
            first_line(&client.stdout).await;
            Refusal::new(RefusalCode::Ended, "ended by the test")
        };
        let outcome = attend(client.process, client.tasks, receiver, &gone, ended).await;
        let Outcome::Ended(reason, cleanup) = outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!(reason.message, "ended by the test");
        assert!(lives(client.group));
        let ends = tokio::time::timeout(Duration::from_secs(60), cleanup.end());
        ends.await.expect("it is ended within its grace period");
        assert!(!lives(client.group));
    }
}
