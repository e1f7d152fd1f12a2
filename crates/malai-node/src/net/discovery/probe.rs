//! Probes one address: is the wanted key served there?

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use iroh::endpoint::{ConnectError, ConnectingError, Connection, ConnectionError};
use iroh::{Endpoint, EndpointAddr};
use malai_cluster::MachineId;
use malai_wire::peer::hello::InstanceId;
use malai_wire::peer::probe::{PROBE_DONE, PROBE_DUPLICATE};
use malai_wire::version::PROBE_ALPN;

use crate::net::connect;
use crate::net::discovery::probe_pool::{PROBE_TIMEOUT, ProbeEndpoint, ProbePool};
use crate::net::endpoint::endpoint_id;

/// When a closed port of this computer is checked again: its daemon may just be starting. Each further pause is twice as long.
/// Hundreds of dials have thousands of closed ports, and checking each of them often would take all of this computer's time.
const CLOSED_PORT_PAUSE: Duration = Duration::from_millis(50);

/// The result of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The wanted key is served there; the proof took this long.
    VerifiedAddress(Duration),
    /// Another key is served there.
    Another,
    /// Nothing answers.
    Silent,
    /// Nothing listens on that port of this computer.
    Closed,
}

/// Proves whether `target` is served at `address`.
pub(crate) async fn probe(
    probers: &Arc<ProbePool>,
    target: &MachineId,
    address: SocketAddr,
) -> Answer {
    let deadline = tokio::time::Instant::now() + PROBE_TIMEOUT;
    // A dial to a closed port would run into its timeout, but the system reports it at once.
    let mut pause = CLOSED_PORT_PAUSE;
    while address.ip().is_loopback() && is_closed(address) {
        if tokio::time::Instant::now() + pause > deadline {
            return Answer::Closed;
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
    let Some(prober) = probers.endpoint_for(target, address).await else {
        return Answer::Silent;
    };
    let begun = Instant::now();
    match tokio::time::timeout_at(deadline, dial(prober.endpoint(), target, address)).await {
        Ok(Ok(connection)) => {
            connection.close(PROBE_DONE.into(), b"");
            Answer::VerifiedAddress(begun.elapsed())
        }
        Ok(Err(error)) if is_silence(&error) => Answer::Silent,
        Ok(Err(_)) => Answer::Another,
        Err(_) => Answer::Silent,
    }
}

/// The instance of the process that proves to have `local_id`'s key at `address`, which may be this one. A port of
/// this computer on which nothing listens is not dialed.
pub(crate) async fn instance(local_id: &MachineId, address: SocketAddr) -> Option<InstanceId> {
    if address.ip().is_loopback() && is_closed(address) {
        return None;
    }
    let prober = ProbeEndpoint::of(address).await?;
    let ask = async {
        let connection = dial(prober.endpoint(), local_id, address).await.ok()?;
        let mut instance = InstanceId::default();
        let answer = async {
            let mut stream = connection.accept_uni().await.ok()?;
            stream.read_exact(&mut instance).await.ok()
        };
        let answered = tokio::time::timeout(PROBE_TIMEOUT, answer).await;
        connection.close(PROBE_DUPLICATE.into(), b"");
        answered.ok().flatten().map(|()| instance)
    };
    tokio::time::timeout(2 * PROBE_TIMEOUT, ask)
        .await
        .ok()
        .flatten()
}

async fn dial(
    endpoint: &Endpoint,
    target: &MachineId,
    address: SocketAddr,
) -> Result<Connection, ConnectError> {
    let target = EndpointAddr::new(endpoint_id(target)).with_ip_addr(address);
    connect::connect(endpoint, target, PROBE_ALPN).await
}

/// Whether a dial failed because nothing answered.
fn is_silence(error: &ConnectError) -> bool {
    match error {
        ConnectError::Connecting {
            source: ConnectingError::HandshakeFailure { .. },
            ..
        } => false,
        error => connect::lost(error).is_none_or(|error| {
            matches!(
                error,
                ConnectionError::TimedOut | ConnectionError::LocallyClosed
            )
        }),
    }
}

/// Whether the system reports that nothing listens on a port of this computer. It sends one byte, which
/// QUIC servers ignore; on loopback the refusal arrives before the call returns.
fn is_closed(address: SocketAddr) -> bool {
    let local: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::LOCALHOST, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::LOCALHOST, 0).into(),
    };
    let knock = || {
        let socket = UdpSocket::bind(local)?;
        socket.set_nonblocking(true)?;
        socket.connect(address)?;
        socket.send(&[0])?;
        match socket.take_error()? {
            Some(error) => Err(error),
            None => Ok(()),
        }
    };
    knock().is_err()
}

/// Whether the computer at an address reports within `timeout` that nothing listens on the port (ICMP). Silence means
/// nothing, and neither does an unreachable address.
pub(crate) async fn is_refused(address: SocketAddr, timeout: Duration) -> bool {
    let local: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let ask = async {
        let socket = tokio::net::UdpSocket::bind(local).await?;
        socket.connect(address).await?;
        socket.send(&[0]).await?;
        socket.recv(&mut [0; 16]).await
    };
    let answer = tokio::time::timeout(timeout, ask).await;
    matches!(answer, Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use std::time::Duration;

    use super::{is_closed, is_refused};

    /// How many ports are tried: another test of this process may take one as soon as it is closed.
    const PORTS: usize = 8;

    #[test]
    fn a_closed_port_is_known_at_once_and_an_open_one_is_not_refused() {
        let closed = (0..PORTS).any(|_| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            let address = socket.local_addr().unwrap();
            assert!(!is_closed(address));
            drop(socket);
            is_closed(address)
        });
        assert!(closed);
    }

    #[tokio::test]
    async fn a_closed_port_is_refused_and_an_open_one_is_silent() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        assert!(!is_refused(address, Duration::from_millis(100)).await);
        drop(socket);
        let mut refused = false;
        for _ in 0..PORTS {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            let address = socket.local_addr().unwrap();
            drop(socket);
            refused = refused || is_refused(address, Duration::from_secs(5)).await;
        }
        assert!(refused);
    }
}
