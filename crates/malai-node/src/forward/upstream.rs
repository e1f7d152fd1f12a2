//! Connects to a service of this machine, or to what this machine reaches: recorded, listed, and ended when it is no longer allowed.

use std::io;
use std::sync::Weak;
use std::time::Duration;

use malai_cluster::Upstream;
use malai_wire::peer::connect::RESET;
use malai_wire::{Refusal, RefusalCode};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::net::{TcpStream, UnixStream};
use tokio_util::sync::CancellationToken;

use super::bridge::{Broken, End, both_ways};
use super::socket::Socket;
use crate::audit::{EndReason, Running};
use crate::cluster::authorize::{self, Connect, Granted};
use crate::cluster::state::ClusterState;
use crate::node::sessions::{PathInfo, Session, SessionGuard};
use crate::os::user::{Credentials, RunAs};

/// How long a service may take to accept a connection. Callers wait for twice as long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection that the service has accepted.
#[derive(Debug)]
pub(crate) struct Opened {
    service: End,
    running: Running,
    listed: SessionGuard<Session>,
}

/// Connects to the service. Its start is recorded, and its end if it fails.
///
/// # Errors
///
/// The service cannot be reached, the connection was ended meanwhile, or it cannot be recorded although that is required.
pub(crate) async fn open(
    cluster_state: &ClusterState,
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
    tokio::select! {
        connected = connected(&connect.upstream, &connect.run_as) => match connected {
            Ok(socket) => Ok(Opened { service: End::Socket(socket), running, listed }),
            Err(error) => {
                let why = format!("cannot connect to {}: {}", connect.upstream, told(&error, &connect.run_as));
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

async fn connected(upstream: &Upstream, run_as: &RunAs) -> io::Result<Socket> {
    let connecting = async {
        match upstream {
            Upstream::Tcp { host, port } => {
                let stream = TcpStream::connect((&**host, *port)).await?;
                crate::os::fd::make_room(&stream);
                Ok(Socket::tcp(stream))
            }
            Upstream::Unix(path) => {
                let stream = match &run_as.switch {
                    None => UnixStream::connect(&**path).await?,
                    Some(user) => connected_as(user.clone(), path.to_string()).await?,
                };
                crate::os::fd::make_room(&stream);
                Ok(Socket::unix(stream))
            }
        }
    };
    match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(connected) => connected,
        Err(_) => {
            let seconds = CONNECT_TIMEOUT.as_secs();
            Err(io::Error::other(format!("no answer within {seconds} s")))
        }
    }
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
fn told(error: &io::Error, run_as: &RunAs) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused: nothing listens there".to_owned(),
        io::ErrorKind::NotFound => "there is no such socket".to_owned(),
        io::ErrorKind::PermissionDenied => match run_as.switch {
            None => format!("permission denied for {run_as}, as whom the daemon runs"),
            Some(_) => format!("permission denied for {run_as}"),
        },
        _ => error.to_string(),
    }
}

impl Opened {
    /// Passes bytes between the client and the service until both directions have ended, or one side is gone.
    pub(crate) async fn pass(mut self, mut client: End, gone: &CancellationToken) {
        let counts = self.running.counts.clone();
        let passing = both_ways(
            &mut client,
            &mut self.service,
            &counts.stdin,
            &counts.stdout,
        );
        let (code, why) = tokio::select! {
            passed = passing => match passed {
                Ok(()) => (RESET, "the connection ended".to_owned()),
                Err(broken @ (Broken::Reset | Broken::Ended(_))) => (RESET, broken.to_string()),
                Err(Broken::Lost(why)) => (RESET, format!("the connection to the client was lost: {why}")),
                Err(Broken::Socket(error)) => (RefusalCode::Failed as u32, format!("failed: {error}")),
            },
            reason = self.listed.ended() => (u32::from(reason.code), reason.message),
            () = gone.cancelled() => (RESET, "the client disconnected".to_owned()),
        };
        client.end(code);
        self.running.end(EndReason::Ended(&why));
    }
}
