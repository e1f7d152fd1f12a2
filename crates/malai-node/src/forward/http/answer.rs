//! malai's own answers: a status, and a sentence that says why.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Request, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};

use super::body::Body;
use super::serve::{self, Bounds};

/// An answer instead of the service's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// The sentence, safe to show.
    pub why: String,
}

impl Answer {
    /// An answer.
    pub(crate) fn new(status: StatusCode, why: impl Into<String>) -> Self {
        let why = why.into();
        Self { status, why }
    }

    /// The answer as it is sent.
    pub(crate) fn response(&self) -> Response<Body> {
        let text = format!("malai: {}\n", self.why);
        let mut response = Response::new(Body::Text(Some(text.into())));
        *response.status_mut() = self.status;
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, plain);
        let never = HeaderValue::from_static("no-store");
        response.headers_mut().insert("cache-control", never);
        response
    }
}

/// Answers whatever is asked on a connection.
pub(crate) async fn always<I>(io: I, answer: Answer, bounds: Bounds)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let answer = Arc::new(answer);
    let answered = serve::serve(
        io,
        bounds,
        || None,
        move |_: Request<Incoming>| {
            let answer = answer.clone();
            async move { Ok(answer.response()) }
        },
    );
    if let Err(why) = answered.await {
        tracing::debug!("a client was not answered: {why}");
    }
}
