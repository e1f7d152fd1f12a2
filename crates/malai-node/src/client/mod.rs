//! Runs a command on another machine: opens it, feeds it, reads its output to the last byte; runs it once or not at all.

pub(crate) mod connect;
mod open;
mod transfer;

use std::sync::{Arc, Weak};

use malai_cluster::MachineId;
use malai_wire::Refusal;
use malai_wire::action::Asked;
use malai_wire::control::{Reason, ReasonKind};
use malai_wire::peer::exec::{ExecRequest, Exit, Terminal};
use tokio::sync::mpsc;

use crate::audit::Counts;
use crate::exec::io::{FlowError, PauseGate, Sink, Source};
use crate::exec::stdio::ControlEvent;
use crate::node::sessions::{Live, OutboundSession, PathInfo};
use crate::peer::connection::PeerConnection;
use crate::peer::dialer::ReachError;
use crate::peer::pool::PeerPool;

/// A caller's request, and its own standard streams.
#[derive(Debug)]
pub struct Caller {
    /// What to run.
    pub request: ExecRequest,
    /// The terminal for the command; `None` for pipes.
    pub terminal: Option<Terminal>,
    /// The command's input.
    pub stdin: Source,
    /// The destination of its output.
    pub stdout: Sink,
    /// The destination of its standard error.
    pub stderr: Sink,
    /// Holds output back while the caller is stopped.
    pub gate: PauseGate,
    /// Signals for the command, and sizes for its terminal.
    pub events: mpsc::Receiver<ControlEvent>,
}

/// Why the end of a command is not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExecError {
    /// The machine could not be reached; nothing was run.
    #[error(transparent)]
    Reach(#[from] ReachError),
    /// The machine refused; nothing was run.
    #[error("{machine} refused: {}", malai_cluster::escape(&.refusal.message))]
    Refused {
        /// The machine.
        machine: String,
        /// The refusal.
        refusal: Refusal,
    },
    /// The machine had accepted the command, and has ended it or failed.
    #[error("{machine}: {}", malai_cluster::escape(&.refusal.message))]
    Stopped {
        /// The machine.
        machine: String,
        /// Why.
        refusal: Refusal,
    },
    /// The connection ended before the machine could read the command; nothing was run.
    #[error(
        "the connection to {machine} was lost before the command arrived there: {why}; nothing was run"
    )]
    NotSent {
        /// The machine.
        machine: String,
        /// What happened.
        why: String,
    },
    /// It is not known whether it ran, or how far. It was not run a second time.
    #[error(
        "the connection to {machine} was lost, and the command may or may not have run: {why}; it is not run again automatically"
    )]
    Lost {
        /// The machine.
        machine: String,
        /// What happened.
        why: String,
    },
    /// It was running there; how it ended is not known.
    #[error(
        "the connection to {machine} was lost while the command was running there: {why}; how it ended is not known, and it is not run again automatically"
    )]
    LostWhileRunning {
        /// The machine.
        machine: String,
        /// What happened.
        why: String,
    },
    /// Less output arrived than the machine sent.
    #[error("{}", transfer::miscounted(machine, *received, *sent))]
    Cut {
        /// The machine.
        machine: String,
        /// Bytes received.
        received: u64,
        /// Bytes sent.
        sent: u64,
    },
    /// The caller's own streams failed.
    #[error("{0}")]
    Local(FlowError),
    /// A command here could not write to one of the caller's own streams.
    #[error("{0}")]
    Output(String),
    /// The reader of the output has gone.
    #[error("the reader of the output has gone")]
    ReaderGone,
    /// This computer's user ended it by hand.
    #[error("the command on {machine} was {why}")]
    Ended {
        /// The machine.
        machine: String,
        /// Who ended it.
        why: String,
    },
}

impl ExecError {
    /// The reason without the machine's name; `None` if the message has no name.
    pub(crate) fn reason(&self) -> Option<Reason> {
        let (kind, text) = match self {
            ExecError::Reach(error) => (ReasonKind::Unreachable, error.what().to_owned()),
            ExecError::Refused { refusal, .. } => {
                (ReasonKind::Refused, malai_cluster::escape(&refusal.message))
            }
            ExecError::Stopped { refusal, .. } => {
                (ReasonKind::Other, malai_cluster::escape(&refusal.message))
            }
            ExecError::NotSent { why, .. } => (
                ReasonKind::Unreachable,
                format!("the connection was lost before the command arrived there: {why}"),
            ),
            ExecError::Lost { why, .. } => (
                ReasonKind::Other,
                format!("the connection was lost, and the command may or may not have run: {why}"),
            ),
            ExecError::LostWhileRunning { why, .. } => (
                ReasonKind::Other,
                format!("the connection was lost while the command was running: {why}"),
            ),
            ExecError::Cut { .. } => (ReasonKind::Other, "output was lost".to_owned()),
            ExecError::Ended { why, .. } => (ReasonKind::Other, why.clone()),
            ExecError::Local(_) | ExecError::Output(_) | ExecError::ReaderGone => {
                return None;
            }
        };
        Some(Reason { kind, text })
    }
}

/// Runs a command on a machine and passes its streams through.
///
/// # Errors
///
/// It was refused, did not start, or its end is not known.
pub(crate) async fn run(
    peers: &Arc<PeerPool>,
    target: MachineId,
    name: &str,
    mut caller: Caller,
    started: impl FnOnce(),
) -> Result<Exit, ExecError> {
    let session = open::open(peers, target, name, &caller).await?;
    started();
    let counts = Arc::<Counts>::default();
    let cluster_state = peers.cluster_state();
    let sessions = &cluster_state.node.sessions;
    let connection: Weak<dyn PathInfo> = Arc::<PeerConnection>::downgrade(&session.connection);
    let listed = sessions.begin_outbound(OutboundSession {
        live: Live::new(
            sessions.next_id(),
            cluster_state.alias().clone(),
            Asked::Run(caller.request.action.clone()),
            Some(connection),
            counts.clone(),
        ),
        target: name.to_owned(),
    });
    tokio::select! {
        ended = session.run(name, &mut caller, &counts) => ended,
        // Dropping the session ends its streams, which ends the command there.
        reason = listed.ended() => Err(ExecError::Ended {
            machine: name.to_owned(),
            why: reason.message,
        }),
    }
}

/// Why the connection has ended, if it has; otherwise what failed on it.
fn end_or(connection: &PeerConnection, why: String) -> String {
    if connection.is_closed() {
        connection.end()
    } else {
        why
    }
}

fn lost(name: &str, why: &impl std::fmt::Display) -> ExecError {
    ExecError::Lost {
        machine: name.to_owned(),
        why: why.to_string(),
    }
}
