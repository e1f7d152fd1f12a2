//! Connects to a service of this machine, or to what this machine reaches: recorded, listed, and ended when it is no longer allowed.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use malai_cluster::Upstream;
use malai_wire::peer::connect::RESET;
use malai_wire::{Refusal, RefusalCode};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::net::{TcpStream, UnixStream};
use tokio_util::sync::CancellationToken;

use super::bridge::{Broken, End, both_ways};
use super::http::service::HttpService;
use super::socket::Socket;
use super::wire::Wire;
use crate::audit::{Counts, EndReason, Running};
use crate::cluster::authorize::{self, Connect, Granted};
use crate::cluster::state::ClusterState;
use crate::node::sessions::{Located, LocatedGuard, PathInfo, Session, SessionGuard};
use crate::os::user::{Credentials, RunAs};

/// How long a service may take to accept a connection. Callers wait for twice as long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection that the service has accepted.
#[derive(Debug)]
pub(crate) struct Opened {
    service: Service,
    running: Running,
    listed: SessionGuard<Session>,
}

/// How the service is reached.
#[derive(Debug)]
enum Service {
    /// Over this connection. The guard is dropped before it is closed.
    Raw(Option<LocatedGuard>, End),
    /// For each request, over a connection that is made when it is needed.
    Http(Box<HttpService>),
}

/// Connects to the service, unless it speaks HTTP: then that can wait, and have an answer that says why it failed. Its
/// start is recorded, and its end if it fails.
///
/// # Errors
///
/// The service cannot be reached, the connection was ended meanwhile, or it cannot be recorded although that is required.
pub(crate) async fn open(
    cluster_state: &Arc<ClusterState>,
    granted: Granted<Connect>,
    connection: Option<Weak<dyn PathInfo>>,
) -> Result<Opened, Refusal> {
    let connect = granted.into_inner();
    let running = Running::begin(
        &cluster_state.node.audit,
        connect.request.clone(),
        connect.run_as.to_string(),
        connect.session,
    )?;
    let counts = running.counts.clone();
    let listed = authorize::begin_connection(cluster_state, &connect, connection, counts);
    let located = listed.session().located.clone();
    let connected = async {
        Ok::<_, String>(match &connect.upstream {
            Upstream::Tcp { host, port } => {
                let (stream, guard) = tcp(host, *port, &located).await?;
                Service::Raw(Some(guard), End::Socket(Socket::tcp(stream)))
            }
            Upstream::Http { host, port } => {
                let service = HttpService::new(cluster_state, connect.from, host, *port, located);
                Service::Http(Box::new(service))
            }
            Upstream::Unix(path) => {
                let socket = unix(path, &connect.run_as).await?;
                Service::Raw(None, End::Socket(socket))
            }
        })
    };
    tokio::select! {
        connected = connected => match connected {
            Ok(service) => Ok(Opened { service, running, listed }),
            Err(why) => {
                tracing::info!(cluster = %cluster_state.alias(), session = connect.session, "{why}");
                running.end(EndReason::Failed(&why));
                Err(Refusal::new(RefusalCode::Failed, why))
            }
        },
        reason = listed.ended() => {
            running.end(EndReason::Ended(&reason.message));
            Err(reason)
        }
    }
}

/// Connects to a TCP port, and notes where the connection comes from.
///
/// # Errors
///
/// Why it cannot be connected to, as a sentence.
pub(super) async fn tcp(
    host: &str,
    port: u16,
    located: &Located,
) -> Result<(TcpStream, LocatedGuard), String> {
    let connecting = async {
        let stream = TcpStream::connect((host, port)).await?;
        crate::os::fd::make_room(&stream);
        let _ = stream.set_nodelay(true);
        let guard = located.at(canonical(stream.local_addr()?));
        Ok((stream, guard))
    };
    let shown = match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    };
    in_time(connecting, &shown, None).await
}

/// The address as an IPv4 one if it is one.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Connects to a Unix socket.
async fn unix(path: &str, run_as: &RunAs) -> Result<Socket, String> {
    let connecting = async {
        let stream = match &run_as.switch {
            None => UnixStream::connect(path).await?,
            Some(user) => connected_as(user.clone(), path.to_owned()).await?,
        };
        crate::os::fd::make_room(&stream);
        Ok(Socket::unix(stream))
    };
    in_time(connecting, path, Some(run_as)).await
}

async fn in_time<T>(
    connecting: impl Future<Output = io::Result<T>>,
    address: &str,
    run_as: Option<&RunAs>,
) -> Result<T, String> {
    let why = match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(Ok(connected)) => return Ok(connected),
        Ok(Err(error)) => told(&error, run_as),
        Err(_) => format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()),
    };
    Err(format!("cannot connect to {address}: {why}"))
}

/// Connects with another user's rights, which the owner of the socket also sees (`SO_PEERCRED`).
async fn connected_as(user: Credentials, path: String) -> io::Result<UnixStream> {
    let connecting = move || {
        user.act(|| {
            // Not blocking: a full queue is an error, and no thread waits for it.
            let socket = rustix::net::socket_with(
                AddressFamily::UNIX,
                SocketType::STREAM,
                SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
                None,
            )?;
            rustix::net::connect(&socket, &SocketAddrUnix::new(&*path)?)?;
            Ok(std::os::unix::net::UnixStream::from(socket))
        })
    };
    let connected = tokio::task::spawn_blocking(connecting).await;
    UnixStream::from_std(connected.map_err(io::Error::other)??)
}

/// The system's error as a reader of services' logs knows it.
fn told(error: &io::Error, run_as: Option<&RunAs>) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused: nothing listens there".to_owned(),
        io::ErrorKind::NotFound => "there is no such socket".to_owned(),
        io::ErrorKind::PermissionDenied => match run_as.map(|run_as| (run_as, &run_as.switch)) {
            None => error.to_string(),
            Some((daemon, None)) => {
                format!("permission denied for {daemon}, as whom the daemon runs")
            }
            Some((user, Some(_))) => format!("permission denied for {user}"),
        },
        _ => error.to_string(),
    }
}

impl Opened {
    /// Passes bytes between the client and the service until both directions have ended, or one side is gone.
    pub(crate) async fn pass(self, client: End, gone: &CancellationToken) {
        let Self {
            service,
            running,
            listed,
        } = self;
        let why = match service {
            Service::Raw(guard, service) => {
                raw(client, service, guard, &running.counts, &listed, gone).await
            }
            Service::Http(service) => http(*service, client, &running.counts, &listed, gone).await,
        };
        running.end(EndReason::Ended(&why));
    }
}

/// Passes bytes on as they are; returns why it has ended.
async fn raw(
    mut client: End,
    mut service: End,
    guard: Option<LocatedGuard>,
    counts: &Counts,
    listed: &SessionGuard<Session>,
    gone: &CancellationToken,
) -> String {
    let passing = both_ways(&mut client, &mut service, &counts.stdin, &counts.stdout);
    let (code, why) = tokio::select! {
        passed = passing => match passed {
            Ok(()) => (RESET, "the connection ended".to_owned()),
            Err(broken @ (Broken::Reset | Broken::Ended(_))) => (RESET, broken.to_string()),
            Err(Broken::Lost(why)) => (RESET, format!("the connection to the client was lost: {why}")),
            Err(Broken::Socket(error)) => (RefusalCode::Failed as u32, format!("failed: {error}")),
        },
        reason = listed.ended() => (u32::from(reason.code), reason.message),
        () = gone.cancelled() => (RESET, "the client disconnected".to_owned()),
    };
    client.end(code);
    drop(guard);
    why
}

/// Passes requests on, each with who sends it; returns why it has ended.
async fn http(
    service: HttpService,
    client: End,
    counts: &Arc<Counts>,
    listed: &SessionGuard<Session>,
    gone: &CancellationToken,
) -> String {
    let (client, code) = Wire::new(client, counts.clone());
    // Boxed, so that connections without HTTP do not have room for it.
    let mut serving = Box::pin(service.serve(client));
    tokio::select! {
        served = &mut serving => match served {
            Ok(()) => "the connection ended".to_owned(),
            Err(why) => why,
        },
        reason = listed.ended() => {
            // Before it is dropped, which resets it with this code.
            code.store(reason.code.into(), Ordering::Relaxed);
            reason.message
        }
        () = gone.cancelled() => "the client disconnected".to_owned(),
    }
}
