//! How a command is signalled and ended: its process group, with a terminal all groups of its session; and
//! a grace period before SIGKILL.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use malai_wire::peer::exec::{Signal, Size};
use rustix::process::Pid;
use tokio::process::Child;

use crate::node::reaper::{GRACE, groups_of_session};
use crate::os::pty::Pty;

/// How often it is checked whether what was told to end has ended.
const EXIT_POLL_INTERVAL: Duration = Duration::from_millis(20);

/// How often a session that cannot be ended at once is tried.
const MAX_KILLS: usize = 20;

/// Who is signalled and ended with a command.
#[derive(Debug)]
pub(super) enum Group {
    /// Nobody: the command has ended by itself.
    Nobody,
    /// Its process group.
    Own(Pid),
    /// With a terminal: all process groups of the session that it leads. The terminal, until it hangs up.
    Session(Pid, Option<Arc<Pty>>),
}

impl Group {
    /// A signal from the client: for the group, with a terminal for the one in its foreground.
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

    /// Another size for the terminal, if there is one.
    pub(super) fn resize(&self, size: Size) {
        if let Group::Session(_, Some(pty)) = self
            && let Err(error) = pty.resize(size)
        {
            tracing::debug!("a terminal cannot be resized: {error}");
        }
    }

    /// Signals all; false if that was not allowed for some of them.
    fn signal(&self, signal: rustix::process::Signal) -> bool {
        let mut all = true;
        for group in self.living() {
            all &= send(group, signal);
        }
        all
    }

    /// The process groups, as far as somebody lives in them.
    fn living(&self) -> Vec<Pid> {
        match self {
            Group::Nobody => Vec::new(),
            // The group's number is not given to anybody else while one of them lives.
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

/// Ends a command and all that belongs to it: SIGHUP, and SIGKILL for what is left after [`GRACE`].
pub(super) async fn end_group(child: &mut Child, group: &mut Group) {
    group.signal(rustix::process::Signal::HUP);
    if let Group::Session(_, pty) = group {
        // As when a terminal's line is cut: whoever reads or writes it is told, and nobody waits for room
        // in it. Its stopped jobs go on, since those that are stopped do not hear the signal.
        *pty = None;
        group.signal(rustix::process::Signal::CONT);
    }
    let deadline = tokio::time::Instant::now() + GRACE;
    let _ = tokio::time::timeout_at(deadline, child.wait()).await;
    // The leader may be gone and others of its group not.
    while tokio::time::Instant::now() < deadline {
        if group.living().is_empty() {
            return;
        }
        tokio::time::sleep(EXIT_POLL_INTERVAL).await;
    }
    // Again for what was started between the look and the signal.
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

/// Whether it could be sent, or nobody is left to send it to. What belongs to another user may not be
/// signalled, and lives on; that is reported.
fn send(group: Pid, signal: rustix::process::Signal) -> bool {
    match rustix::process::kill_process_group(group, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => true,
        Err(error) => {
            tracing::warn!(
                group = group.as_raw_nonzero(),
                "a process group cannot be signalled, and what is left of it lives on: {error}"
            );
            false
        }
    }
}

/// A signal as the system numbers it.
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
