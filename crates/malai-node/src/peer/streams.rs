//! Raw streams find their session: each begins with its kind and its session's number.

use std::collections::HashMap;

use iroh::endpoint::RecvStream;
use malai_wire::peer::StreamKind;
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Streams that arrived before their session is known; more are turned away.
const PARKED: usize = 64;

/// The raw streams of one direction of a connection, by session.
#[derive(Debug, Default)]
pub struct StreamRouter(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Sessions below this number have been seen: a stream for one that is gone is turned away.
    seen_below: u64,
    expected: HashMap<(StreamKind, u64), oneshot::Sender<RecvStream>>,
    pending: HashMap<(StreamKind, u64), RecvStream>,
}

impl StreamRouter {
    /// A router whose side opens the sessions itself, so that it expects streams before they come
    /// and none is ever parked.
    pub fn of_own_sessions() -> Self {
        Self(Mutex::new(Inner {
            seen_below: u64::MAX,
            ..Inner::default()
        }))
    }

    /// Expects a stream. Dropping the receiver turns it away.
    pub fn expect(&self, kind: StreamKind, session: u64) -> oneshot::Receiver<RecvStream> {
        let (sender, receiver) = oneshot::channel();
        let mut inner = self.0.lock();
        inner.expected.retain(|_, waiting| !waiting.is_closed());
        match inner.pending.remove(&(kind, session)) {
            Some(stream) => drop(sender.send(stream)),
            None => drop(inner.expected.insert((kind, session), sender)),
        }
        receiver
    }

    /// Says that a session has begun: whatever is parked for it later is not for it any more.
    pub fn mark_started(&self, session: u64) {
        let mut inner = self.0.lock();
        inner.seen_below = inner.seen_below.max(session + 1);
        let seen = inner.seen_below;
        inner.pending.retain(|(_, session), _| *session >= seen);
    }

    /// Hands an arrived stream to its session, parks it until the session begins, or turns it away.
    pub fn deliver(&self, kind: StreamKind, session: u64, mut stream: RecvStream) {
        let mut inner = self.0.lock();
        if let Some(waiting) = inner.expected.remove(&(kind, session)) {
            if let Err(mut stream) = waiting.send(stream) {
                let _ = stream.stop(0u32.into());
            }
        } else if session >= inner.seen_below && inner.pending.len() < PARKED {
            inner.pending.insert((kind, session), stream);
        } else {
            let _ = stream.stop(0u32.into());
        }
    }
}
