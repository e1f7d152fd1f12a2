//! Delivers raw streams to their sessions: each stream starts with its kind and its session's id.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use iroh::endpoint::RecvStream;
use malai_wire::peer::StreamKind;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::sync::{oneshot, watch};

use crate::peer::windows::Windows;

/// A raw stream that has arrived. Reading from it makes room for more.
#[derive(Debug)]
pub struct RawStream {
    stream: RecvStream,
    windows: Arc<Windows>,
    /// How many bytes have been read, if that is to be reported.
    read: Option<watch::Sender<u64>>,
}

impl RawStream {
    /// A stream whose head has been read.
    pub(crate) fn new(stream: RecvStream, windows: Arc<Windows>) -> Self {
        Self {
            stream,
            windows,
            read: None,
        }
    }

    /// Reports how many bytes have been read from now on.
    pub(crate) fn report_read(&mut self, read: watch::Sender<u64>) {
        self.read = Some(read);
    }

    /// The stream, for frames that come before the raw bytes.
    pub(crate) fn frames(&mut self) -> &mut RecvStream {
        &mut self.stream
    }

    /// Tells the peer, with a code, that nothing more is wanted.
    pub(crate) fn stop(mut self, code: u32) {
        let _ = self.stream.stop(code.into());
    }

    /// Reads what has arrived, as far as the buffer has room; nothing at the end of the stream.
    pub(crate) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(AsyncRead::poll_read(
            Pin::new(&mut self.stream),
            context,
            buffer
        ))?;
        self.windows.read((buffer.filled().len() - before) as u64);
        Poll::Ready(Ok(()))
    }

    /// Appends what has arrived, as far as the buffer has room; appends nothing at the end of the stream.
    ///
    /// # Errors
    ///
    /// The stream or its connection was lost.
    pub(crate) async fn read(&mut self, buffer: &mut Vec<u8>) -> io::Result<()> {
        let count = self.stream.read_buf(buffer).await?;
        self.windows.read(count as u64);
        if let Some(read) = &self.read {
            read.send_modify(|read| *read += count as u64);
        }
        Ok(())
    }
}

/// The raw streams of one direction of a connection, by session. Dropping a stream rejects it.
///
/// The receiver of a session's streams has started the session before the other side sends any. A stream for another
/// session was not requested, so nothing of it is kept.
#[derive(Debug)]
pub(crate) struct StreamRouter<S = RawStream>(Arc<Mutex<Inner<S>>>);

#[derive(Debug)]
struct Inner<S> {
    sessions: HashMap<u64, HashMap<StreamKind, Slot<S>>>,
    /// The connection has ended, so nothing more will arrive.
    is_closed: bool,
}

/// A session's stream of one kind. There is one per kind.
#[derive(Debug)]
enum Slot<S> {
    /// It has arrived, but the session has not requested it yet.
    Arrived(S),
    /// The session waits for it.
    Expected(oneshot::Sender<S>),
    /// The session has received it.
    Delivered,
}

impl<S> Default for StreamRouter<S> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Inner {
            sessions: HashMap::new(),
            is_closed: false,
        })))
    }
}

/// The streams of one session, while it lives. Streams that it did not request are rejected when this is dropped, and so
/// are those that arrive later.
#[derive(Debug)]
pub(crate) struct SessionStreams<S = RawStream> {
    router: StreamRouter<S>,
    session: u64,
}

impl<S> StreamRouter<S> {
    /// Starts a session: its streams are kept until it requests them.
    pub(crate) fn start(&self, session: u64) -> SessionStreams<S> {
        let mut inner = self.0.lock();
        inner.sessions.insert(session, HashMap::new());
        SessionStreams {
            router: Self(self.0.clone()),
            session,
        }
    }

    /// The connection has ended: stops all waiting for streams that have not arrived.
    pub(crate) fn close(&self) {
        let mut inner = self.0.lock();
        inner.is_closed = true;
        for slots in inner.sessions.values_mut() {
            slots.retain(|_, slot| !matches!(slot, Slot::Expected(_)));
        }
    }

    /// Delivers a stream to its session, or rejects it.
    pub(crate) fn deliver(&self, kind: StreamKind, session: u64, stream: S) {
        let mut inner = self.0.lock();
        let Some(slots) = inner.sessions.get_mut(&session) else {
            return;
        };
        match slots.entry(kind) {
            Entry::Vacant(slot) => drop(slot.insert(Slot::Arrived(stream))),
            Entry::Occupied(mut slot) => {
                if let Slot::Expected(_) = slot.get()
                    && let Slot::Expected(waiting) = slot.insert(Slot::Delivered)
                {
                    // A session that no longer waits has dropped the receiver, which rejects the stream.
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

    /// The session's stream of a kind, once it has arrived. Dropping the receiver rejects the stream. Each kind can be
    /// requested once; a second receiver gets nothing.
    pub(crate) fn expect(&self, kind: StreamKind) -> oneshot::Receiver<S> {
        let (sender, receiver) = oneshot::channel();
        let mut inner = self.router.0.lock();
        let is_closed = inner.is_closed;
        if let Some(slots) = inner.sessions.get_mut(&self.session) {
            match slots.insert(kind, Slot::Delivered) {
                None if is_closed => {}
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
    use tokio::sync::oneshot::error::TryRecvError;

    use super::StreamRouter;

    /// A stream that says whether it was refused.
    fn stream() -> (Rc<()>, impl Fn() -> bool) {
        let stream = Rc::new(());
        let weak = Rc::downgrade(&stream);
        (stream, move || weak.strong_count() == 0)
    }

    #[test]
    fn a_stream_finds_its_session_whichever_comes_first() {
        let router = StreamRouter::default();
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
        let router = StreamRouter::default();
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
        let router = StreamRouter::default();
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
        let router = StreamRouter::default();
        let streams = router.start(0);
        drop(streams.expect(Stdin));
        let (unwanted, is_refused) = stream();
        router.deliver(Stdin, 0, unwanted);
        assert!(is_refused());
    }

    #[test]
    fn a_kind_is_delivered_once() {
        let router = StreamRouter::default();
        let streams = router.start(0);
        let (mut first, mut second) = (streams.expect(Stdin), streams.expect(Stdin));
        router.deliver(Stdin, 0, "only");
        assert_eq!(first.try_recv(), Ok("only"));
        assert!(second.try_recv().is_err());
        router.deliver(Stdin, 0, "again");
        assert!(streams.expect(Stdin).try_recv().is_err());
    }

    #[test]
    fn nothing_is_kept_of_streams_for_sessions_that_have_not_started() {
        let router = StreamRouter::default();
        let (early, is_refused) = stream();
        router.deliver(Stdin, 4, early);
        assert!(is_refused());
        assert!(router.start(4).expect(Stdin).try_recv().is_err());
    }

    #[test]
    fn at_the_end_of_the_connection_nothing_is_waited_for() {
        let router = StreamRouter::default();
        let (one, two) = (router.start(0), router.start(4));
        router.deliver(Stdout, 0, "arrived");
        let mut expected = [one.expect(Stderr), two.expect(Stdout)];
        router.close();
        for stream in &mut expected {
            assert_eq!(stream.try_recv(), Err(TryRecvError::Closed));
        }
        assert_eq!(one.expect(Stdout).try_recv(), Ok("arrived"));
        assert_eq!(two.expect(Stderr).try_recv(), Err(TryRecvError::Closed));
    }
}
