//! How a command is signalled and ended: its whole process group, and a grace period before SIGKILL.

use std::time::Duration;

use malai_wire::peer::exec::Signal;
use rustix::process::Pid;
use tokio::process::Child;

use crate::keeper::Kept;

/// How long a command whose client has gone may take to clean up after SIGHUP, before SIGKILL.
pub const GRACE: Duration = Duration::from_secs(5);

/// A command whose session has ended and which may still be running.
#[derive(Debug)]
pub struct Remains {
    pub(super) child: Box<Child>,
    pub(super) group: Option<Pid>,
    /// None where the command itself has ended, and with it its session.
    pub(super) kept: Option<Kept>,
}

impl Remains {
    /// Ends the process group.
    pub async fn end(mut self) {
        end_group(&mut self.child, self.group).await;
        if let Some(kept) = self.kept {
            kept.ended();
        }
    }
}

/// Ends a process group: SIGHUP, and SIGKILL for what is left after [`GRACE`].
pub(super) async fn end_group(child: &mut Child, group: Option<Pid>) {
    send_signal(group, rustix::process::Signal::HUP);
    let deadline = tokio::time::Instant::now() + GRACE;
    let _ = tokio::time::timeout_at(deadline, child.wait()).await;
    // The leader may be gone and others of its group not. The group's number is not given to
    // anybody else while one of them lives.
    while tokio::time::Instant::now() < deadline {
        match group.map(rustix::process::test_kill_process_group) {
            Some(Ok(())) => tokio::time::sleep(Duration::from_millis(20)).await,
            _ => return,
        }
    }
    if send_signal(group, rustix::process::Signal::KILL) {
        let _ = child.wait().await;
    }
}

/// Whether it could be sent, or nobody is left to send it to. What belongs to another user may not be
/// signalled, and lives on; that is reported.
pub(super) fn send_signal(group: Option<Pid>, signal: rustix::process::Signal) -> bool {
    let Some(group) = group else { return true };
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
