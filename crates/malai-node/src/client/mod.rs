//! Runs a command on another machine: opened, fed, read to the last byte; run once or not at all.

mod open;
mod transfer;

use std::sync::{Arc, Weak};

use malai_cluster::MachineId;
use malai_wire::Refusal;
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

/// What the caller wants run, and its own standard streams.
#[derive(Debug)]
pub struct Caller {
    /// What is to be run.
    pub request: ExecRequest,
    /// The terminal that it is to be given; without one it has pipes.
    pub terminal: Option<Terminal>,
    /// Where the command's input comes from.
    pub stdin: Source,
    /// Where its output goes.
    pub stdout: Sink,
    /// Where its standard error goes.
    pub stderr: Sink,
    /// Holds output back while the caller is stopped.
    pub gate: PauseGate,
    /// Signals for the command, and sizes for its terminal.
    pub events: mpsc::Receiver<ControlEvent>,
}

/// Why a command did not come to a known end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExecError {
    /// The machine was not reached; nothing was run.
    #[error(transparent)]
    Reach(#[from] ReachError),
    /// The machine refused, or failed at what it had allowed.
    #[error("{machine}{}: {}", if .refusal.is_end() { "" } else { " refused" }, malai_cluster::escape(&.refusal.message))]
    Refused {
        /// The machine.
        machine: String,
        /// What it says.
        refusal: Refusal,
    },
    /// It is not known whether it ran, or how far it came. It was not run a second time.
    #[error(
        "the connection to {machine} broke while the command may have been running: {why}; it is not run again by itself"
    )]
    Lost {
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
    /// What ran here could not write to one of the caller's own streams.
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
        /// By whom.
        why: String,
    },
}

impl ExecError {
    /// Why, without the machine's name; `None` where the message has none.
    pub(crate) fn reason(&self) -> Option<Reason> {
        let (kind, text) = match self {
            ExecError::Reach(error) => (ReasonKind::Unreachable, error.what().to_owned()),
            ExecError::Refused { refusal, .. } => {
                let kind = match refusal.is_end() {
                    true => ReasonKind::Other,
                    false => ReasonKind::Refused,
                };
                (kind, malai_cluster::escape(&refusal.message))
            }
            ExecError::Lost { why, .. } => (
                ReasonKind::Other,
                format!("the connection broke while the command may have been running: {why}"),
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
            caller.request.action.clone(),
            Some(connection),
            counts.clone(),
        ),
        target: name.to_owned(),
    });
    tokio::select! {
        ended = session.run(name, &mut caller, &counts) => ended,
        // Dropping the session ends its streams, and with them the command there.
        reason = listed.ended() => Err(ExecError::Ended {
            machine: name.to_owned(),
            why: reason.message,
        }),
    }
}

/// Why the connection has ended, where it has; else what went wrong on it.
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
