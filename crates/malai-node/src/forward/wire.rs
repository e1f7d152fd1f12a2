//! One end of a connection as a stream of bytes, for what speaks a protocol on it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, ready};

use malai_wire::peer::connect::RESET;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::bridge::End;
use crate::audit::Counts;

/// An end whose bytes are counted. One that is dropped before both directions have ended is reset, with the code that
/// was set by then.
#[derive(Debug)]
pub(crate) struct Wire {
    end: End,
    counts: Arc<Counts>,
    code: Arc<AtomicU32>,
    has_read_all: bool,
    has_finished: bool,
}

impl Wire {
    /// The stream, and the code with which it ends.
    pub(crate) fn new(end: End, counts: Arc<Counts>) -> (Self, Arc<AtomicU32>) {
        let code = Arc::new(AtomicU32::new(RESET));
        let wire = Self {
            end,
            counts,
            code: code.clone(),
            has_read_all: false,
            has_finished: false,
        };
        (wire, code)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.has_read_all && self.has_finished {
            self.end.complete();
        } else {
            self.end.end(self.code.load(Ordering::Relaxed));
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(self.end.poll_read(context, buffer))?;
        let count = buffer.filled().len() - before;
        self.has_read_all |= count == 0 && buffer.remaining() > 0;
        let bytes = count as u64;
        self.counts.stdin.fetch_add(bytes, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(self.end.poll_write(context, bytes))?;
        let written = count as u64;
        self.counts.stdout.fetch_add(written, Ordering::Relaxed);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Neither sockets nor streams keep anything back.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.has_finished {
            self.has_finished = true;
            self.end.finish();
        }
        Poll::Ready(Ok(()))
    }
}
