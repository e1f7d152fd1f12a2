//! Passes requests on, over a connection to the service that lasts as long as both sides keep it.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

use super::answer::Answer;
use super::body::Body;
use super::headers::{self, Switch};
use super::serve::{Bounds, told};

/// How long a service may take to ask for the body of a request that offers to wait (`Expect: 100-continue`). Then it is
/// sent: many do not ask.
const CONTINUE: Duration = Duration::from_secs(1);

/// How many bytes a tunnel reads at once.
const TUNNEL: usize = 64 * 1024;

/// The bytes of a connection to the service.
pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// A connection that is being made.
pub(crate) type Connecting = Pin<Box<dyn Future<Output = Result<Box<dyn Io>, Answer>> + Send>>;

/// The connection to the service has ended without an answer. So does the client's then: it knows best whether to ask
/// again.
#[derive(Debug, thiserror::Error)]
#[error("the service closed the connection without an answer")]
pub(crate) struct Gone;

/// Passes the requests of one client on.
pub(crate) struct Exchange {
    connect: Box<dyn Fn() -> Connecting + Send + Sync>,
    bounds: Bounds,
    upstream: Mutex<Option<Upstream>>,
    tunnel: Mutex<Option<Tunnel>>,
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exchange")
    }
}

/// A connection to the service. It is kept until the next request, because the body of an answer comes over it.
struct Upstream {
    sender: SendRequest<Body>,
    /// Ends the task that drives the connection when this is dropped.
    _driven: AbortOnDropHandle<()>,
}

/// The two ends of a connection that was switched.
pub(crate) struct Tunnel {
    client: OnUpgrade,
    service: OnUpgrade,
    _upstream: Option<Upstream>,
}

impl Tunnel {
    /// Passes bytes both ways until both directions have ended.
    pub(crate) async fn pass(self) -> io::Result<()> {
        let ends = tokio::try_join!(self.client, self.service);
        let (client, service) = ends.map_err(io::Error::other)?;
        let (mut client, mut service) = (TokioIo::new(client), TokioIo::new(service));
        tokio::io::copy_bidirectional_with_sizes(&mut client, &mut service, TUNNEL, TUNNEL).await?;
        Ok(())
    }
}

/// Why a request gets no answer of the service.
enum Failure {
    Answer(Answer),
    Gone,
}

impl From<Answer> for Failure {
    fn from(answer: Answer) -> Self {
        Self::Answer(answer)
    }
}

impl Exchange {
    /// Passes requests on over connections that are made like this.
    pub(crate) fn new(
        bounds: Bounds,
        connect: impl Fn() -> Connecting + Send + Sync + 'static,
    ) -> Self {
        Self {
            connect: Box::new(connect),
            bounds,
            upstream: Mutex::default(),
            tunnel: Mutex::default(),
        }
    }

    /// The tunnel that the last request has become, if it was switched.
    pub(crate) fn take_tunnel(&self) -> Option<Tunnel> {
        self.tunnel.lock().take()
    }

    /// Passes a request on, with these fields added; the answer is the service's, or malai's own.
    ///
    /// # Errors
    ///
    /// The connection to the service has ended without an answer.
    pub(crate) async fn pass(
        &self,
        request: Request<Incoming>,
        added: HeaderMap,
    ) -> Result<Response<Body>, Gone> {
        match self.ask(request, added).await {
            Ok(response) => Ok(response),
            Err(Failure::Answer(answer)) => Ok(answer.response()),
            Err(Failure::Gone) => Err(Gone),
        }
    }

    async fn ask(
        &self,
        mut request: Request<Incoming>,
        added: HeaderMap,
    ) -> Result<Response<Body>, Failure> {
        let switch = wanted_switch(&request)?;
        let client = (switch == Switch::WebSocket).then(|| hyper::upgrade::on(&mut request));
        let (mut request, ask_for_body) = prepared(request, switch)?;
        request.headers_mut().extend(added);
        let (asked, mut is_asked) = oneshot::channel();
        if ask_for_body.is_some() {
            let asked = Mutex::new(Some(asked));
            hyper::ext::on_informational(&mut request, move |response| {
                if response.status() == StatusCode::CONTINUE
                    && let Some(asked) = asked.lock().take()
                {
                    let _ = asked.send(());
                }
            });
        }
        let answering = self.send(request);
        tokio::pin!(answering);
        let mut sent = None;
        if let Some(open) = ask_for_body {
            tokio::select! {
                biased;
                answer = &mut answering => sent = Some(answer),
                Ok(()) = &mut is_asked => drop(open.send(())),
                () = tokio::time::sleep(CONTINUE) => drop(open.send(())),
            }
        }
        let (mut response, upstream) = match sent {
            // Without its body, which is never asked for: the connection is of no more use.
            Some(answer) => answer?,
            None => answering.await?,
        };
        *response.version_mut() = hyper::Version::HTTP_11;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            *self.upstream.lock() = Some(upstream);
            headers::remove_of_connection(response.headers_mut());
            return Ok(response.map(Body::from));
        }
        let agreed = headers::switch(response.headers()) == Switch::WebSocket;
        let Some(client) = client.filter(|_| agreed) else {
            let why = "the service has switched to a protocol that was not asked for";
            return Err(Answer::new(StatusCode::BAD_GATEWAY, why).into());
        };
        let service = hyper::upgrade::on(&mut response);
        *self.tunnel.lock() = Some(Tunnel {
            client,
            service,
            _upstream: Some(upstream),
        });
        headers::remove_of_connection(response.headers_mut());
        headers::set_web_socket(response.headers_mut());
        Ok(response.map(|_| Body::Text(None)))
    }

    /// Sends a request over the connection that is there, or over a new one.
    async fn send(
        &self,
        mut request: Request<Body>,
    ) -> Result<(Response<Incoming>, Upstream), Failure> {
        let kept = self.upstream.lock().take();
        if let Some(mut upstream) = kept
            && upstream.sender.ready().await.is_ok()
        {
            match upstream.sender.try_send_request(request).await {
                Ok(response) => return Ok((response, upstream)),
                Err(mut error) => match error.take_message() {
                    // It had ended before anything of the request was sent.
                    Some(unsent) => request = unsent,
                    None => return Err(Failure::Gone),
                },
            }
        }
        let mut upstream = self.connected().await?;
        match upstream.sender.try_send_request(request).await {
            Ok(response) => Ok((response, upstream)),
            Err(error) => {
                let why = format!("the service has not answered: {}", told(error.error()));
                Err(Answer::new(StatusCode::BAD_GATEWAY, why).into())
            }
        }
    }

    async fn connected(&self) -> Result<Upstream, Answer> {
        let io = (self.connect)().await?;
        let mut client = http1::Builder::new();
        client.max_buf_size(self.bounds.buffer());
        let (sender, connection) = client
            .handshake(TokioIo::new(io))
            .await
            .map_err(|error| Answer::new(StatusCode::BAD_GATEWAY, told(&error)))?;
        let driven = tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!("a connection to a service: {}", told(&error));
            }
        });
        Ok(Upstream {
            sender,
            _driven: AbortOnDropHandle::new(driven),
        })
    }
}

/// What a request wants to switch to.
///
/// # Errors
///
/// It is nothing that malai passes on.
fn wanted_switch(request: &Request<Incoming>) -> Result<Switch, Answer> {
    if request.method() == Method::CONNECT {
        let why = "CONNECT is not passed on: this is a service, not a proxy";
        return Err(Answer::new(StatusCode::NOT_IMPLEMENTED, why));
    }
    match headers::switch(request.headers()) {
        Switch::Http2 => {
            let why = "this service speaks HTTP/1.1, not HTTP/2";
            let status = StatusCode::HTTP_VERSION_NOT_SUPPORTED;
            Err(Answer::new(status, why))
        }
        // Anything else asks for nothing, and gets an answer to its request alone.
        Switch::WebSocket if request.method() == Method::GET => Ok(Switch::WebSocket),
        _ => Ok(Switch::None),
    }
}

/// Opens the gate of a body.
type Opener = oneshot::Sender<()>;

/// The request as it is sent to the service.
///
/// # Errors
///
/// It has no single meaning.
fn prepared(
    request: Request<Incoming>,
    switch: Switch,
) -> Result<(Request<Body>, Option<Opener>), Answer> {
    let (mut parts, from) = request.into_parts();
    let invalid = |why: &str| Answer::new(StatusCode::BAD_REQUEST, why);
    if parts.headers.get_all(HOST).iter().count() > 1 {
        return Err(invalid("the request has more than one Host"));
    }
    // A proxy's form of a request names the host in its first line (RFC 9112 §3.2.2).
    if let Some(host) = parts.uri.authority() {
        let host = HeaderValue::from_str(host.as_str());
        let host = host.map_err(|_| invalid("the request has no valid host"))?;
        parts.headers.insert(HOST, host);
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let path = path.parse::<Uri>();
        parts.uri = path.map_err(|_| invalid("the request has no valid path"))?;
    }
    parts.version = hyper::Version::HTTP_11;
    headers::remove_of_connection(&mut parts.headers);
    // The length is written as this side has understood it.
    let has_length = parts.headers.remove(CONTENT_LENGTH).is_some();
    match from.size_hint().exact() {
        Some(0) if !has_length => {}
        Some(length) => drop(parts.headers.insert(CONTENT_LENGTH, length.into())),
        None => {
            let chunked = HeaderValue::from_static("chunked");
            parts.headers.insert(TRANSFER_ENCODING, chunked);
        }
    }
    if switch == Switch::WebSocket {
        headers::set_web_socket(&mut parts.headers);
    }
    let expects = parts.headers.get(EXPECT);
    let waits = expects.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    let (opener, gate) = match waits && !from.is_end_stream() {
        true => {
            let (opener, opened) = oneshot::channel();
            (Some(opener), Some(opened))
        }
        false => (None, None),
    };
    let body = Body::Passed { from, gate };
    Ok((Request::from_parts(parts, body), opener))
}
