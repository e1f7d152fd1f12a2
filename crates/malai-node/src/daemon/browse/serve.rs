//! The connections of browsers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderValue, LOCATION, SET_COOKIE};
use hyper::{Method, Request, Response, StatusCode};
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio_util::sync::CancellationToken;

use super::door::Pass;
use super::request::{self, LINK_PATH};
use super::{NOBODY, TELLS_USERS};
use crate::daemon::Daemon;
use crate::forward::http::answer::Answer;
use crate::forward::http::body::Body;
use crate::forward::http::exchange::{Connecting, Exchange, Gone};
use crate::forward::http::guarded::Guarded;
use crate::forward::http::serve::{self, Bounds};
use crate::forward::socket::Socket;
use crate::os::{fd, socket_user};

/// How long nothing is accepted after the system has refused a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections until the daemon stops.
pub(super) async fn accept(daemon: Arc<Daemon>, listener: TcpListener, port: u16) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = daemon.stopping.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                fd::make_room(&stream);
                let gone = daemon.stopping.child_token();
                // Too many: closed at once.
                if let Ok(counted) = daemon.limiter().browser() {
                    let serving = serve(daemon.clone(), stream, peer, port, gone);
                    let serving = async move {
                        serving.await;
                        drop(counted);
                    };
                    daemon.sessions.spawn(Box::pin(serving));
                }
            }
            Err(error) => {
                tracing::warn!("cannot accept a browser: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves one connection until it ends, or the daemon does.
async fn serve(
    daemon: Arc<Daemon>,
    stream: TcpStream,
    peer: SocketAddr,
    port: u16,
    gone: CancellationToken,
) {
    let _ = stream.set_nodelay(true);
    let bounds = Bounds::from(&*daemon.limiter().limits());
    let visitor = Arc::new(Visitor {
        user: stream
            .local_addr()
            .ok()
            .and_then(|here| user_of(peer, here)),
        daemon,
        port,
        bounds,
        gone: gone.clone(),
        service: Mutex::default(),
    });
    let tunnels = visitor.clone();
    let tunnel = move || tunnels.service.lock().as_ref()?.1.take_tunnel();
    let answer = move |request| {
        let visitor = visitor.clone();
        async move { visitor.answer(request).await }
    };
    tokio::select! {
        served = serve::serve(stream, bounds, tunnel, answer) => {
            if let Err(why) = served {
                tracing::debug!("a browser: {why}");
            }
        }
        () = gone.cancelled() => {}
    }
}

/// The user of a browser, if that can be found out.
fn user_of(peer: SocketAddr, here: SocketAddr) -> Option<u32> {
    if !TELLS_USERS {
        return Some(NOBODY);
    }
    match socket_user::of_peer(peer, here) {
        Ok(user) => user,
        Err(error) => {
            tracing::warn!("cannot tell whose browser has connected: {error}");
            None
        }
    }
}

/// One connection of a browser.
struct Visitor {
    daemon: Arc<Daemon>,
    port: u16,
    bounds: Bounds,
    /// Whose browser it is; `None` if that could not be found out.
    user: Option<u32>,
    gone: CancellationToken,
    /// The service that it uses, by its host name.
    service: Mutex<Option<(String, Arc<Exchange>)>>,
}

impl Visitor {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, Gone> {
        match self.admitted(request) {
            Ok(Admitted::Answer(response)) => Ok(response),
            Ok(Admitted::Pass(exchange, request)) => {
                let mut response = exchange.pass(request, HeaderMap::new()).await?;
                request::keep_cookie(response.headers_mut());
                Ok(response)
            }
            Err(answer) => Ok(answer.response()),
        }
    }

    /// Checks a request before anything of it is passed on.
    fn admitted(&self, mut request: Request<Incoming>) -> Result<Admitted, Answer> {
        let forbidden = |why: String| Answer::new(StatusCode::FORBIDDEN, why);
        // A proxy's form of a request could name another host in its first line.
        if request.uri().authority().is_some() {
            return Err(forbidden(request::Foreign::Host.to_string()));
        }
        let host = request::check(request.headers(), self.port);
        let host = host
            .map_err(|foreign| forbidden(foreign.to_string()))?
            .to_owned();
        let Some((service, cluster)) = request::service_of(&host) else {
            return Err(forbidden(request::Foreign::Host.to_string()));
        };
        let target = format!("{service}.{cluster}");
        let shown = malai_cluster::escape(&target);
        let Some(user) = self.user else {
            let why = "the system does not say whose browser this is";
            return Err(forbidden(why.to_owned()));
        };
        let pass = Pass {
            host: host.clone(),
            user,
        };
        if let Some(token) = request.uri().path().strip_prefix(LINK_PATH) {
            if request.method() != Method::GET {
                return Err(forbidden("a link is opened, nothing else".to_owned()));
            }
            let cookie = self
                .daemon
                .browsing
                .door
                .lock()
                .enter(token, &pass, Instant::now());
            let Some(cookie) = cookie else {
                return Err(forbidden(format!(
                    "this link works once, within a minute, for the user who has asked for it: run `malai browse {shown}` again"
                )));
            };
            return Ok(Admitted::Answer(entered(&cookie)));
        }
        let cookies = request::take_cookies(request.headers_mut());
        let door = self.daemon.browsing.door.lock();
        if !cookies.iter().any(|cookie| door.admits(cookie, &pass)) {
            return Err(forbidden(format!(
                "only a browser that was opened by `malai browse {shown}` may see this page"
            )));
        }
        drop(door);
        let mut known = self.service.lock();
        let exchange = match &*known {
            Some((name, exchange)) if *name == host => exchange.clone(),
            Some(_) => {
                let why = "this connection is for another service";
                return Err(Answer::new(StatusCode::MISDIRECTED_REQUEST, why));
            }
            None => {
                let exchange = Arc::new(self.exchange(target));
                *known = Some((host, exchange.clone()));
                exchange
            }
        };
        drop(known);
        Ok(Admitted::Pass(exchange, request))
    }

    /// Connections to the service: as those of `malai forward`, which answers for machines that cannot be reached.
    fn exchange(&self, target: String) -> Exchange {
        let (daemon, gone) = (self.daemon.clone(), self.gone.clone());
        Exchange::new(self.bounds, move || -> Connecting {
            let (daemon, gone) = (daemon.clone(), gone.child_token());
            let failed = |why: String| Answer::new(StatusCode::BAD_GATEWAY, why);
            let route = daemon.browse_route(&target).and_then(|route| {
                route.http_service()?;
                Ok(route)
            });
            Box::pin(async move {
                let route = route.map_err(failed)?;
                let (own, other) = UnixStream::pair().map_err(|error| failed(error.to_string()))?;
                fd::make_room(&own);
                let ends = gone.clone().drop_guard();
                daemon.sessions.spawn(Box::pin(async move {
                    if let Err(why) = route.pass(Socket::unix(other), &gone).await {
                        tracing::info!("{why}");
                    }
                }));
                Ok(Box::new(Guarded::new(own, ends)) as _)
            })
        })
    }
}

/// What becomes of a request.
enum Admitted {
    Answer(Response<Body>),
    Pass(Arc<Exchange>, Request<Incoming>),
}

/// The answer to a link: the cookie, and the service's own page without the token in its address.
fn entered(cookie: &str) -> Response<Body> {
    let mut response = Answer::new(StatusCode::SEE_OTHER, "welcome").response();
    let fields = response.headers_mut();
    fields.insert(LOCATION, HeaderValue::from_static("/"));
    fields.insert("referrer-policy", HeaderValue::from_static("no-referrer"));
    if let Ok(cookie) = HeaderValue::from_str(&request::set_cookie(cookie)) {
        fields.insert(SET_COOKIE, cookie);
    }
    response
}
