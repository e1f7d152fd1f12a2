//! `ssh -f`: stays in the foreground until the session has started, and continues in the background.
//!
//! A process with threads cannot be forked, so this program starts again as a child that shares the terminal and its
//! signals. The child's standard input is a pipe, on which it reports that the session has started. The first process then
//! exits, and the child leaves the terminal.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};

use anyhow::Context;
use rustix::pipe::{PipeFlags, pipe_with};

use crate::output::exit::Exit;

/// The first argument of the child, before those of ssh.
pub const FLAG: &str = "--in-background";

/// Starts the child, and waits until its session has started or it has failed.
///
/// # Errors
///
/// The child cannot be started.
pub fn start(arguments: &[OsString]) -> anyhow::Result<Exit> {
    let (started, report) = pipe_with(PipeFlags::CLOEXEC).context("cannot create a pipe")?;
    // The command owns this side's copy of the pipe, and is dropped at the end of the statement.
    let mut child = Command::new("/proc/self/exe")
        .arg0("malai")
        .args(["ssh", FLAG])
        .args(arguments)
        .stdin(Stdio::from(report))
        .spawn()
        .context("cannot start this program in the background")?;
    if File::from(started).read_exact(&mut [0]).is_ok() {
        return Ok(Exit::OK);
    }
    let status = child.wait().context("cannot wait for the session")?;
    let signal = status.signal().map(|number| 128 + number);
    let code = status
        .code()
        .or(signal)
        .and_then(|code| code.try_into().ok());
    Ok(Exit(code.unwrap_or(Exit::MALAI.0)))
}

/// In the child: the session has started. Without `outputs`, standard output and error are closed as well, so that nobody
/// who reads them has to wait.
pub fn started(outputs: bool) {
    // It shares a process group with its parent, so it leads none, which is all that could fail.
    let _ = rustix::process::setsid();
    let _ = rustix::io::write(rustix::stdio::stdin(), &[1]);
    let Ok(null) = File::options().read(true).write(true).open("/dev/null") else {
        return;
    };
    // Closes the pipe too.
    let _ = rustix::stdio::dup2_stdin(&null);
    if !outputs {
        let _ = rustix::stdio::dup2_stdout(&null);
        let _ = rustix::stdio::dup2_stderr(&null);
    }
}

/// Standard input for what this process starts: its own, unless that is the pipe.
pub fn input(in_background: bool) -> Stdio {
    match in_background {
        true => Stdio::null(),
        false => Stdio::inherit(),
    }
}
