//! `malai browse`: HTTP services in the browsers of this computer's user, at a name of their own on loopback. Requests act
//! with this computer's identity, so only browsers that came through a link of the daemon's are let in.

mod door;
mod request;
mod serve;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use malai_cluster::Target;
use malai_wire::control::ForwardTo;
use parking_lot::Mutex;
use tokio::net::TcpListener;

use self::door::{Door, Pass};
use super::Daemon;
use crate::service::forward::ForwardRoute;

/// Whether this system says which user has the other end of a connection. Elsewhere the token and the cookie have to be
/// enough.
const TELLS_USERS: bool = cfg!(target_os = "linux");

/// The user where the system does not say it.
const NOBODY: u32 = u32::MAX;

/// How many ports are tried besides the preferred one.
const TRIES: usize = 16;

/// The browsers that are let in, and where they are listened for once the first link has been made.
#[derive(Debug, Default)]
pub(super) struct Browsing {
    door: Mutex<Door>,
    port: tokio::sync::Mutex<Option<u16>>,
}

impl Daemon {
    /// A link that opens a service in a browser of this user, once.
    ///
    /// # Errors
    ///
    /// It is no HTTP service, or no port can be listened on.
    pub(crate) async fn browse(
        self: &Arc<Self>,
        target: &str,
        user: u32,
    ) -> Result<String, String> {
        let route = self.browse_route(target)?;
        let (service, cluster) = route.http_service()?;
        let host = request::host(&service, &cluster);
        let port = self.browse_port().await;
        let port = port.map_err(|error| format!("cannot listen for browsers: {error}"))?;
        let pass = Pass {
            host: host.clone(),
            user: if TELLS_USERS { user } else { NOBODY },
        };
        let token = self.browsing.door.lock().link(pass, Instant::now());
        let token = token.map_err(|error| format!("no randomness: {error}"))?;
        Ok(format!("http://{host}:{port}{}{token}", request::LINK_PATH))
    }

    /// The way to a service.
    fn browse_route(self: &Arc<Self>, target: &str) -> Result<ForwardRoute, String> {
        let daemon = self.clone();
        Ok(ForwardRoute {
            services: Arc::new(move || daemon.services()),
            target: Target::parse(target).map_err(|error| error.to_string())?,
            to: ForwardTo::Service,
        })
    }

    /// The port that browsers connect to, from the first call on.
    async fn browse_port(self: &Arc<Self>) -> io::Result<u16> {
        let mut port = self.browsing.port.lock().await;
        if let Some(port) = *port {
            return Ok(port);
        }
        let listeners = bind(self.preferred_port()).await?;
        let bound = listeners[0].local_addr()?.port();
        for listener in listeners {
            let daemon = self.clone();
            self.tasks.spawn(serve::accept(daemon, listener, bound));
        }
        *port = Some(bound);
        Ok(bound)
    }

    /// A port that stays the same as long as nobody else takes it: what a browser keeps belongs to it.
    fn preferred_port(&self) -> u16 {
        let home = self.home.root().as_os_str().as_encoded_bytes();
        let hash = blake3::hash(home);
        let number = u16::from_be_bytes([hash.as_bytes()[0], hash.as_bytes()[1]]);
        20_000 + number % 12_768
    }
}

/// Listens on one port of both loopback addresses: a browser may try either, and nobody else may have the other.
async fn bind(preferred: u16) -> io::Result<Vec<TcpListener>> {
    let mut port = preferred;
    let mut tries = TRIES;
    loop {
        let bound = bind_both(port).await;
        match bound {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries > 0 => {
                tries -= 1;
                port = 0;
            }
            bound => return bound,
        }
    }
}

async fn bind_both(port: u16) -> io::Result<Vec<TcpListener>> {
    let v4 = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
    let port = v4.local_addr()?.port();
    match TcpListener::bind(SocketAddr::from((Ipv6Addr::LOCALHOST, port))).await {
        Ok(v6) => Ok(vec![v4, v6]),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(error),
        // A computer without IPv6.
        Err(_) => Ok(vec![v4]),
    }
}
