//! Bodies that are passed on frame by frame, and malai's own answers.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::body::{Bytes, Frame, Incoming, SizeHint};
use tokio::sync::oneshot;

use super::headers::remove_ours;

/// A body that is sent.
#[derive(Debug)]
pub(crate) enum Body {
    /// A text of malai's own; `None` once it was sent.
    Text(Option<Bytes>),
    /// One that is received meanwhile: a frame is read when the last one has been written.
    Passed {
        /// Where it comes from.
        from: Incoming,
        /// Nothing is read before this is sent, and never anything if it is dropped: the answer is there already, and the
        /// connection ends with it.
        gate: Option<oneshot::Receiver<()>>,
    },
    /// One that nobody reads.
    Unwanted,
}

impl From<Incoming> for Body {
    fn from(from: Incoming) -> Self {
        Self::Passed { from, gate: None }
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let body = self.get_mut();
        match body {
            Self::Text(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Self::Unwanted => Poll::Pending,
            Self::Passed { from, gate } => {
                if let Some(waiting) = gate {
                    if ready!(Pin::new(waiting).poll(context)).is_err() {
                        // The client learns by this that it is not read.
                        *body = Self::Unwanted;
                        return Poll::Pending;
                    }
                    *gate = None;
                }
                let mut frame = ready!(Pin::new(from).poll_frame(context));
                if let Some(Ok(frame)) = &mut frame
                    && let Some(trailers) = frame.trailers_mut()
                {
                    remove_ours(trailers);
                }
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Text(text) => text.is_none(),
            Self::Unwanted => false,
            Self::Passed { from, .. } => from.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Text(text) => {
                SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64))
            }
            Self::Unwanted => SizeHint::default(),
            Self::Passed { from, .. } => from.size_hint(),
        }
    }
}
