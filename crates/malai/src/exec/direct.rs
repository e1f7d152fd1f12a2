//! Runs a command without a daemon: the same session, on its own connection.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use malai_cluster::Target;
use malai_node::{
    Caller, CommandResult, ControlEvent, EXIT_READER_GONE, Home, PauseGate, Reaper, Settings, Sink,
    Source, Standalone, StandaloneError, dispatch,
};
use malai_wire::control::ClientMessage;
use malai_wire::peer::exec::{ExecRequest, Terminal};
use signal_hook::consts::SIGINT;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{interrupted_twice, session_started, timed_out};

use crate::cli::TargetOptions;
use crate::exec::interactive::{Interactive, SessionBackend};
use crate::exec::reaper;
use crate::signals::FORWARDED;
use crate::signals::ignored::Ignored;
use crate::signals::started::Started;
use crate::terminal::input;
use crate::terminal::output::Output;
use crate::terminal::tilde::EscapeChar;

/// How long a command on this computer may take to end when the user does not want to wait.
const LEAVE: Duration = Duration::from_millis(250);

/// Runs a command and waits for its end. Changes nothing in the home. Boxed, because its frame holds the whole state of the
/// session and must stay off the stack of a command through a daemon.
#[inline(never)]
pub fn run(
    home: &Home,
    target: &str,
    request: ExecRequest,
    terminal: Option<Terminal>,
    on: &TargetOptions,
) -> anyhow::Result<CommandResult> {
    let settings = Settings::load(home)?;
    // Its process is started only if the command turns out to run here.
    let reaper =
        Reaper::new(reaper::of_command()).context("cannot create the pipe to the reaper")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    let ending = runtime.block_on(async {
        let found = Target::parse(target)?;
        let clusters = [(&found.cluster, Some(&found.machine))];
        let standalone = match Standalone::open(home, &settings, clusters, reaper).await {
            Ok(standalone) => standalone,
            Err(StandaloneError::UnknownCluster(message)) => {
                return Ok(CommandResult::failed(message));
            }
            Err(error) => return Err(error.into()),
        };
        let (started, gone) = (Started::default(), CancellationToken::new());
        let left = CancellationToken::new();
        let caller = match terminal {
            Some(terminal) if crate::terminal::is_here() && !on.no_input => {
                on_terminal(target, request, terminal, on.escape, &gone)
                    .map(|(caller, on)| (caller, Some(on)))
            }
            terminal => {
                let caller = caller(request, terminal, on, &started, &left);
                caller.map(|caller| (caller, None))
            }
        };
        let (caller, session) = match caller {
            Ok(caller) => caller,
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                return Ok(CommandResult::exit(EXIT_READER_GONE));
            }
            Err(error) => return Err(error).context("the command's own streams cannot be used"),
        };
        let timeout = on.timeout.unwrap_or(Duration::MAX);
        let (ending, cleanup) = {
            let execution = dispatch::execute(
                standalone.services().to_vec(),
                target,
                caller,
                gone.clone(),
                || {
                    started.set();
                    session_started(on);
                    // A terminal that cannot be made raw has hung up: there is no user.
                    if session
                        .as_ref()
                        .is_some_and(|session| session.started().is_err())
                    {
                        gone.cancel();
                    }
                },
            );
            tokio::pin!(execution);
            tokio::select! {
                ended = &mut execution => ended,
                () = tokio::time::sleep(timeout) => {
                    gone.cancel();
                    let (_, cleanup) = execution.await;
                    (CommandResult::failed(timed_out(target, on)), cleanup)
                }
                () = left.cancelled() => {
                    gone.cancel();
                    // The reaper handles what takes longer to end on this computer.
                    let _ = tokio::time::timeout(LEAVE, execution).await;
                    (interrupted_twice(target), None)
                }
            }
        };
        let ending = match &session {
            Some(session) => session.ends(session.left().unwrap_or(ending)),
            None => ending,
        };
        // Printed before remaining commands are ended, which may take a while.
        drop(session);
        if let Some(cleanup) = cleanup {
            cleanup.end().await;
        }
        standalone.stop().await;
        Ok(with_notices(ending, standalone.notices()))
    });
    // A thread may still be reading from the terminal; nothing waits for it.
    runtime.shutdown_background();
    ending
}

/// Adds problems with the audit record to a result, because nothing else would report them.
fn with_notices(ending: CommandResult, notices: Vec<String>) -> CommandResult {
    let message: Vec<String> = ending.message.into_iter().chain(notices).collect();
    CommandResult {
        message: (!message.is_empty()).then(|| message.join("\nmalai: ")),
        ..ending
    }
}

/// This process itself, as the backend of a session on the terminal.
struct LocalBackend {
    chunks: mpsc::Sender<Vec<u8>>,
    events: mpsc::Sender<ControlEvent>,
    held: watch::Sender<bool>,
    gone: CancellationToken,
}

impl SessionBackend for LocalBackend {
    fn tell(&self, message: ClientMessage) -> bool {
        match message {
            ClientMessage::Input(chunk) => return self.chunks.blocking_send(chunk).is_ok(),
            // Dropped if sixteen others are waiting: nothing reads them any more then.
            ClientMessage::Signal(signal) => {
                let _ = self.events.try_send(ControlEvent::Signal(signal));
            }
            ClientMessage::Resize(size) => drop(self.events.try_send(ControlEvent::Resize(size))),
            ClientMessage::Pause => {
                self.held.send_replace(true);
            }
            ClientMessage::Resume => {
                self.held.send_replace(false);
            }
        }
        true
    }

    fn leave(&self) {
        self.gone.cancel();
    }
}

/// A caller on this process's terminal.
fn on_terminal(
    target: &str,
    request: ExecRequest,
    terminal: Terminal,
    escape: EscapeChar,
    gone: &CancellationToken,
) -> io::Result<(Caller, Interactive)> {
    let (events, nudge_receiver) = mpsc::channel(16);
    let (chunks, piece_receiver) = mpsc::channel(16);
    let (hold, held) = watch::channel(true);
    let own = LocalBackend {
        chunks,
        events,
        held: hold,
        gone: gone.clone(),
    };
    let (output, end) = Output::to_terminal()?.unzip();
    let session = Interactive::begin(target, own, output, escape)?;
    let stdout = match end {
        Some(end) => end,
        None => io::stdout().as_fd().try_clone_to_owned()?,
    };
    let caller = Caller {
        request,
        terminal: Some(terminal),
        stdin: Source::Chunks(piece_receiver),
        stdout: Sink::adopt(stdout)?,
        stderr: Sink::adopt(io::stderr().as_fd().try_clone_to_owned()?)?,
        gate: PauseGate::new(held),
        events: nudge_receiver,
    };
    Ok((caller, session))
}

fn caller(
    request: ExecRequest,
    terminal: Option<Terminal>,
    on: &TargetOptions,
    started: &Started,
    left: &CancellationToken,
) -> io::Result<Caller> {
    let (events, receiver) = mpsc::channel(16);
    pass_signals(&events, started, left)?;
    Ok(Caller {
        request,
        terminal,
        stdin: match on.no_input {
            true => Source::Empty,
            false if crate::terminal::is_here() => Source::Chunks(typed()),
            false => Source::adopt(io::stdin().as_fd().try_clone_to_owned()?)?,
        },
        stdout: Sink::adopt(io::stdout().as_fd().try_clone_to_owned()?)?,
        stderr: Sink::adopt(io::stderr().as_fd().try_clone_to_owned()?)?,
        gate: PauseGate::open(),
        events: receiver,
    })
}

/// The input typed on the terminal, up to its end.
fn typed() -> mpsc::Receiver<Vec<u8>> {
    let (chunks, receiver) = mpsc::channel(1);
    // Ends with the process: a blocked read from a terminal cannot be cancelled.
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while input::wait(|| chunks.is_closed(), || {}) {
            let count = match io::stdin().lock().read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Ok(0) | Err(_) => return,
                Ok(count) => count,
            };
            if chunks.blocking_send(buffer[..count].to_vec()).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Forwards signals once the command runs; before that they end this process. A second SIGINT means that the user has
/// `left`.
fn pass_signals(
    sender: &mpsc::Sender<ControlEvent>,
    started: &Started,
    left: &CancellationToken,
) -> io::Result<()> {
    let ignored = Ignored::at_start();
    for (number, name) in FORWARDED {
        if ignored.contains(number) {
            continue;
        }
        let mut arrivals = signal(SignalKind::from_raw(number))?;
        let (sender, started, left) = (sender.clone(), started.clone(), left.clone());
        // Ends with the runtime.
        tokio::spawn(async move {
            let mut count = 0;
            while arrivals.recv().await.is_some() {
                let waiting = started.clone();
                // On another thread, because this one would receive the result.
                let set = tokio::task::spawn_blocking(move || waiting.is_set());
                if !set.await.unwrap_or(false) {
                    std::process::exit(128 + number);
                }
                count += 1;
                if number == SIGINT && count > 1 {
                    left.cancel();
                }
                let _ = sender.send(ControlEvent::Signal(name)).await;
            }
        });
    }
    Ok(())
}
