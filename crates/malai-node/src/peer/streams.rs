//! Raw streams find their session: each begins with its kind and its session's id.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::mem;
use std::sync::Arc;

use iroh::endpoint::RecvStream;
use malai_wire::peer::StreamKind;
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// How many streams may arrive before the request they belong to. Further ones are refused.
const MAX_EARLY: usize = 64;

/// The raw streams of one direction of a connection, by session. Dropping a stream refuses it.
#[derive(Debug)]
pub(crate) struct StreamRouter<S = RecvStream>(Arc<Mutex<Inner<S>>>);

#[derive(Debug)]
struct Inner<S> {
    /// Sessions below this id have started. A stream for one that has ended is refused.
    started_below: u64,
    sessions: HashMap<u64, HashMap<StreamKind, Slot<S>>>,
    early: Vec<(u64, StreamKind, S)>,
}

/// A session's stream of one kind. There is one of each.
#[derive(Debug)]
enum Slot<S> {
    /// It has arrived, and the session has not asked for it yet.
    Arrived(S),
    /// The session waits for it.
    Expected(oneshot::Sender<S>),
    /// The session has it.
    Delivered,
}

/// The streams of one session, as long as it lives. Those that it did not ask for are refused when this
/// is dropped, and so are those that arrive later.
#[derive(Debug)]
pub(crate) struct SessionStreams<S = RecvStream> {
    router: StreamRouter<S>,
    session: u64,
}

impl<S> StreamRouter<S> {
    /// Routes streams to sessions that the peer opens. Such a stream may overtake its request.
    pub(crate) fn for_inbound() -> Self {
        Self::with_started_below(0)
    }

    /// Routes streams to sessions that this side opens, and which it starts before it sends the request.
    pub(crate) fn for_outbound() -> Self {
        Self::with_started_below(u64::MAX)
    }

    fn with_started_below(started_below: u64) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            started_below,
            sessions: HashMap::new(),
            early: Vec::new(),
        })))
    }

    /// Starts a session: its streams are kept until it asks for them. Ids rise, so early streams of a
    /// lower id are refused.
    pub(crate) fn start(&self, session: u64) -> SessionStreams<S> {
        let mut inner = self.0.lock();
        inner.started_below = inner.started_below.max(session.saturating_add(1));
        let mut slots = HashMap::new();
        for (id, kind, stream) in mem::take(&mut inner.early) {
            if id == session {
                slots.entry(kind).or_insert(Slot::Arrived(stream));
            } else if id >= inner.started_below {
                inner.early.push((id, kind, stream));
            }
        }
        inner.sessions.insert(session, slots);
        SessionStreams {
            router: Self(self.0.clone()),
            session,
        }
    }

    /// Hands an arrived stream to its session, keeps it until the session starts, or refuses it.
    pub(crate) fn deliver(&self, kind: StreamKind, session: u64, stream: S) {
        let mut inner = self.0.lock();
        let Some(slots) = inner.sessions.get_mut(&session) else {
            if session >= inner.started_below && inner.early.len() < MAX_EARLY {
                inner.early.push((session, kind, stream));
            }
            return;
        };
        match slots.entry(kind) {
            Entry::Vacant(slot) => drop(slot.insert(Slot::Arrived(stream))),
            Entry::Occupied(mut slot) => {
                if let Slot::Expected(_) = slot.get()
                    && let Slot::Expected(waiting) = slot.insert(Slot::Delivered)
                {
                    // A session that no longer waits refuses it by having dropped the receiver.
                    let _ = waiting.send(stream);
                }
            }
        }
    }
}

impl<S> SessionStreams<S> {
    /// The id of the session.
    pub(crate) fn session(&self) -> u64 {
        self.session
    }

    /// The session's stream of a kind, when it has arrived. Dropping the receiver refuses it. Each kind
    /// can be asked for once; a second receiver gets nothing.
    pub(crate) fn expect(&self, kind: StreamKind) -> oneshot::Receiver<S> {
        let (sender, receiver) = oneshot::channel();
        let mut inner = self.router.0.lock();
        if let Some(slots) = inner.sessions.get_mut(&self.session) {
            match slots.insert(kind, Slot::Delivered) {
                None => drop(slots.insert(kind, Slot::Expected(sender))),
                Some(Slot::Arrived(stream)) => drop(sender.send(stream)),
                Some(first @ Slot::Expected(_)) => drop(slots.insert(kind, first)),
                Some(Slot::Delivered) => {}
            }
        }
        receiver
    }
}

impl<S> Drop for SessionStreams<S> {
    fn drop(&mut self) {
        self.router.0.lock().sessions.remove(&self.session);
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use malai_wire::peer::StreamKind::{Stderr, Stdin, Stdout};

    use super::{MAX_EARLY, StreamRouter};

    /// A stream that says whether it was refused.
    fn stream() -> (Rc<()>, impl Fn() -> bool) {
        let stream = Rc::new(());
        let weak = Rc::downgrade(&stream);
        (stream, move || weak.strong_count() == 0)
    }

    #[test]
    fn a_stream_finds_its_session_whichever_comes_first() {
        let router = StreamRouter::for_inbound();
        router.deliver(Stdin, 4, "early");
        let streams = router.start(4);
        assert_eq!(streams.expect(Stdin).try_recv(), Ok("early"));

        let streams = router.start(8);
        router.deliver(Stdin, 8, "before it is asked for");
        let received = streams.expect(Stdin).try_recv();
        assert_eq!(received, Ok("before it is asked for"));

        let streams = router.start(12);
        let mut expected = streams.expect(Stdin);
        router.deliver(Stdin, 12, "late");
        assert_eq!(expected.try_recv(), Ok("late"));
    }

    #[test]
    fn kinds_and_sessions_do_not_mix() {
        let router = StreamRouter::for_outbound();
        let (one, two) = (router.start(0), router.start(4));
        let mut expected = [one.expect(Stdout), one.expect(Stderr), two.expect(Stdout)];
        router.deliver(Stdout, 4, "4 out");
        router.deliver(Stderr, 0, "0 err");
        router.deliver(Stdout, 0, "0 out");
        let received = expected.each_mut().map(|stream| stream.try_recv().unwrap());
        assert_eq!(received, ["0 out", "0 err", "4 out"]);
    }

    #[test]
    fn streams_that_no_session_wants_are_refused() {
        let router = StreamRouter::for_inbound();
        let streams = router.start(8);

        let (earlier_session, is_refused) = stream();
        router.deliver(Stdin, 4, earlier_session);
        assert!(is_refused());

        let (first, first_is_refused) = stream();
        let (second, second_is_refused) = stream();
        router.deliver(Stdin, 8, first);
        router.deliver(Stdin, 8, second);
        assert!(!first_is_refused() && second_is_refused());

        // The session ends without having asked.
        drop(streams);
        assert!(first_is_refused());
        let (late, is_refused) = stream();
        router.deliver(Stdin, 8, late);
        assert!(is_refused());
    }

    #[test]
    fn a_receiver_that_is_dropped_refuses_its_stream() {
        let router = StreamRouter::for_inbound();
        let streams = router.start(0);
        drop(streams.expect(Stdin));
        let (unwanted, is_refused) = stream();
        router.deliver(Stdin, 0, unwanted);
        assert!(is_refused());
    }

    #[test]
    fn a_kind_is_delivered_once() {
        let router = StreamRouter::for_inbound();
        let streams = router.start(0);
        let (mut first, mut second) = (streams.expect(Stdin), streams.expect(Stdin));
        router.deliver(Stdin, 0, "only");
        assert_eq!(first.try_recv(), Ok("only"));
        assert!(second.try_recv().is_err());
        router.deliver(Stdin, 0, "again");
        assert!(streams.expect(Stdin).try_recv().is_err());
    }

    #[test]
    fn few_streams_may_come_before_their_request() {
        let router = StreamRouter::for_inbound();
        let refused: Vec<_> = (0..=MAX_EARLY as u64)
            .map(|session| {
                let (early, is_refused) = stream();
                router.deliver(Stdin, 4 * session, early);
                is_refused
            })
            .collect();
        assert!(!refused[0]() && !refused[MAX_EARLY - 1]() && refused[MAX_EARLY]());
        // Those of requests that can no longer come make room.
        let _streams = router.start(4 * MAX_EARLY as u64);
        assert!(refused[0]());
        let (early, is_refused) = stream();
        router.deliver(Stdin, 4 * MAX_EARLY as u64 + 4, early);
        assert!(!is_refused());
    }

    #[test]
    fn sessions_of_this_side_have_no_early_streams() {
        let router = StreamRouter::for_outbound();
        let (early, is_refused) = stream();
        router.deliver(Stdout, 0, early);
        assert!(is_refused());
    }
}
