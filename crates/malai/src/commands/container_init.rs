//! The first process of a container (PID 1): starts the daemon, passes signals on to it, and reaps orphans.
//!
//! A process whose parent has exited becomes a child of PID 1, and stays a zombie until PID 1 waits for it. The daemon waits
//! for each of its commands by process id; if it also waited for any child, it could lose the exit status of a
//! command. This process has only one child of its own, so it can.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus};

use anyhow::Context;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::output::exit::Exit;

/// The signals that are passed on to the daemon. PID 1 has no default handlers: a signal that it does not catch is ignored.
const FORWARDED: [(fn() -> SignalKind, Signal); 6] = [
    (SignalKind::terminate, Signal::TERM),
    (SignalKind::interrupt, Signal::INT),
    (SignalKind::hangup, Signal::HUP),
    (SignalKind::quit, Signal::QUIT),
    (SignalKind::user_defined1, Signal::USR1),
    (SignalKind::user_defined2, Signal::USR2),
];

/// Whether this is the first process of a container.
pub fn is_first_process() -> bool {
    std::process::id() == 1
}

/// Runs this command line again as a child, until it exits; returns its exit code. When this process exits, the kernel ends
/// all others in the container.
pub fn run() -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    let status = runtime.block_on(supervise())?;
    let signaled = status.signal().map(|signal| 128 + signal);
    let code = status.code().or(signaled).unwrap_or(1);
    Ok(Exit(u8::try_from(code).unwrap_or(1)))
}

async fn supervise() -> anyhow::Result<ExitStatus> {
    let (sender, mut received) = mpsc::unbounded_channel();
    for (kind, number) in FORWARDED {
        let (mut signals, sender) = (signal(kind())?, sender.clone());
        tokio::spawn(async move {
            while signals.recv().await.is_some() && sender.send(number).is_ok() {}
        });
    }
    let mut exits = signal(SignalKind::child())?;
    let mut arguments = std::env::args_os();
    let mut command =
        Command::new(std::env::current_exe().context("cannot find malai's own program")?);
    command.arg0(arguments.next().unwrap_or_else(|| "malai".into()));
    let daemon = command
        .args(arguments)
        .spawn()
        .context("cannot start the daemon's process")?;
    let daemon = Pid::from_child(&daemon);
    loop {
        tokio::select! {
            Some(signal) = received.recv() => drop(kill_process(daemon, signal)),
            Some(()) = exits.recv() => {
                if let Some(status) = reap(daemon) {
                    return Ok(status);
                }
            }
        }
    }
}

/// Waits for every child that has exited. Returns the status of the daemon, if it was among them.
fn reap(daemon: Pid) -> Option<ExitStatus> {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((id, status))) if id == daemon => {
                return Some(ExitStatus::from_raw(status.as_raw()));
            }
            Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
            Ok(None) | Err(_) => return None,
        }
    }
}
