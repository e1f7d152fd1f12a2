//! The server's side of one connection: requests one after the other, then perhaps a tunnel.

use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::body::Body;
use super::exchange::{Gone, Tunnel};
use crate::settings::limits::Limits;

/// How long a client may take to notice that the connection has ended. What it had not read by then would be lost by a
/// reset.
const LINGER: Duration = Duration::from_secs(30);

/// The answer to a client that begins with HTTP/2.
const HTTP2: &[u8] = b"HTTP/1.1 505 HTTP Version Not Supported\r\n\
    content-type: text/plain; charset=utf-8\r\n\
    connection: close\r\n\r\n\
    malai: this service speaks HTTP/1.1, not HTTP/2\n";

/// How much a client may send, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    header_bytes: usize,
    header_time: Duration,
}

impl From<&Limits> for Bounds {
    fn from(limits: &Limits) -> Self {
        Self {
            header_bytes: limits.http_header_bytes as usize,
            header_time: Duration::from_secs(limits.http_header_seconds.into()),
        }
    }
}

impl Bounds {
    /// The longest header, which is also the size of buffers.
    pub(super) fn buffer(&self) -> usize {
        self.header_bytes
    }
}

/// Serves a connection to its end.
///
/// # Errors
///
/// Why it did not end by itself.
pub(crate) async fn serve<I, A, F>(
    io: I,
    bounds: Bounds,
    take_tunnel: impl FnOnce() -> Option<Tunnel>,
    answer: A,
) -> Result<(), String>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: Fn(Request<Incoming>) -> F + Unpin,
    F: Future<Output = Result<Response<Body>, Gone>>,
{
    let mut server = http1::Builder::new();
    server
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.header_time)
        .max_buf_size(bounds.header_bytes)
        // The service's own is passed on.
        .auto_date_header(false);
    let connection = server.serve_connection(TokioIo::new(io), service_fn(answer));
    let mut connection = connection.with_upgrades();
    let served = (&mut connection).await;
    if let Some(tunnel) = take_tunnel() {
        return tunnel.pass().await.map_err(|error| error.to_string());
    }
    let is_http2 = served
        .as_ref()
        .is_err_and(hyper::Error::is_parse_version_h2);
    let Some(parts) = connection.into_parts() else {
        return Ok(());
    };
    let mut io = parts.io.into_inner();
    let ending = async {
        if is_http2 {
            io.write_all(HTTP2).await?;
        }
        io.shutdown().await?;
        let mut rest = [0; 4096];
        while io.read(&mut rest).await? > 0 {}
        Ok::<(), std::io::Error>(())
    };
    // The client may have gone. Otherwise, what can be said has been said.
    let has_gone =
        |error: &hyper::Error| !error.is_parse() && !error.is_timeout() && !error.is_user();
    if !served.as_ref().is_err_and(has_gone) {
        let _ = tokio::time::timeout(LINGER, ending).await;
    }
    match served {
        Err(error) if error.is_timeout() => Err("no request came in time".to_owned()),
        Err(error) => Err(told(&error)),
        Ok(()) => Ok(()),
    }
}

/// An error with its causes.
pub(super) fn told(error: &hyper::Error) -> String {
    if error.is_incomplete_message() || error.is_body_write_aborted() {
        return "the connection ended in the middle of a message".to_owned();
    }
    let source = std::error::Error::source(error);
    if let Some(error) = source.and_then(|source| source.downcast_ref::<std::io::Error>()) {
        use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected};
        if let BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected = error.kind() {
            return "the connection was reset".to_owned();
        }
    }
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
