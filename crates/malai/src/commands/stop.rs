//! `malai stop`: no new sessions, and a grace period for running ones.

use malai_node::control::{self, ControlError};
use malai_node::{Home, LockState, lock};
use malai_wire::control::{Reply, Request};

use crate::output::Printer;
use crate::output::exit::Exit;

/// Stops the daemon and returns when it has exited; inside of one of its own sessions, as soon as it stops.
pub fn run(home: &Home, printer: &Printer) -> anyhow::Result<Exit> {
    let is_in_session = match lock::probe(home) {
        Ok(LockState::Held { pid: Some(pid) }) => descends_from(pid),
        _ => false,
    };
    stop(home, is_in_session, printer)
}

/// Stops the daemon and returns when it has exited.
pub(super) fn and_wait(home: &Home, printer: &Printer) -> anyhow::Result<Exit> {
    stop(home, false, printer)
}

fn stop(home: &Home, is_in_session: bool, printer: &Printer) -> anyhow::Result<Exit> {
    let Some(mut control) = control::connect(home)? else {
        printer.out("💤 No daemon is running here\n");
        return Ok(Exit::OK);
    };
    control.send(&Request::Stop, &[])?;
    loop {
        match control.answer() {
            // The daemon waits for its sessions, and this is one of them.
            Ok(Reply::Done) if is_in_session => {
                printer.out("🛑 malai daemon is stopping, which ends this session\n");
                return Ok(Exit::OK);
            }
            Ok(Reply::Done) => {}
            Ok(_) => anyhow::bail!(
                "the daemon sent an unexpected answer; is it another version? See `malai status`"
            ),
            // The connection ends when the daemon exits.
            Err(ControlError::Gone) => {
                printer.out("✅ malai daemon stopped\n");
                return Ok(Exit::OK);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether this process descends from that daemon: it then runs in one of the daemon's sessions.
pub(super) fn descends_from(daemon: u32) -> bool {
    let mut pid = std::process::id();
    // Without /proc there is no reaper either.
    while let Some(parent) = parent(pid) {
        if parent == daemon {
            return true;
        }
        pid = parent;
    }
    false
}

/// The parent of a process; `None` for the first one, and for one that has ended.
fn parent(pid: u32) -> Option<u32> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    // The name, in parentheses, may contain anything. The state and the parent follow (proc_pid_stat(5)).
    let (_, rest) = stat.rsplit_once(')')?;
    let parent = rest.split_ascii_whitespace().nth(1)?.parse().ok()?;
    (parent != 0).then_some(parent)
}
