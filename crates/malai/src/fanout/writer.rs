//! The only writer of the output of many machines: whole lines, in order of arrival.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::Arc;

use malai_node::{Direction, Fd};
use tokio::sync::mpsc;

use crate::fanout::progress::Progress;

/// How many pieces may wait to be written; further senders wait.
pub const WAITING: usize = 64;

/// A destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// Whole lines.
#[derive(Debug)]
pub struct Piece {
    /// Their destination.
    pub to: To,
    /// The lines.
    pub bytes: Vec<u8>,
}

/// Writes until all senders are done.
///
/// # Errors
///
/// Standard output cannot be written any more.
pub async fn write(mut chunks: mpsc::Receiver<Piece>, live: Arc<Progress>) -> io::Result<()> {
    let adopt =
        |fd: std::os::fd::BorrowedFd<'_>| Fd::adopt(fd.try_clone_to_owned()?, Direction::Write);
    let (mut out, mut err) = (
        adopt(io::stdout().as_fd())?,
        adopt(io::stderr().as_fd()).ok(),
    );
    let mut waiting = Vec::new();
    while chunks.recv_many(&mut waiting, WAITING).await > 0 {
        let mut batch = waiting.drain(..).peekable();
        while let Some(Piece { to, mut bytes }) = batch.next() {
            while let Some(next) = batch.next_if(|next| next.to == to) {
                bytes.extend(next.bytes);
            }
            match (live.is_shown(), to) {
                (true, To::Out) => live.aside(|| io::stdout().write_all(&bytes))?,
                (true, To::Err) => drop(live.aside(|| io::stderr().write_all(&bytes))),
                (false, To::Out) => out.write_all(&bytes).await?,
                (false, To::Err) => {
                    // If standard error cannot be written, there is no other place to report it.
                    if let Some(err) = &mut err {
                        let _ = err.write_all(&bytes).await;
                    }
                }
            }
        }
    }
    if live.is_shown() {
        io::stdout().flush()?;
    }
    Ok(())
}
