//! `malai reaper`, started by other malai processes: ends the commands of a killed one.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Context;
use malai_node::{Home, reaper};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};

use crate::logging::Log;
use crate::output::exit::Exit;

/// Waits for the end of the pipe on its standard input, and ends what was registered.
pub fn run(home: &Home, in_background: bool) -> anyhow::Result<Exit> {
    // Replaces the name of the link that it was started by.
    let _ = rustix::thread::set_name(c"malai-reaper");
    // It must outlive the daemon even if a signal is sent to both at once; then nothing is left to do.
    for signal in [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2] {
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))?;
    }
    let pipe = std::io::stdin().as_fd().try_clone_to_owned();
    let left = reaper::watch(pipe.context("there is no pipe to read")?)?;
    if !left.is_empty() {
        match in_background {
            true => Log::to_file(home)?,
            false => Log::to_stderr(home)?,
        };
        left.end();
    }
    Ok(Exit::OK)
}
