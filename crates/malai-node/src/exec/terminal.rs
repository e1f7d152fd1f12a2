//! Types input into a command's terminal, and passes on its output to the last byte.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::audit::Counts;
use crate::exec::io::{Count, FlowError, PauseGate, Sink, Source};
use crate::os::fd::Fd;
use crate::os::pty::Pty;

/// The delay before the end of the input is typed again to a command that keeps running; it doubles each time. On a terminal every
/// read needs its own end of input, and one that arrives during a change of the terminal's modes is lost.
const END_OF_INPUT_INTERVAL: Duration = Duration::from_millis(500);

/// The longest delay.
const AGAIN_AT_MOST: Duration = Duration::from_secs(30);

/// Types the input, and its end.
pub(super) async fn feed(mut source: Source, mut writer: Fd, pty: Arc<Pty>, counts: Arc<Counts>) {
    let mut unfinished = false;
    loop {
        let bytes = match source.next(usize::MAX).await {
            Ok(bytes) if bytes.is_empty() => break,
            Ok(bytes) => bytes,
            // As with pipes: part of the input must not look like all of it.
            Err(FlowError::Broken(_)) => return std::future::pending().await,
            Err(_) => break,
        };
        if writer.write_all(&bytes).await.is_err() {
            return;
        }
        unfinished = !bytes.ends_with(b"\n") && !bytes.ends_with(b"\r");
        (&mut &counts.stdin).add(bytes.len() as u64);
    }
    let mut pause = END_OF_INPUT_INTERVAL;
    loop {
        if writer
            .write_all(&pty.end_of_input(unfinished))
            .await
            .is_err()
        {
            return;
        }
        unfinished = false;
        tokio::time::sleep(pause).await;
        pause = AGAIN_AT_MOST.min(2 * pause);
    }
}

/// Passes on output until the command has exited and the rest in the terminal is passed on, too.
pub(super) async fn drain(
    mut reader: Fd,
    pty: Arc<Pty>,
    mut sink: Sink,
    mut gate: PauseGate,
    ended: oneshot::Receiver<()>,
    counts: Arc<Counts>,
) -> (u64, Result<(), FlowError>) {
    let result = drain_into(&mut reader, &pty, &mut sink, &mut gate, ended, &counts).await;
    if result.is_ok() {
        sink.finish();
    }
    (counts.stdout.load(Ordering::Relaxed), result)
}

async fn drain_into(
    reader: &mut Fd,
    pty: &Pty,
    sink: &mut Sink,
    gate: &mut PauseGate,
    mut ended: oneshot::Receiver<()>,
    counts: &Counts,
) -> Result<(), FlowError> {
    loop {
        let read = tokio::select! {
            // Checked first, so that processes left in the background cannot keep the session open by writing.
            biased;
            _ = &mut ended => None,
            bytes = reader.read(BUFFER) => Some(bytes.map_err(FlowError::Read)?),
        };
        let is_rest = read.is_none();
        let bytes = match read {
            Some(bytes) => bytes,
            None => pty.rest().map_err(FlowError::Read)?,
        };
        if !bytes.is_empty() {
            gate.pass().await;
            let length = bytes.len() as u64;
            sink.write(Bytes::from(bytes)).await?;
            (&mut &counts.stdout).add(length);
        } else if !is_rest {
            // A process on it hung it up (vhangup): no more output follows.
            let _ = ended.await;
            return Ok(());
        }
        if is_rest {
            return Ok(());
        }
    }
}

/// How many bytes are read at once. The system returns no more from a terminal.
const BUFFER: usize = 4096;
