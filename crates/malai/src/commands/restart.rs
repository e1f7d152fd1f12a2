//! `malai restart`: stops the daemon and starts it again, unless the new one would not start.
//!
//! A process in a session of its own does both. So the daemon is started again even if the process that asked for it ends
//! in between, as it does in a session of that daemon.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use anyhow::Context;
use malai_node::{Home, LockState, StartPolicy, check_start, display_path, lock};

use crate::cli::RestartArgs;
use crate::commands::{daemon, stop};
use crate::logging;
use crate::output::Printer;
use crate::output::exit::Exit;

/// Restarts a background daemon; starts one if none is running.
pub fn run(home: &Home, args: &RestartArgs, printer: &Printer) -> anyhow::Result<Exit> {
    if args.detached {
        return run_detached(home, printer);
    }
    let LockState::Held { pid } = lock::probe(home)? else {
        return daemon::run_background(home, StartPolicy::Serve, printer);
    };
    if let Some(pid) = pid.filter(|pid| !runs_in_background(*pid)) {
        anyhow::bail!(
            "the daemon (pid {pid}) runs in the foreground, so restart it where it was started: for a service, systemctl restart malai; on a terminal, Ctrl-C and malai daemon --foreground"
        );
    }
    check_start(home)?;
    let is_in_session = pid.is_some_and(stop::descends_from);
    let (mut ours, theirs) = UnixStream::pair().context("cannot create a socket pair")?;
    let mut command =
        Command::new(std::env::current_exe().context("cannot find malai's own program")?);
    command
        .args(["restart", "--detached"])
        .env("MALAI_HOME", home.root())
        .stdin(Stdio::from(OwnedFd::from(theirs)));
    if is_in_session {
        // It must not hold the output of a session that the daemon waits for.
        command
            .stdout(Stdio::null())
            .stderr(Stdio::from(logging::open_appending(home)?));
    }
    let child = command.spawn();
    // Otherwise this process would hold the other end, too.
    drop(command);
    let mut child = child.context("cannot start the process that restarts the daemon")?;
    let is_detached = ours.read_exact(&mut [0]).is_ok();
    if is_in_session && is_detached {
        printer.out(&format!(
            "🔄 malai daemon is restarting, which ends this session; if it fails, the log says why: {}\n",
            display_path(&home.log())
        ));
        return Ok(Exit::OK);
    }
    let status = child
        .wait()
        .context("cannot wait for the process that restarts the daemon")?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    match code {
        Some(code) => Ok(Exit(code)),
        None => anyhow::bail!(
            "the process that restarts the daemon ended early ({status}): see malai status"
        ),
    }
}

/// Leaves the session, says so on standard input, then stops the daemon and starts it again.
fn run_detached(home: &Home, printer: &Printer) -> anyhow::Result<Exit> {
    let mut starter = daemon::leave_terminal().context("cannot leave the session")?;
    // The process that asked for it may have ended already.
    let _ = starter.write_all(b"\n");
    drop(starter);
    let stopped = stop::and_wait(home, printer)?;
    if stopped != Exit::OK {
        return Ok(stopped);
    }
    daemon::run_background(home, StartPolicy::Serve, printer)
}

/// Whether `malai daemon` started it in the background, going by its command line.
fn runs_in_background(pid: u32) -> bool {
    // Without /proc, assume that it was.
    let Ok(line) = std::fs::read(format!("/proc/{pid}/cmdline")) else {
        return true;
    };
    let mut words = line.split(|byte| *byte == 0);
    words.any(|word| word == b"--in-background")
}
