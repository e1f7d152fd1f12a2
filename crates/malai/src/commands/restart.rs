//! `malai restart`: stops the daemon and starts it again, unless the new one would not start.

use malai_node::{Home, LockState, StartPolicy, check_start, lock};

use crate::commands::{daemon, stop};
use crate::output::Printer;
use crate::output::exit::Exit;

/// Restarts a background daemon; starts one if none is running.
pub fn run(home: &Home, printer: &Printer) -> anyhow::Result<Exit> {
    if let LockState::Held { pid } = lock::probe(home)? {
        if let Some(pid) = pid.filter(|pid| !runs_in_background(*pid)) {
            anyhow::bail!(
                "the daemon (pid {pid}) runs in the foreground, so restart it where it was started: for a service, systemctl restart malai; on a terminal, Ctrl-C and malai daemon --foreground"
            );
        }
        check_start(home)?;
        let stopped = stop::run(home, printer)?;
        if stopped != Exit::OK {
            return Ok(stopped);
        }
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
