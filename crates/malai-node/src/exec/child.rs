//! A command's process, from its start to its end. It knows neither its streams nor its client.

use std::io;
use std::os::fd::OwnedFd;
use std::process::ExitStatus;

use malai_wire::peer::exec::Terminal;
use rustix::process::Pid;
use tokio::process::Child;

use crate::cluster::authorize::Command;
use crate::cluster::state::ClusterState;
use crate::exec::kill::{Group, end_group, number};
use crate::exec::spawn::{ParentStdio, Spawned, spawn};
use crate::exec::stdio::ControlEvent;
use crate::node::reaper::Registration;

/// A command's process, and everything that is signaled and ended with it.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    group: Group,
    /// The reaper ends it if this process is killed. `None` once there is nothing to end.
    registration: Option<Registration>,
}

impl Process {
    /// Starts a command. Also returns this side's ends of its standard streams and of its file reports.
    ///
    /// # Errors
    ///
    /// It cannot be started; nothing runs.
    pub(super) fn start(
        cluster_state: &ClusterState,
        command: &Command,
        argv: &[Vec<u8>],
        terminal: Option<&Terminal>,
    ) -> io::Result<(Self, ParentStdio, Option<OwnedFd>)> {
        let Spawned {
            child,
            stdio: ends,
            reports,
        } = spawn(cluster_state, command, argv, terminal)?;
        let id = child
            .id()
            .ok_or_else(|| io::Error::other("it has no process id"))?;
        let registration = cluster_state.node.reaper.begun(id, ends.kind());
        let group = match (Pid::from_raw(id.cast_signed()), &ends) {
            (None, _) => Group::Nobody,
            (Some(leader), ParentStdio::Pipes { .. }) => Group::Own(leader),
            (Some(leader), ParentStdio::Terminal(pty)) => Group::Session(leader, Some(pty.clone())),
        };
        let process = Self {
            child,
            group,
            registration: Some(registration),
        };
        Ok((process, ends, reports))
    }

    /// Its process id, until it has been waited for.
    pub(super) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Whether it has a terminal, and thus its own session.
    pub(super) fn has_terminal(&self) -> bool {
        matches!(self.group, Group::Session(..))
    }

    /// Passes on a signal, or a new size for its terminal.
    pub(super) fn control(&self, event: ControlEvent) {
        match event {
            ControlEvent::Signal(signal) => self.group.pass_on(number(signal)),
            ControlEvent::Resize(size) => self.group.resize(size),
        }
    }

    /// Waits for its exit.
    ///
    /// # Errors
    ///
    /// The system does not report its exit status.
    pub(super) async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Releases what it left in the background after its exit; that keeps running.
    pub(super) fn release(&mut self) {
        self.group = Group::Nobody;
        if let Some(registration) = self.registration.take() {
            registration.ended();
        }
    }

    /// Hangs up, and kills what is left after the grace period. The process can be waited for afterwards.
    pub(super) async fn hang_up(&mut self) {
        end_group(&mut self.child, &mut self.group).await;
    }

    /// Ends it and everything that belongs to it.
    pub(super) async fn end(mut self) {
        self.hang_up().await;
        self.release();
    }
}

/// A command whose session has ended and which may still be running.
#[derive(Debug)]
pub struct PendingCleanup(pub(super) Box<Process>);

impl PendingCleanup {
    /// Ends what is left of it.
    pub async fn end(self) {
        self.0.end().await;
    }
}

#[cfg(test)]
impl Process {
    /// A child that leads its own process group.
    pub(super) fn of(child: Child) -> Self {
        let leader = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        Self {
            child,
            group: Group::Own(leader.expect("it runs")),
            registration: None,
        }
    }
}
