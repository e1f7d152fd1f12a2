//! The two ways of a command on one of many machines: through the daemon, or direct.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use malai_cluster::{Targets, escape};
use malai_node::audit::Audit;
use malai_node::control::client::{self, Control, ControlError};
use malai_node::control::{self as answers};
use malai_node::descriptor::{self, Descriptor};
use malai_node::execute::{self, Ending};
use malai_node::flow::{Gate, Sink, Source};
use malai_node::home::Home;
use malai_node::keeper::Keeper;
use malai_node::outbound::exec::Caller;
use malai_node::process::{GRACE, Nudge};
use malai_node::service::{Part, Service};
use malai_node::settings::Settings;
use malai_wire::control::{ClientMessage, Exec, Reply, Request, Resolved, Stdin};
use malai_wire::peer::exec::Action;
use malai_wire::{Refusal, RefusalCode};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::commands::keeper;
use crate::route::Route;
use crate::through::direct::is_cluster_of;

/// How long commands of this very computer may take to end when somebody does not want to wait.
const LEAVE: Duration = Duration::from_millis(250);

/// The way of all machines.
#[derive(Debug)]
pub enum Way {
    /// Through the daemon of this home: a connection of its socket for each machine.
    Daemon(Home),
    /// From this process, over its own endpoints.
    Direct(Direct),
}

/// The clusters that are at work in this process.
#[derive(Debug)]
pub struct Direct {
    services: Vec<Arc<Service>>,
    audit: Arc<Audit>,
    commands: TaskTracker,
}

/// A command on one machine, with its ends of the streams.
#[derive(Debug)]
pub struct Command {
    /// `<machine>.<cluster>`.
    pub target: String,
    /// What is to be run.
    pub action: Action,
    /// None for no input.
    pub stdin: Option<OwnedFd>,
    /// Where its output goes: a pipe.
    pub stdout: OwnedFd,
    /// Where its complaints go: a pipe.
    pub stderr: OwnedFd,
}

impl Way {
    /// Finds the way, and the machines that are meant.
    ///
    /// # Errors
    ///
    /// What was written leads nowhere, or this home cannot be used.
    pub async fn open(home: &Home, targets: &str) -> anyhow::Result<(Self, Resolved)> {
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

    /// Runs a command to its end. It is ended if this is dropped. `begun` is set when the machine has
    /// accepted it; signals from then on are the command's.
    pub async fn run(
        &self,
        command: Command,
        nudges: mpsc::Receiver<Nudge>,
        begun: Arc<AtomicBool>,
    ) -> Ending {
        match self {
            Self::Daemon(home) => match through(home, command, nudges, &begun).await {
                Ok(ending) => ending,
                Err(error) => Ending::failed(error.to_string()),
            },
            Self::Direct(direct) => direct.run(command, nudges, begun).await,
        }
    }

    /// Ends what is left, and says what stands in the way of the record of what ran here. What still
    /// has to be ended on this very computer gets its grace period, unless somebody is `leaving`.
    pub async fn close(&self, leaving: bool) -> Vec<String> {
        match self {
            Self::Daemon(_) => Vec::new(),
            Self::Direct(direct) => {
                let patience = if leaving { LEAVE } else { GRACE + LEAVE };
                direct.commands.close();
                let _ = tokio::time::timeout(patience, direct.commands.wait()).await;
                for service in &direct.services {
                    service.stop(&Refusal::new(RefusalCode::Done, "")).await;
                }
                direct.audit.notices()
            }
        }
    }
}

fn ask(mut control: Control, targets: &str) -> Result<Resolved, ControlError> {
    control.send(&Request::Resolve(targets.to_owned()), &[])?;
    match control.answer()? {
        Reply::Resolved(resolved) => Ok(resolved),
        _ => Err(ControlError::Garbled("it answers something else".into())),
    }
}

async fn through(
    home: &Home,
    command: Command,
    mut nudges: mpsc::Receiver<Nudge>,
    begun: &AtomicBool,
) -> Result<Ending, ControlError> {
    let Some(control) = client::connect(home)? else {
        return Ok(Ending::failed(
            "the daemon of this computer has ended; nothing was run",
        ));
    };
    let Command {
        target,
        action,
        stdin,
        stdout,
        stderr,
    } = command;
    let request = Request::Exec(Exec {
        target,
        action,
        stdin: match stdin {
            Some(_) => Stdin::Descriptor,
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
                    return Ok(Ending { code: exited.code, message: exited.message });
                }
                Ok(_) => {}
                Err(ControlError::Gone) => return Ok(Ending::failed(execute::DAEMON_GONE)),
                Err(error) => return Err(error),
            },
            Some(nudge) = nudges.recv() => if let Nudge::Signal(signal) = nudge {
                voice.say(&ClientMessage::Signal(signal)).await;
            },
        }
    }
}

impl Direct {
    async fn open(home: &Home, text: &str) -> anyhow::Result<(Self, Resolved)> {
        let settings = Settings::load(home)?;
        let targets = Targets::parse(text, |alias| settings.aliases.get(alias).cloned())?;
        let mut part = Part::new(false, settings.effective_reach()?, home, &settings);
        part.keeper = Keeper::new(keeper::program(false, false))
            .context("cannot make a pipe to the keeper")?;
        let audit = part.audit.clone();
        // Another cluster's broken folder is no reason to fail here.
        let dirs = home.survey()?.dirs;
        let mut services = Vec::new();
        for cluster in targets.clusters() {
            let Some(dir) = dirs.iter().find(|dir| is_cluster_of(dir, cluster)) else {
                let known: Vec<_> = dirs.iter().map(|dir| dir.alias.to_string()).collect();
                anyhow::bail!(execute::unknown_cluster(cluster, None, &known));
            };
            let open = |service: &Arc<Service>| service.membership.alias() == &dir.alias;
            if !services.iter().any(open) {
                services.push(Service::start(dir.clone(), part.clone()).await?);
            }
        }
        let resolved = execute::resolve(&services, &settings.aliases, text);
        let direct = Self {
            services,
            audit,
            commands: TaskTracker::new(),
        };
        match resolved.map(answers::resolved) {
            Ok(Reply::Resolved(resolved)) => Ok((direct, resolved)),
            Ok(_) => anyhow::bail!("nothing is meant by {}", escape(text)),
            Err(why) => {
                Way::Direct(direct).close(true).await;
                anyhow::bail!(why)
            }
        }
    }

    async fn run(
        &self,
        command: Command,
        nudges: mpsc::Receiver<Nudge>,
        begun: Arc<AtomicBool>,
    ) -> Ending {
        let Command { target, .. } = &command;
        let target = target.clone();
        let caller = match caller(command, nudges) {
            Ok(caller) => caller,
            Err(error) => return Ending::failed(format!("no pipes for the command: {error}")),
        };
        // Whoever drops this ends the command; on this very computer that takes a grace period, which
        // is not waited for here.
        let gone = CancellationToken::new();
        let _guard = gone.clone().drop_guard();
        let (done, ended) = oneshot::channel();
        let services = self.services.clone();
        self.commands.spawn(async move {
            let accepted = move || begun.store(true, Ordering::Relaxed);
            let execution = execute::execute(
                services,
                Default::default(),
                &target,
                caller,
                gone,
                accepted,
            );
            let (ending, remains) = execution.await;
            let _ = done.send(ending);
            if let Some(remains) = remains {
                remains.end().await;
            }
        });
        ended
            .await
            .unwrap_or_else(|_| Ending::failed("malai itself failed; the command was ended"))
    }
}

fn caller(command: Command, nudges: mpsc::Receiver<Nudge>) -> io::Result<Caller> {
    let sink = |fd| Descriptor::adopt(fd, descriptor::Way::Write).map(Sink::Descriptor);
    Ok(Caller {
        action: command.action,
        terminal: None,
        stdin: match command.stdin {
            Some(fd) => Source::Descriptor(Descriptor::adopt(fd, descriptor::Way::Read)?),
            None => Source::Empty,
        },
        stdout: sink(command.stdout)?,
        stderr: sink(command.stderr)?,
        gate: Gate::open(),
        nudges,
    })
}
