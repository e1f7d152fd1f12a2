//! Signals and ends commands: the process group, or with a terminal all groups of the session; with a grace period before
//! SIGKILL.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use malai_wire::peer::exec::{Signal, Size};
use rustix::process::Pid;
use tokio::process::Child;

use crate::node::reaper::{GRACE, groups_of_session};
use crate::os::process_group;
use crate::os::pty::Pty;

/// How often to check whether signaled processes have ended.
const EXIT_POLL_INTERVAL: Duration = Duration::from_millis(20);

/// How often to retry ending a session.
const MAX_KILLS: usize = 20;

/// The processes that are signaled and ended with a command.
#[derive(Debug)]
pub(super) enum Group {
    /// None: the command has exited by itself.
    Nobody,
    /// Its process group.
    Own(Pid),
    /// With a terminal: all process groups of the session that it leads, and the terminal, until it hangs up.
    Session(Pid, Option<Arc<Pty>>),
}

impl Group {
    /// Passes on a signal from the client: to the group, or with a terminal to its foreground group.
    pub(super) fn pass_on(&self, signal: rustix::process::Signal) {
        match self {
            Group::Nobody => {}
            Group::Own(group) => drop(send(*group, signal)),
            Group::Session(leader, pty) => {
                let foreground = pty.as_ref().and_then(|pty| pty.foreground());
                send(foreground.unwrap_or(*leader), signal);
            }
        }
    }

    /// Resizes the terminal, if there is one.
    pub(super) fn resize(&self, size: Size) {
        if let Group::Session(_, Some(pty)) = self
            && let Err(error) = pty.resize(size)
        {
            tracing::debug!("cannot resize a terminal: {error}");
        }
    }

    /// Signals all groups; false if some of them could not be signaled.
    fn signal(&self, signal: rustix::process::Signal) -> bool {
        let mut all = true;
        for group in self.living() {
            all &= send(group, signal);
        }
        all
    }

    /// The process groups with a living process.
    fn living(&self) -> Vec<Pid> {
        match self {
            Group::Nobody => Vec::new(),
            // The group's id is not reused while one of its processes lives.
            Group::Own(group) => match rustix::process::test_kill_process_group(*group) {
                Err(rustix::io::Errno::SRCH) => Vec::new(),
                _ => vec![*group],
            },
            Group::Session(leader, _) => {
                let groups: BTreeSet<u32> =
                    groups_of_session(leader.as_raw_nonzero().get().cast_unsigned());
                let groups = groups.into_iter();
                groups
                    .filter_map(|group| Pid::from_raw(group.cast_signed()))
                    .collect()
            }
        }
    }
}

/// Ends a command and everything that belongs to it: SIGHUP, then SIGKILL for what is left after [`GRACE`].
pub(super) async fn end_group(child: &mut Child, group: &mut Group) {
    group.signal(rustix::process::Signal::HUP);
    if let Group::Session(_, pty) = group {
        // As when the line of a terminal is cut: readers and writers get an error, and no process waits for room in it. Stopped jobs
        // are continued, because stopped processes do not receive the signal.
        *pty = None;
        group.signal(rustix::process::Signal::CONT);
    }
    let deadline = tokio::time::Instant::now() + GRACE;
    let _ = tokio::time::timeout_at(deadline, child.wait()).await;
    // The leader may have exited while others of its group have not.
    while tokio::time::Instant::now() < deadline {
        if group.living().is_empty() {
            return;
        }
        tokio::time::sleep(EXIT_POLL_INTERVAL).await;
    }
    // Repeated for processes that were started between the check and the signal.
    for _ in 0..MAX_KILLS {
        if !group.signal(rustix::process::Signal::KILL) {
            return;
        }
        let _ = child.wait().await;
        if !matches!(group, Group::Session(..)) || group.living().is_empty() {
            return;
        }
        tokio::time::sleep(EXIT_POLL_INTERVAL).await;
    }
}

/// Returns whether the signal was sent, or no process was left. Processes of another user cannot be signaled and live on, which
/// is logged.
fn send(group: Pid, signal: rustix::process::Signal) -> bool {
    match process_group::signal(group, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => true,
        Err(error) => {
            tracing::warn!(
                group = group.as_raw_nonzero(),
                "cannot signal a process group; its processes keep running: {error}"
            );
            false
        }
    }
}

/// The system's number of a signal.
pub(super) fn number(signal: Signal) -> rustix::process::Signal {
    use rustix::process::Signal as Number;
    match signal {
        Signal::Hup => Number::HUP,
        Signal::Int => Number::INT,
        Signal::Quit => Number::QUIT,
        Signal::Term => Number::TERM,
        Signal::Usr1 => Number::USR1,
        Signal::Usr2 => Number::USR2,
    }
}
