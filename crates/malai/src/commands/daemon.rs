//! `malai daemon`: starts a daemon, by default in the background, and returns when it is ready to serve.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::Context;
use malai_node::{
    Daemon, Home, StartPolicy, Started, Supervisor, display_path, keep_capabilities, run_as,
    surroundings, systemd,
};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::DaemonArgs;
use crate::commands::container_init;
use crate::exec::reaper;
use crate::logging::{self, Log};
use crate::output::Printer;
use crate::output::exit::Exit;

/// The background process sends this to its starter when it serves. Remaining problems follow.
const READY: &str = "ready\n";

/// Starts the daemon in the background and waits until it is ready or has failed.
pub fn run_background(home: &Home, policy: StartPolicy, printer: &Printer) -> anyhow::Result<Exit> {
    if container_init::is_first_process() {
        anyhow::bail!(
            "this is the first process of a container, and the kernel would end the daemon with it; use `malai daemon --foreground`"
        );
    }
    home.prepare()?;
    let (mut ours, theirs) = UnixStream::pair().context("cannot create a socket pair")?;
    let log = logging::open_appending(home)?;
    let program = std::env::current_exe().context("cannot find malai's own program")?;
    let mut child = Command::new(program)
        .args(["daemon", "--foreground", "--in-background"])
        .args((policy == StartPolicy::Strict).then_some("--strict"))
        .env("MALAI_HOME", home.root())
        // The service sends readiness notifications, not a daemon that it leaves behind.
        .env_remove(systemd::VARIABLES[0])
        .env_remove(systemd::VARIABLES[1])
        .env_remove(systemd::VARIABLES[2])
        .current_dir("/")
        // Its standard input is the channel back to this process until it is ready.
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::from(log))
        .spawn()
        .context("cannot start the daemon's process")?;
    let mut words = String::new();
    ours.read_to_string(&mut words)
        .context("cannot read from the daemon's process")?;
    if let Some(problems) = words.strip_prefix(READY) {
        printer.out(&format!(
            "✅ malai daemon is running (pid {}); log: {}\n",
            child.id(),
            display_path(&home.log())
        ));
        if !problems.is_empty() {
            printer.say(problems);
        }
        return Ok(Exit::OK);
    }
    let status = child
        .wait()
        .context("cannot wait for the daemon's process")?;
    match words.is_empty() {
        false => anyhow::bail!("{words}"),
        true => anyhow::bail!(
            "the daemon exited before it was ready ({status}); its log: {}",
            display_path(&home.log())
        ),
    }
}

/// What to do about clusters whose files have errors.
pub fn policy(args: &DaemonArgs) -> StartPolicy {
    match args.strict {
        true => StartPolicy::Strict,
        false => StartPolicy::Serve,
    }
}

/// Serves in this process until it is told to stop.
pub fn run_foreground(home: &Home, args: &DaemonArgs, printer: &Printer) -> anyhow::Result<Exit> {
    let in_background = args.in_background;
    if container_init::is_first_process() {
        return container_init::run();
    }
    let policy = policy(args);
    surroundings::adopt_in_daemon();
    // With them a command could become any user.
    keep_capabilities().context("cannot keep this process's capabilities from its commands")?;
    run_as::default_user()?;
    let mut starter = None;
    let log;
    if in_background {
        starter = Some(leave_terminal().context("cannot leave the terminal")?);
        log = Log::to_file(home)?;
    } else {
        log = Log::to_stderr(home)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    let outcome = runtime.block_on(async {
        let mut signals = (
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
            signal(SignalKind::hangup())?,
        );
        // These signals have no meaning here and must not end it.
        let _without_meaning = (
            signal(SignalKind::quit())?,
            signal(SignalKind::user_defined1())?,
            signal(SignalKind::user_defined2())?,
        );
        let reaper = match in_background {
            true => reaper::of_daemon(),
            false => reaper::of_foreground_daemon(),
        };
        let started = Daemon::start(home.clone(), reaper, policy).await?;
        let Started { daemon, problems } = started;
        let supervisor = (!in_background).then(Supervisor::of_environment).flatten();
        let summary = daemon.summary().borrow().clone();
        tracing::info!(home = %display_path(home.root()), version = env!("CARGO_PKG_VERSION"), "ready, {summary}");
        if let Some(mut starter) = starter.take() {
            // Its starter may have gone; it serves nevertheless.
            let problems = problems
                .iter()
                .map(|(folder, problem)| format!("{folder}: {problem}"));
            let problems: Vec<String> = problems.collect();
            let _ = starter.write_all(format!("{READY}{}", problems.join("\n")).as_bytes());
        }
        if let Some(supervisor) = supervisor {
            supervisor.ready(&summary);
        }
        let running = async {
            let asked = async {
                tokio::select! {
                    _ = signals.0.recv() => {}
                    _ = signals.1.recv() => {}
                    () = reload(&daemon, supervisor, &mut signals.2) => {}
                }
            };
            let running = daemon.clone().run();
            tokio::pin!(running);
            tokio::select! {
                () = &mut running => {}
                () = asked => {
                    daemon.stop();
                    running.await;
                }
            }
        };
        tokio::select! {
            () = running => {}
            () = follow(&daemon, &log, supervisor) => {}
            () = watch(home, supervisor) => {}
        }
        anyhow::Ok(())
    });
    runtime.shutdown_background();
    match (outcome, starter) {
        (Ok(()), _) => Ok(Exit::OK),
        (Err(error), Some(mut starter)) => {
            // The starter gets all problems with files; the log gets only the last line.
            let text = format!("{error:#}");
            tracing::error!("not started: {}", text.lines().last().unwrap_or_default());
            let _ = starter.write_all(format!("{error:#}").as_bytes());
            Ok(Exit::FAILED)
        }
        (Err(error), None) => {
            printer.say(&format!("{error:#}"));
            Ok(Exit::FAILED)
        }
    }
}

/// Applies the files again at each SIGHUP.
async fn reload(daemon: &Arc<Daemon>, supervisor: Option<Supervisor>, hangup: &mut Signal) {
    while hangup.recv().await.is_some() {
        if let Some(supervisor) = supervisor {
            supervisor.reloading();
        }
        // A separate task, so that a stop request leaves nothing half done.
        let rescanned = tokio::spawn({
            let daemon = daemon.clone();
            async move { daemon.rescan(None, false).await }
        });
        match rescanned.await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::error!("rescan on SIGHUP: {error}"),
            Err(error) => tracing::error!("rescan on SIGHUP failed: {error}"),
        }
        if let Some(supervisor) = supervisor {
            supervisor.ready(&daemon.summary().borrow());
        }
    }
    std::future::pending().await
}

/// Applies new log settings, and notifies the service manager of the state. Never returns.
async fn follow(daemon: &Daemon, log: &Log, supervisor: Option<Supervisor>) {
    let (mut settings, mut summary) = (daemon.log(), daemon.summary());
    summary.mark_unchanged();
    loop {
        tokio::select! {
            Ok(()) = settings.changed() => log.apply(*settings.borrow_and_update()),
            Ok(()) = summary.changed() => {
                let line = summary.borrow_and_update().clone();
                if let Some(supervisor) = supervisor {
                    supervisor.status(&line);
                }
            }
            () = daemon.begins_to_stop() => break,
        }
    }
    if let Some(supervisor) = supervisor {
        supervisor.stopping();
    }
    std::future::pending().await
}

/// Notifies the watchdog, if there is one. Never returns, because it also watches the stop.
async fn watch(home: &Home, supervisor: Option<Supervisor>) {
    if let Some(supervisor) = supervisor {
        supervisor.watch(home).await;
    }
    std::future::pending().await
}

/// Leaves the session and the terminal of the starter. Returns the channel back to it.
pub(super) fn leave_terminal() -> std::io::Result<UnixStream> {
    rustix::process::setsid()?;
    let starter = UnixStream::from(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?);
    let null = rustix::fs::open(
        "/dev/null",
        rustix::fs::OFlags::RDWR,
        rustix::fs::Mode::empty(),
    )?;
    rustix::stdio::dup2_stdin(&null)?;
    Ok(starter)
}
