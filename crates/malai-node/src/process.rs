//! Commands on this machine: spawned in a clean environment, fed and drained, signalled as a group.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use malai_wire::peer::exec::{Action, Exit, Signal, Size, Status, Terminal};
use rustix::process::Pid;
use tokio::process::Child;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::account::Become;
use crate::audit::{Counts, Running};
use crate::descriptor::{Descriptor, Way};
use crate::flow::{self, Count, FlowError, Gate, Sink, Source};
use crate::inbound::gate::{Command, Granted};
use crate::member::Membership;

/// How long a command whose client has gone may take to clean up after SIGHUP, before SIGKILL.
pub const GRACE: Duration = Duration::from_secs(5);

/// Where commands are looked for: what a login gives on Debian, root or not.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Keeps descriptors that this process was started with to itself: a file that was open where somebody
/// typed `malai daemon` is no business of the commands that run here. To be called before any other
/// is opened; those that malai opens are not passed on anyway.
pub fn keep_descriptors() {
    close_fds::set_fds_cloexec(3, &[]);
}

/// The streams of a command.
#[derive(Debug)]
pub struct Streams {
    /// What it reads.
    pub stdin: Source,
    /// What it writes.
    pub stdout: Sink,
    /// What it complains.
    pub stderr: Sink,
    /// Holds both back while the one who looks is stopped.
    pub gate: Gate,
    /// The terminal that it is given; without one it has pipes.
    pub terminal: Option<Terminal>,
}

/// What reaches a running command beside its streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nudge {
    /// A signal.
    Signal(Signal),
    /// A new size of its terminal.
    Resize(Size),
}

/// How running a command ended.
#[derive(Debug)]
pub enum Outcome {
    /// It ended, and all its output was passed on.
    Exit(Exit),
    /// It ended, and nobody wanted the rest of its output.
    ReaderGone(Exit),
    /// The client went before the end; the process group was ended.
    ClientGone,
    /// The session was ended from this side, for the reason. The client is told before what is left
    /// of the command is waited for.
    Ended(String, Remains),
    /// Passing its output on failed.
    Failed(String),
}

/// A command whose session has ended and which may still be running.
#[derive(Debug)]
pub struct Remains {
    child: Child,
    group: Option<Pid>,
}

impl Remains {
    /// Ends the process group.
    pub async fn end(mut self) {
        end_group(&mut self.child, self.group).await;
    }
}

/// Runs a command to its end.
///
/// It gets a process group of its own. When `gone` is cancelled the group gets SIGHUP, then SIGKILL
/// after [`GRACE`]. A command that ends by itself ends the session: what is in its pipes then is
/// passed on, and what it left in the background lives on, no longer read.
///
/// Start and end are recorded; where the start cannot be and has to be, nothing is run.
pub async fn run(
    membership: &Membership,
    command: Granted<Command>,
    streams: Streams,
    nudges: mpsc::Receiver<Nudge>,
    gone: CancellationToken,
) -> Outcome {
    let running = match Running::begin(&membership.audit, command.inner()) {
        Ok(running) => running,
        Err(refusal) => return Outcome::Failed(refusal.message),
    };
    let counts = running.counts.clone();
    let outcome = run_counted(membership, command, streams, nudges, gone, counts).await;
    running.end(&outcome);
    outcome
}

async fn run_counted(
    membership: &Membership,
    command: Granted<Command>,
    mut streams: Streams,
    mut nudges: mpsc::Receiver<Nudge>,
    gone: CancellationToken,
    counts: Arc<Counts>,
) -> Outcome {
    let argv = argument_list(command.inner());
    let listed = membership.sessions.begin(membership, command.inner());
    let mut child = match spawn(membership, command.inner(), &argv) {
        Ok(child) => child,
        Err(error) => return not_started(&argv, &error, &mut streams).await,
    };
    let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    let (Some(stdin), Some(stdout), Some(stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Outcome::Failed("the command was started without its pipes".into());
    };
    let pipes = (
        stdin.into_owned_fd(),
        stdout.into_owned_fd(),
        stderr.into_owned_fd(),
    );
    let (Ok(stdin), Ok(stdout), Ok(stderr)) = pipes else {
        return Outcome::Failed("the command's pipes cannot be waited for".into());
    };
    let Streams {
        stdin: input,
        stdout: out_sink,
        stderr: err_sink,
        gate,
        ..
    } = streams;
    counts.started.store(true, Ordering::Relaxed);
    let feeding = tokio::spawn(feed(input, stdin, counts.clone()));
    let (out_ended, out_end) = oneshot::channel();
    let (err_ended, err_end) = oneshot::channel();
    let out = tokio::spawn(drain(
        stdout,
        out_sink,
        gate.clone(),
        out_end,
        counts.clone(),
        |counts| &counts.stdout,
    ));
    let err = tokio::spawn(drain(stderr, err_sink, gate, err_end, counts, |counts| {
        &counts.stderr
    }));

    let status = loop {
        tokio::select! {
            status = child.wait() => break status,
            Some(nudge) = nudges.recv() => match nudge {
                Nudge::Signal(signal) => drop(send_signal(group, number(signal))),
                Nudge::Resize(_) => {}
            },
            () = gone.cancelled() => {
                feeding.abort();
                out.abort();
                err.abort();
                end_group(&mut child, group).await;
                return Outcome::ClientGone;
            }
            reason = listed.ended() => {
                feeding.abort();
                out.abort();
                err.abort();
                return Outcome::Ended(reason, Remains { child, group });
            }
        }
    };
    feeding.abort();
    // Both ends are told at the same moment, after the exit: what is in the pipes now is the rest.
    let _ = (out_ended.send(()), err_ended.send(()));
    let (out, err) = tokio::select! {
        both = async { tokio::join!(out, err) } => both,
        () = gone.cancelled() => return Outcome::ClientGone,
        reason = listed.ended() => return Outcome::Ended(reason, Remains { child, group: None }),
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

/// What is run: what the policy says, or the shell.
fn argument_list(command: &Command) -> Vec<Vec<u8>> {
    match (&command.asked, command.account.login_shell()) {
        (Action::Shell, Ok(shell)) => vec![shell.as_os_str().as_bytes().to_vec()],
        _ => command.grant.argv.clone(),
    }
}

/// What a shell is called so that it is a login's: its name with a dash before it.
fn login_name(program: &OsStr) -> OsString {
    let name = Path::new(program).file_name().unwrap_or(program);
    let mut login = OsString::from("-");
    login.push(name);
    login
}

fn spawn(membership: &Membership, command: &Command, argv: &[Vec<u8>]) -> io::Result<Child> {
    let account = &command.account;
    let mut arguments = argv
        .iter()
        .map(|argument| OsString::from_vec(argument.clone()));
    let program = arguments.next().ok_or(io::ErrorKind::InvalidInput)?;
    let mut spawn = tokio::process::Command::new(&program);
    if command.asked == Action::Shell {
        spawn.arg0(login_name(&program));
    }
    spawn.args(arguments).env_clear().env("PATH", PATH);
    for kept in ["LANG", "TERM"] {
        spawn.envs(std::env::var_os(kept).map(|value| (kept, value)));
    }
    if let Some(name) = &account.name {
        spawn.env("USER", name).env("LOGNAME", name);
    }
    spawn.envs(account.shell.iter().map(|shell| ("SHELL", shell)));
    spawn.env("HOME", &account.home);
    spawn
        .env("MALAI_CLIENT_ID52", command.from.to_string())
        .env("MALAI_CLUSTER", membership.alias().as_str());
    if let Some(machine) = command.cluster.machine(&command.from) {
        spawn.env("MALAI_CLIENT_MACHINE", machine.name().as_str());
    }
    spawn
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    match &account.switch {
        Some(switch) => {
            let change = Become::new(switch, &account.home);
            // SAFETY: the closure only makes system calls with what was made before the fork: it
            // allocates nothing, takes no lock and panics nowhere.
            #[allow(unsafe_code)]
            unsafe {
                spawn.pre_exec(move || change.become_it())
            };
        }
        None => {
            let home = account.home.as_path();
            let root = std::path::Path::new("/");
            spawn.current_dir(if home.is_dir() { home } else { root });
            if has_terminal() {
                // A session of its own, so that it has no hold on the terminal of this process.
                // SAFETY: one system call; nothing is allocated or locked.
                #[allow(unsafe_code)]
                unsafe {
                    spawn.pre_exec(|| Ok(rustix::process::setsid().map(|_| ())?))
                };
            } else {
                spawn.process_group(0);
            }
        }
    }
    spawn.spawn()
}

/// Whether this process has a controlling terminal: a daemon in the foreground, a command line.
fn has_terminal() -> bool {
    std::fs::File::open("/dev/tty").is_ok()
}

/// What a shell says and returns for a command that cannot be started.
async fn not_started(argv: &[Vec<u8>], error: &io::Error, streams: &mut Streams) -> Outcome {
    let name = malai_cluster::escape_bytes(argv.first().map_or(&[][..], Vec::as_slice));
    let (code, text) = match error.kind() {
        io::ErrorKind::NotFound => (127, format!("malai: {name}: command not found\n")),
        _ => (126, format!("malai: {name}: {error}\n")),
    };
    let mut stderr = 0;
    let bytes = Bytes::from(text);
    let length = bytes.len() as u64;
    if streams.stderr.write(bytes).await.is_ok() {
        stderr = length;
        streams.stderr.finish();
    }
    Outcome::Exit(Exit {
        status: Status::Code(code),
        stdout: 0,
        stderr,
    })
}

/// Feeds a command until its input ends or it reads no more.
async fn feed(mut source: Source, pipe: OwnedFd, counts: Arc<Counts>) {
    let Ok(pipe) = Descriptor::adopt(pipe, Way::Write) else {
        return;
    };
    let mut sink = Sink::Descriptor(pipe);
    if let Err(error) = flow::pump(
        &mut source,
        &mut sink,
        &mut Gate::open(),
        &mut &counts.stdin,
    )
    .await
    {
        // A command that does not read its input to the end is nothing unusual.
        tracing::debug!("standard input ended early: {error}");
        if matches!(error, FlowError::Broken(_)) {
            // Half of an input must not look like all of it: the pipe stays open until the session,
            // which knows of the break as well, ends the command.
            std::future::pending::<()>().await;
        }
    }
}

/// Passes on what a command writes, until the end of its output; or, once the command has ended, what
/// is in the pipe at that moment.
async fn drain(
    pipe: OwnedFd,
    mut sink: Sink,
    mut gate: Gate,
    ended: oneshot::Receiver<()>,
    counts: Arc<Counts>,
    which: fn(&Counts) -> &AtomicU64,
) -> (u64, Result<(), FlowError>) {
    let mut moved = which(&counts);
    let result = drain_into(pipe, &mut sink, &mut gate, ended, &mut moved).await;
    if result.is_ok() {
        sink.finish();
    }
    (moved.load(Ordering::Relaxed), result)
}

async fn drain_into(
    pipe: OwnedFd,
    sink: &mut Sink,
    gate: &mut Gate,
    ended: oneshot::Receiver<()>,
    moved: &mut impl Count,
) -> Result<(), FlowError> {
    let again = pipe.try_clone().map_err(FlowError::Read)?;
    let mut source =
        Source::Descriptor(Descriptor::adopt(pipe, Way::Read).map_err(FlowError::Read)?);
    tokio::pin!(ended);
    loop {
        let bytes = tokio::select! {
            // First, so that what lives on in the background cannot hold the session by writing.
            biased;
            _ = &mut ended => {
                let rest = rustix::io::ioctl_fionread(again.as_fd()).map_err(|error| FlowError::Read(error.into()))?;
                return flow::pump_exactly(&mut source, sink, usize::try_from(rest).unwrap_or(usize::MAX), moved).await;
            }
            bytes = source.next(usize::MAX) => bytes?,
        };
        if bytes.is_empty() {
            return Ok(());
        }
        let length = bytes.len() as u64;
        gate_then_write(gate, sink, bytes).await?;
        moved.add(length);
    }
}

async fn gate_then_write(gate: &mut Gate, sink: &mut Sink, bytes: Bytes) -> Result<(), FlowError> {
    gate.pass().await;
    sink.write(bytes).await
}

/// Ends a process group: SIGHUP, and SIGKILL for what is left after [`GRACE`].
async fn end_group(child: &mut Child, group: Option<Pid>) {
    send_signal(group, rustix::process::Signal::HUP);
    let deadline = tokio::time::Instant::now() + GRACE;
    let _ = tokio::time::timeout_at(deadline, child.wait()).await;
    // The leader may be gone and others of its group not. The group's number is not given to
    // anybody else while one of them lives.
    while tokio::time::Instant::now() < deadline {
        match group.map(rustix::process::test_kill_process_group) {
            Some(Ok(())) => tokio::time::sleep(Duration::from_millis(20)).await,
            _ => return,
        }
    }
    if send_signal(group, rustix::process::Signal::KILL) {
        let _ = child.wait().await;
    }
}

/// Whether it could be sent, or nobody is left to send it to. What belongs to another user may not be
/// signalled, and lives on; that is reported.
fn send_signal(group: Option<Pid>, signal: rustix::process::Signal) -> bool {
    let Some(group) = group else { return true };
    match rustix::process::kill_process_group(group, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => true,
        Err(error) => {
            tracing::warn!(
                group = group.as_raw_nonzero(),
                "a process group cannot be signalled, and what is left of it lives on: {error}"
            );
            false
        }
    }
}

fn number(signal: Signal) -> rustix::process::Signal {
    use rustix::process::Signal as Number;
    match signal {
        Signal::Hup => Number::HUP,
        Signal::Int => Number::INT,
        Signal::Quit => Number::QUIT,
        Signal::Term => Number::TERM,
        Signal::Usr1 => Number::USR1,
        Signal::Usr2 => Number::USR2,
    }
}

fn to_status(status: std::process::ExitStatus) -> Status {
    match (status.code(), status.signal()) {
        (Some(code), _) => Status::Code(code as u8),
        (None, signal) => Status::Signal(signal.unwrap_or_default() as u8),
    }
}
