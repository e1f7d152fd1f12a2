//! A command's pipes: its input, and its output to the last byte.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::audit::Counts;
use crate::exec::io::{self, Count, FlowError, PauseGate, Sink, Source};
use crate::os::fd::{Direction, Fd};

/// Feeds a command until its input ends or it stops reading.
pub(super) async fn feed(mut source: Source, pipe: OwnedFd, counts: Arc<Counts>) {
    let Ok(pipe) = Fd::own(pipe, Direction::Write) else {
        return;
    };
    let mut sink = Sink::Fd(pipe);
    if let Err(error) = io::copy(
        &mut source,
        &mut sink,
        &mut PauseGate::open(),
        &mut &counts.stdin,
    )
    .await
    {
        // It is normal for a command not to read its input to the end.
        tracing::debug!("standard input ended early: {error}");
        if matches!(error, FlowError::Broken(_)) {
            // Part of the input must not look like all of it, so the pipe stays open until the session, which also notices the break,
            // ends the command.
            std::future::pending::<()>().await;
        }
    }
}

/// Passes on a command's output up to its end; or, once the command has exited, what is in the pipe then.
pub(super) async fn drain(
    pipe: OwnedFd,
    mut sink: Sink,
    mut gate: PauseGate,
    ended: oneshot::Receiver<()>,
    counts: Arc<Counts>,
    which: fn(&Counts) -> &AtomicU64,
) -> (u64, Result<(), FlowError>) {
    let mut moved = which(&counts);
    let result = drain_into(pipe, &mut sink, &mut gate, ended, &mut moved).await;
    if result.is_ok() {
        sink.finish();
    }
    (moved.load(Ordering::Relaxed), result)
}

async fn drain_into(
    pipe: OwnedFd,
    sink: &mut Sink,
    gate: &mut PauseGate,
    ended: oneshot::Receiver<()>,
    moved: &mut impl Count,
) -> Result<(), FlowError> {
    let mut source = Source::Fd(Fd::own(pipe, Direction::Read).map_err(FlowError::Read)?);
    tokio::pin!(ended);
    loop {
        let bytes = tokio::select! {
            // Checked first, so that processes left in the background cannot keep the session open by writing.
            biased;
            _ = &mut ended => {
                let rest = source.waiting().map_err(FlowError::Read)?;
                return io::pump_exactly(&mut source, sink, rest, moved).await;
            }
            bytes = source.next(usize::MAX) => bytes?,
        };
        if bytes.is_empty() {
            return Ok(());
        }
        let length = bytes.len() as u64;
        gate_then_write(gate, sink, bytes).await?;
        moved.add(length);
    }
}

async fn gate_then_write(
    gate: &mut PauseGate,
    sink: &mut Sink,
    bytes: Bytes,
) -> Result<(), FlowError> {
    gate.pass().await;
    sink.write(bytes).await
}
