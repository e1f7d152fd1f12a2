//! Tells a client how much of a command's input it may send, where its member has so many commands that their inputs
//! share the connection's window.

use std::convert::Infallible;
use std::future::pending;

use bytes::{Buf, Bytes};
use iroh::endpoint::SendStream;
use malai_wire::frame::Tagged;
use malai_wire::peer::exec::FromServer;
use tokio::sync::watch;

/// The limit of one input.
#[derive(Debug)]
pub(super) struct InputLimit {
    /// How many bytes may be on their way.
    window: u64,
    /// How many bytes have been read.
    read: watch::Sender<u64>,
    reads: watch::Receiver<u64>,
    /// The number that the client was told last.
    told: u64,
    /// What is left to send of the message with it.
    unsent: Bytes,
}

impl InputLimit {
    /// A limit of so many bytes on their way. The first message is not sent yet.
    pub(super) fn new(window: u64) -> Self {
        let (read, reads) = watch::channel(0);
        Self {
            window,
            read,
            reads,
            told: window,
            unsent: FromServer::Input(window).to_frame().into(),
        }
    }

    /// Where to report the bytes read.
    pub(super) fn reporter(&self) -> watch::Sender<u64> {
        self.read.clone()
    }

    /// Sends what is left of a message.
    ///
    /// # Errors
    ///
    /// The stream or its connection was lost.
    pub(super) async fn complete(
        &mut self,
        send: &mut SendStream,
    ) -> Result<(), iroh::endpoint::WriteError> {
        while !self.unsent.is_empty() {
            let sent = send.write(&self.unsent).await?;
            self.unsent.advance(sent);
        }
        Ok(())
    }

    /// Tells the client as the command reads. It can be cancelled at any time; a message that was begun is then completed
    /// by [`InputLimit::complete`].
    pub(super) async fn keep(&mut self, send: &mut SendStream) -> Infallible {
        loop {
            if self.complete(send).await.is_err() {
                return pending().await;
            }
            // Not for every few bytes.
            let due = self.told + self.window / 4;
            let window = self.window;
            let read = self.reads.wait_for(|read| read + window >= due).await;
            let Ok(read) = read.map(|read| *read) else {
                return pending().await;
            };
            self.told = read + window;
            self.unsent = FromServer::Input(self.told).to_frame().into();
        }
    }
}
