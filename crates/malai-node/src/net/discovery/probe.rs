//! One probe of one address: does the wanted key live there?

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

/// How often a closed port of this computer is looked at again: its daemon may just be starting.
const KNOCK_AGAIN: Duration = Duration::from_millis(50);

/// What an address turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The wanted key lives there; it took this long to prove it.
    VerifiedAddress(Duration),
    /// Something else does.
    Another,
    /// Nobody answers.
    Silent,
    /// Nobody listens at that port of this computer.
    Closed,
}

/// Proves that `target` lives at `address`, or finds out that it does not.
pub(crate) async fn probe(
    probers: &Arc<ProbePool>,
    target: &MachineId,
    address: SocketAddr,
) -> Answer {
    let deadline = tokio::time::Instant::now() + PROBE_TIMEOUT;
    // A dial to a closed port takes all its time, and the system knows better at once.
    while address.ip().is_loopback() && is_closed(address) {
        if tokio::time::Instant::now() + KNOCK_AGAIN > deadline {
            return Answer::Closed;
        }
        tokio::time::sleep(KNOCK_AGAIN).await;
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

/// The instance of whoever proves to have `local_id`'s key at `address`, this process included. A port of
/// this computer at which nobody listens is not dialled.
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

/// Whether the system says that nobody listens at a port of this computer. One byte is sent, which
/// no QUIC server takes for anything; over loopback its refusal is back before the call returns.
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

/// Whether the computer at an address says within `patience` that nothing listens at the port (ICMP). Silence says
/// nothing, and neither does an address that cannot be reached.
pub(crate) async fn is_refused(address: SocketAddr, patience: Duration) -> bool {
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
    let answer = tokio::time::timeout(patience, ask).await;
    matches!(answer, Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use std::time::Duration;

    use super::{is_closed, is_refused};

    #[test]
    fn a_closed_port_is_known_at_once_and_an_open_one_is_not_refused() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        assert!(!is_closed(address));
        drop(socket);
        assert!(is_closed(address));
    }

    #[tokio::test]
    async fn a_closed_port_is_refused_and_an_open_one_is_silent() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let soon = Duration::from_millis(100);
        assert!(!is_refused(address, soon).await);
        drop(socket);
        let patience = Duration::from_secs(60);
        assert!(is_refused(address, patience).await);
    }
}
