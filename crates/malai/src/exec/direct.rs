//! A command without a daemon: the same session, on a connection of its own.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::Context;
use malai_node::{
    Caller, CommandResult, ControlEvent, EXIT_READER_GONE, Home, PauseGate, Reaper, Settings, Sink,
    Source, Standalone, StandaloneError, dispatch,
};
use malai_wire::control::ClientMessage;
use malai_wire::peer::exec::{ExecRequest, Terminal};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::timed_out;

use crate::cli::TargetOptions;
use crate::exec::interactive::{Interactive, SessionBackend};
use crate::exec::reaper;
use crate::signals::FORWARDED;
use crate::signals::ignored::Ignored;
use crate::signals::started::Started;

/// Runs a command and waits for its end. Nothing in the home is changed by it. Its frame, which holds all of the
/// session's state, is not for the stack of a command through a daemon.
#[inline(never)]
pub fn run(
    home: &Home,
    target: &str,
    request: ExecRequest,
    terminal: Option<Terminal>,
    on: &TargetOptions,
) -> anyhow::Result<CommandResult> {
    let settings = Settings::load(home)?;
    // Its process is started if the command turns out to run here.
    let reaper = Reaper::new(reaper::of_command()).context("cannot make a pipe to the reaper")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    let ending = runtime.block_on(async {
        let found = match malai_cluster::resolve_target(target, &settings.aliases) {
            Ok(found) => found,
            Err(message) => return Ok(CommandResult::failed(message)),
        };
        let clusters = [(&found.cluster, Some(&found.machine))];
        let standalone = match Standalone::open(home, &settings, clusters, reaper).await {
            Ok(standalone) => standalone,
            Err(StandaloneError::UnknownCluster(message)) => {
                return Ok(CommandResult::failed(message));
            }
            Err(error) => return Err(error.into()),
        };
        let (started, gone) = (Started::default(), CancellationToken::new());
        let caller = match terminal {
            Some(terminal) if crate::terminal::is_here() && !on.no_input => {
                on_terminal(target, request, terminal, &gone).map(|(caller, on)| (caller, Some(on)))
            }
            terminal => caller(request, terminal, on, started.clone()).map(|caller| (caller, None)),
        };
        let (caller, session) = match caller {
            Ok(caller) => caller,
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                return Ok(CommandResult::exit(EXIT_READER_GONE));
            }
            Err(error) => return Err(error).context("the command's own streams cannot be used"),
        };
        let patience = on.timeout.unwrap_or(Duration::MAX);
        let (ending, cleanup) = {
            let execution = dispatch::execute(
                standalone.services().to_vec(),
                settings.aliases,
                target,
                caller,
                gone.clone(),
                || {
                    started.set();
                    // A terminal that cannot be made raw has hung up: nobody is there.
                    if session
                        .as_ref()
                        .is_some_and(|session| session.started().is_err())
                    {
                        gone.cancel();
                    }
                },
            );
            tokio::pin!(execution);
            match tokio::time::timeout(patience, &mut execution).await {
                Ok(ended) => ended,
                Err(_) => {
                    gone.cancel();
                    let (_, cleanup) = execution.await;
                    (CommandResult::failed(timed_out(target, on)), cleanup)
                }
            }
        };
        let ending = match &session {
            Some(session) => session.ends(session.left().unwrap_or(ending)),
            None => ending,
        };
        // Before what is left is ended, which may take a while.
        drop(session);
        if let Some(cleanup) = cleanup {
            cleanup.end().await;
        }
        standalone.stop().await;
        Ok(with_notices(ending, standalone.notices()))
    });
    // A read from a terminal may still be under way on a thread; nobody waits for it.
    runtime.shutdown_background();
    ending
}

/// Beside how a command ended, what stands in the way of its record: nobody else would say it.
fn with_notices(ending: CommandResult, notices: Vec<String>) -> CommandResult {
    let message: Vec<String> = ending.message.into_iter().chain(notices).collect();
    CommandResult {
        message: (!message.is_empty()).then(|| message.join("\nmalai: ")),
        ..ending
    }
}

/// This process itself, to a session on the terminal.
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
            // Lost where sixteen others wait: nobody reads them any more then.
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

/// A caller whose terminal is this process's.
fn on_terminal(
    target: &str,
    request: ExecRequest,
    terminal: Terminal,
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
    let session = Interactive::begin(target, own)?;
    let caller = Caller {
        request,
        terminal: Some(terminal),
        stdin: Source::Chunks(piece_receiver),
        stdout: Sink::adopt(io::stdout().as_fd().try_clone_to_owned()?)?,
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
    started: Started,
) -> io::Result<Caller> {
    let (events, receiver) = mpsc::channel(16);
    pass_signals(&events, &started)?;
    Ok(Caller {
        request,
        terminal,
        stdin: match on.no_input {
            true => Source::Empty,
            false => Source::adopt(io::stdin().as_fd().try_clone_to_owned()?)?,
        },
        stdout: Sink::adopt(io::stdout().as_fd().try_clone_to_owned()?)?,
        stderr: Sink::adopt(io::stderr().as_fd().try_clone_to_owned()?)?,
        gate: PauseGate::open(),
        events: receiver,
    })
}

/// Passes signals on from the moment the command runs; before that they end this process.
fn pass_signals(sender: &mpsc::Sender<ControlEvent>, started: &Started) -> io::Result<()> {
    let ignored = Ignored::at_start();
    for (number, name) in FORWARDED {
        if ignored.contains(number) {
            continue;
        }
        let mut arrivals = signal(SignalKind::from_raw(number))?;
        let (sender, started) = (sender.clone(), started.clone());
        // Ends with the runtime.
        tokio::spawn(async move {
            while arrivals.recv().await.is_some() {
                let waiting = started.clone();
                // Aside, since this thread is the one that would hear of it.
                let set = tokio::task::spawn_blocking(move || waiting.is_set());
                if !set.await.unwrap_or(false) {
                    std::process::exit(128 + number);
                }
                let _ = sender.send(ControlEvent::Signal(name)).await;
            }
        });
    }
    Ok(())
}
