//! Asks a client where it wants to, by SOCKS.

use std::time::Duration;

use malai_wire::socks::{self, Negotiation, Next, Outcome, Version};

use super::socket::Socket;

/// How long a client may take to say where it wants to.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A request that has to be answered.
#[derive(Debug)]
pub(crate) struct Answer(Version);

impl Answer {
    /// Tells the client. One that has gone is noticed when its bytes are passed on.
    pub(crate) async fn send(self, socket: &Socket, outcome: Outcome) {
        let _ = socket.write(&socks::answer(self.0, outcome)).await;
        if outcome != Outcome::Open {
            // The client reads the answer, and then the end; a reset could overtake it.
            socket.finish();
            socket.complete();
        }
    }
}

/// Reads where the client wants to, as `host:port`. `None` if it has closed the connection without a word, as browsers do that
/// connect in advance.
///
/// # Errors
///
/// It speaks no SOCKS, wants something else, or takes too long. It has been told.
pub(crate) async fn negotiate(socket: &Socket) -> Result<Option<(String, Answer)>, String> {
    tokio::time::timeout(TIMEOUT, asked(socket))
        .await
        .unwrap_or_else(|_| Err(format!("no request within {} s", TIMEOUT.as_secs())))
}

async fn asked(socket: &Socket) -> Result<Option<(String, Answer)>, String> {
    let (mut negotiation, mut is_new) = (Negotiation::default(), true);
    let mut received = Vec::new();
    loop {
        match negotiation.read(&received) {
            Next::More => {
                let read = socket.read().await;
                if is_new && read.as_ref().map_or(true, Vec::is_empty) {
                    return Ok(None);
                }
                is_new = false;
                received = read.map_err(|error| error.to_string())?;
                if received.is_empty() {
                    return Err("the client has closed the connection".to_owned());
                }
            }
            Next::Answer(answer) => {
                received.clear();
                let sent = socket.write(&answer).await;
                sent.map_err(|error| error.to_string())?;
            }
            Next::Connect { version, to, rest } => {
                socket.unread(rest);
                return Ok(Some((to, Answer(version))));
            }
            Next::Close { answer, why } => {
                let _ = socket.write(&answer).await;
                socket.finish();
                socket.complete();
                return Err(why.to_owned());
            }
        }
    }
}
