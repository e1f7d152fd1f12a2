//! A command without a daemon: the same session, on a connection of its own.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::Context;
use malai_cluster::ClusterRef;
use malai_node::execute::{self, Ending, READER_GONE};
use malai_node::flow::{Gate, Sink, Source};
use malai_node::home::{ClusterDir, Home};
use malai_node::keeper::Keeper;
use malai_node::membership;
use malai_node::outbound::exec::Caller;
use malai_node::process::Nudge;
use malai_node::service::{Part, Service};
use malai_node::settings::Settings;
use malai_wire::control::ClientMessage;
use malai_wire::peer::exec::{Action, Signal, Terminal};
use malai_wire::{Refusal, RefusalCode};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::ignored::Ignored;
use super::interactive::{Interactive, Other};
use super::started::Started;
use super::timed_out;
use crate::args::OnTargets;
use crate::commands::keeper;

/// Runs a command and waits for its end. Nothing in the home is changed by it. Its frame, which holds all of the
/// session's state, is not for the stack of a command through a daemon.
#[inline(never)]
pub fn run(
    home: &Home,
    target: &str,
    action: Action,
    terminal: Option<Terminal>,
    on: &OnTargets,
) -> anyhow::Result<Ending> {
    let settings = Settings::load(home)?;
    let mut part = Part::new(false, settings.effective_reach()?, home, &settings);
    // Its process is started if the command turns out to run here.
    part.keeper =
        Keeper::new(keeper::program(false, false)).context("cannot make a pipe to the keeper")?;
    let audit = part.audit.clone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    let ending = runtime.block_on(async {
        let found = match execute::resolve_target(target, &settings.aliases) {
            Ok(found) => found,
            Err(message) => return Ok(Ending::failed(message)),
        };
        // Another cluster's broken folder is no reason to fail here.
        let dirs = home.survey()?.dirs;
        let mut services = Vec::new();
        for dir in dirs.iter().filter(|dir| is_cluster_of(dir, &found.cluster)) {
            services.push(Service::start(dir.clone(), part.clone()).await?);
        }
        if services.is_empty() {
            let known: Vec<_> = dirs.iter().map(|dir| dir.alias.to_string()).collect();
            return Ok(Ending::failed(execute::unknown_cluster(
                &found.cluster,
                Some(&found.machine),
                &known,
            )));
        }
        let (started, gone) = (Started::default(), CancellationToken::new());
        let caller = match terminal {
            Some(terminal) if crate::terminal::is_here() && !on.no_input => {
                on_terminal(target, action, terminal, &gone).map(|(caller, on)| (caller, Some(on)))
            }
            terminal => caller(action, terminal, on, started.clone()).map(|caller| (caller, None)),
        };
        let (caller, session) = match caller {
            Ok(caller) => caller,
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                return Ok(Ending {
                    code: READER_GONE,
                    message: None,
                });
            }
            Err(error) => return Err(error).context("the command's own streams cannot be used"),
        };
        let all = services.clone();
        let patience = on.timeout.unwrap_or(Duration::MAX);
        let (ending, remains) = {
            let execution = execute::execute(
                services,
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
                    let (_, remains) = execution.await;
                    (Ending::failed(timed_out(target, on)), remains)
                }
            }
        };
        let ending = match &session {
            Some(session) => session.ends(session.left().unwrap_or(ending)),
            None => ending,
        };
        // Before what is left is ended, which may take a while.
        drop(session);
        if let Some(remains) = remains {
            remains.end().await;
        }
        for service in all {
            service.stop(&Refusal::new(RefusalCode::Done, "")).await;
        }
        Ok(ending)
    });
    let ending = ending.map(|ending| with_notices(ending, audit.notices()));
    // A read from a terminal may still be under way on a thread; nobody waits for it.
    runtime.shutdown_background();
    ending
}

/// Beside how a command ended, what stands in the way of its record: nobody else would say it.
fn with_notices(ending: Ending, notices: Vec<String>) -> Ending {
    let message: Vec<String> = ending.message.into_iter().chain(notices).collect();
    Ending {
        message: (!message.is_empty()).then(|| message.join("\nmalai: ")),
        ..ending
    }
}

/// Whether a folder is that of a cluster.
pub fn is_cluster_of(dir: &ClusterDir, cluster: &ClusterRef) -> bool {
    match cluster {
        ClusterRef::Alias(alias) => dir.alias == *alias,
        ClusterRef::Id(id) => membership::identify(dir).is_ok_and(|(_, found)| found == *id),
    }
}

/// This process itself, to a session on the terminal.
struct Own {
    pieces: mpsc::Sender<Vec<u8>>,
    nudges: mpsc::Sender<Nudge>,
    held: watch::Sender<bool>,
    gone: CancellationToken,
}

impl Other for Own {
    fn tell(&self, message: ClientMessage) -> bool {
        match message {
            ClientMessage::Input(piece) => return self.pieces.blocking_send(piece).is_ok(),
            // Lost where sixteen others wait: nobody reads them any more then.
            ClientMessage::Signal(signal) => drop(self.nudges.try_send(Nudge::Signal(signal))),
            ClientMessage::Resize(size) => drop(self.nudges.try_send(Nudge::Resize(size))),
            ClientMessage::Pause => drop(self.held.send_replace(true)),
            ClientMessage::Resume => drop(self.held.send_replace(false)),
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
    action: Action,
    terminal: Terminal,
    gone: &CancellationToken,
) -> io::Result<(Caller, Interactive)> {
    let (nudges, nudge_receiver) = mpsc::channel(16);
    let (pieces, piece_receiver) = mpsc::channel(16);
    let (hold, held) = watch::channel(true);
    let own = Own {
        pieces,
        nudges,
        held: hold,
        gone: gone.clone(),
    };
    let session = Interactive::begin(target, own)?;
    let caller = Caller {
        action,
        terminal: Some(terminal),
        stdin: Source::Pieces(piece_receiver),
        stdout: Sink::adopt(io::stdout().as_fd().try_clone_to_owned()?)?,
        stderr: Sink::adopt(io::stderr().as_fd().try_clone_to_owned()?)?,
        gate: Gate::new(held),
        nudges: nudge_receiver,
    };
    Ok((caller, session))
}

fn caller(
    action: Action,
    terminal: Option<Terminal>,
    on: &OnTargets,
    started: Started,
) -> io::Result<Caller> {
    let (nudges, receiver) = mpsc::channel(16);
    pass_signals(&nudges, &started)?;
    Ok(Caller {
        action,
        terminal,
        stdin: match on.no_input {
            true => Source::Empty,
            false => Source::adopt(io::stdin().as_fd().try_clone_to_owned()?)?,
        },
        stdout: Sink::adopt(io::stdout().as_fd().try_clone_to_owned()?)?,
        stderr: Sink::adopt(io::stderr().as_fd().try_clone_to_owned()?)?,
        gate: Gate::open(),
        nudges: receiver,
    })
}

/// Passes signals on from the moment the command runs; before that they end this process.
fn pass_signals(sender: &mpsc::Sender<Nudge>, started: &Started) -> io::Result<()> {
    let ignored = Ignored::at_start();
    for (kind, name) in [
        (SignalKind::interrupt(), Signal::Int),
        (SignalKind::terminate(), Signal::Term),
        (SignalKind::hangup(), Signal::Hup),
        (SignalKind::quit(), Signal::Quit),
        (SignalKind::user_defined1(), Signal::Usr1),
        (SignalKind::user_defined2(), Signal::Usr2),
    ] {
        if ignored.contains(kind.as_raw_value()) {
            continue;
        }
        let (mut arrivals, sender, started) = (signal(kind)?, sender.clone(), started.clone());
        // Ends with the runtime.
        tokio::spawn(async move {
            while arrivals.recv().await.is_some() {
                let waiting = started.clone();
                // Aside, since this thread is the one that would hear of it.
                let set = tokio::task::spawn_blocking(move || waiting.is_set());
                if !set.await.unwrap_or(false) {
                    std::process::exit(128 + kind.as_raw_value());
                }
                let _ = sender.send(Nudge::Signal(name)).await;
            }
        });
    }
    Ok(())
}
