//! The two routes of a command on one of many machines: through the daemon, or direct.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use malai_cluster::Targets;
use malai_node::control::{self, Control, ControlError};
use malai_node::{
    Caller, CommandResult, ControlEvent, Fd, GRACE, Home, PauseGate, Reaper, Settings, Sink,
    Source, Standalone, control as answers, dispatch, fd, ping,
};
use malai_wire::control::{ClientMessage, Exec, Named, Ping, Reply, Request, Resolved, Stdin};
use malai_wire::peer::exec::ExecRequest;
use malai_wire::ping::Pinged;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::exec::reaper;
use crate::exec::route::Route;

/// How long commands on this computer may take to end when the user does not want to wait.
const LEAVE: Duration = Duration::from_millis(250);

/// The route of all machines.
#[derive(Debug)]
pub enum Backend {
    /// Through the daemon of this home: one socket connection per machine.
    Daemon(Home),
    /// From this process, over its own endpoints.
    Direct(Direct),
}

/// The clusters served in this process.
#[derive(Debug)]
pub struct Direct {
    clusters: Standalone,
    commands: TaskTracker,
}

/// A command on one machine, with its ends of the streams.
#[derive(Debug)]
pub struct Command {
    /// `<machine>.<cluster>`.
    pub target: String,
    /// What to run.
    pub request: ExecRequest,
    /// `None` for no input.
    pub stdin: Option<OwnedFd>,
    /// Where its output goes: a pipe.
    pub stdout: OwnedFd,
    /// Where its standard error goes: a pipe.
    pub stderr: OwnedFd,
}

impl Backend {
    /// Finds the route, and resolves the targets.
    ///
    /// # Errors
    ///
    /// The targets cannot be resolved, or this home cannot be used.
    pub async fn open(home: &Home, targets: &Targets) -> anyhow::Result<(Self, Resolved)> {
        match Route::of(home)? {
            Route::Daemon(control) => {
                let resolved = ask(*control, targets)?;
                Ok((Self::Daemon(home.clone()), resolved))
            }
            Route::Direct => {
                let (direct, resolved) = Direct::open(home, targets).await?;
                Ok((Self::Direct(direct), resolved))
            }
        }
    }

    /// Runs a command to its end. Dropping this ends it. `begun` is set when the machine has accepted it; signals from then on are
    /// the command's.
    pub async fn run(
        &self,
        command: Command,
        events: mpsc::Receiver<ControlEvent>,
        begun: Arc<AtomicBool>,
    ) -> CommandResult {
        match self {
            Self::Daemon(home) => match through(home, command, events, &begun).await {
                Ok(ending) => ending,
                Err(error) => CommandResult::failed(error.to_string()),
            },
            Self::Direct(direct) => direct.run(command, events, begun).await,
        }
    }

    /// Pings a machine `count` times; gives up after `timeout`.
    pub async fn ping(&self, named: &Named, count: u16, timeout: Duration) -> Pinged {
        let request = Ping {
            target: format!("{}.{}", named.machine, named.cluster),
            count,
            timeout_ms: u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX),
        };
        let answer = match self {
            Self::Daemon(home) => ping_through(home, request).await,
            Self::Direct(direct) => ping::answer(direct.clusters.services(), &request).await,
        };
        let pinged = answer.and_then(|text| {
            serde_json::from_str(&text)
                .map_err(|error| format!("the daemon's answer cannot be read: {error}"))
        });
        pinged.unwrap_or_else(|why| Pinged::failed(named, why))
    }

    /// Ends what is left, and returns problems with the audit record of what ran here. Commands that still have to be ended on this
    /// computer get their grace period, unless the user is `leaving`.
    pub async fn close(&self, leaving: bool) -> Vec<String> {
        match self {
            Self::Daemon(_) => Vec::new(),
            Self::Direct(direct) => {
                let timeout = if leaving { LEAVE } else { GRACE + LEAVE };
                direct.commands.close();
                let _ = tokio::time::timeout(timeout, direct.commands.wait()).await;
                direct.clusters.stop().await;
                direct.clusters.notices()
            }
        }
    }
}

fn ask(mut control: Control, targets: &Targets) -> Result<Resolved, ControlError> {
    control.send(&Request::Resolve(targets.to_string()), &[])?;
    match control.answer()? {
        Reply::Resolved(resolved) => Ok(resolved),
        _ => Err(ControlError::Garbled(
            "it sends an unexpected answer".into(),
        )),
    }
}

async fn ping_through(home: &Home, request: Ping) -> Result<String, String> {
    let control = control::connect(home).map_err(|error| error.to_string())?;
    let control = control.ok_or("the local daemon has exited")?;
    let asked = async {
        let client = control.into_conversation()?;
        let (mut answers, _voice) = client.ask(&Request::Ping(request), &[]).await?;
        answers.next().await
    };
    match asked.await {
        Ok(Reply::Pinged(text)) => Ok(text),
        Ok(_) => Err("the daemon sent an unexpected answer; is it another version?".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

async fn through(
    home: &Home,
    command: Command,
    mut events: mpsc::Receiver<ControlEvent>,
    begun: &AtomicBool,
) -> Result<CommandResult, ControlError> {
    let Some(control) = control::connect(home)? else {
        return Ok(CommandResult::failed(
            "the local daemon has exited; nothing was run",
        ));
    };
    let Command {
        target,
        request,
        stdin,
        stdout,
        stderr,
    } = command;
    let request = Request::Exec(Exec {
        target,
        request,
        stdin: match stdin {
            Some(_) => Stdin::Fd,
            None => Stdin::Empty,
        },
        terminal: None,
    });
    let given = stdin.iter().chain([&stdout, &stderr]);
    let given: Vec<_> = given.map(AsFd::as_fd).collect();
    let (mut answers, mut voice) = control.into_conversation()?.ask(&request, &given).await?;
    drop((stdin, stdout, stderr));
    loop {
        tokio::select! {
            answer = answers.next() => match answer {
                Ok(Reply::Started) => begun.store(true, Ordering::Relaxed),
                Ok(Reply::Exited(exited)) => {
                    return Ok(exited);
                }
                Ok(_) => {}
                Err(ControlError::Gone) => return Ok(CommandResult::failed(dispatch::DAEMON_GONE)),
                Err(error) => return Err(error),
            },
            Some(event) = events.recv() => if let ControlEvent::Signal(signal) = event {
                voice.say(&ClientMessage::Signal(signal)).await;
            },
        }
    }
}

impl Direct {
    async fn open(home: &Home, targets: &Targets) -> anyhow::Result<(Self, Resolved)> {
        let settings = Settings::load(home)?;
        let reaper =
            Reaper::new(reaper::of_command()).context("cannot create the pipe to the reaper")?;
        let wanted = targets
            .clusters()
            .into_iter()
            .map(|cluster| (cluster, None));
        let clusters = Standalone::open(home, &settings, wanted, reaper).await?;
        let resolved = dispatch::resolve(clusters.services(), targets);
        let direct = Self {
            clusters,
            commands: TaskTracker::new(),
        };
        match resolved.map(answers::resolved) {
            Ok(Reply::Resolved(resolved)) => Ok((direct, resolved)),
            Ok(_) => anyhow::bail!("{targets} selects no machines"),
            Err(why) => {
                Backend::Direct(direct).close(true).await;
                anyhow::bail!(why)
            }
        }
    }

    async fn run(
        &self,
        command: Command,
        events: mpsc::Receiver<ControlEvent>,
        begun: Arc<AtomicBool>,
    ) -> CommandResult {
        let Command { target, .. } = &command;
        let target = target.clone();
        let caller = match caller(command, events) {
            Ok(caller) => caller,
            Err(error) => {
                return CommandResult::failed(format!(
                    "cannot create pipes for the command: {error}"
                ));
            }
        };
        // Dropping this ends the command; on this computer that takes a grace period, which is not awaited here.
        let gone = CancellationToken::new();
        let _guard = gone.clone().drop_guard();
        let (done, ended) = oneshot::channel();
        let services = self.clusters.services().to_vec();
        self.commands.spawn(async move {
            let accepted = move || begun.store(true, Ordering::Relaxed);
            let execution = dispatch::execute(services, &target, caller, gone, accepted);
            let (ending, cleanup) = execution.await;
            let _ = done.send(ending);
            if let Some(cleanup) = cleanup {
                cleanup.end().await;
            }
        });
        ended
            .await
            .unwrap_or_else(|_| CommandResult::failed("malai itself failed; the command was ended"))
    }
}

fn caller(command: Command, events: mpsc::Receiver<ControlEvent>) -> io::Result<Caller> {
    let sink = |fd| Fd::adopt(fd, fd::Direction::Write).map(Sink::Fd);
    Ok(Caller {
        request: command.request,
        terminal: None,
        stdin: match command.stdin {
            Some(fd) => Source::Fd(Fd::adopt(fd, fd::Direction::Read)?),
            None => Source::Empty,
        },
        stdout: sink(command.stdout)?,
        stderr: sink(command.stderr)?,
        gate: PauseGate::open(),
        events,
    })
}
