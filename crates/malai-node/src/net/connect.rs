//! Dials an address, again where the other side had no room.

use std::time::{Duration, Instant};

use iroh::endpoint::{ConnectError, ConnectingError, Connection, ConnectionClose, ConnectionError};
use iroh::{Endpoint, EndpointAddr};

/// How long a dial is repeated that the other side turns away.
const REFUSED_TIMEOUT: Duration = Duration::from_secs(2);

/// The pause before it is repeated.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// Codes with which QUIC closes a connection because of TLS: RFC 9001, section 4.8.
const TLS_ERRORS: std::ops::Range<u64> = 0x100..0x200;

/// Dials. A machine with too many handshakes under way closes the oldest ones, so one that was closed is begun again
/// for [`REFUSED_TIMEOUT`].
///
/// # Errors
///
/// As [`Endpoint::connect`]. The caller sets the time limit.
pub(crate) async fn connect(
    endpoint: &Endpoint,
    target: EndpointAddr,
    alpn: &[u8],
) -> Result<Connection, ConnectError> {
    let deadline = Instant::now() + REFUSED_TIMEOUT;
    loop {
        match endpoint.connect(target.clone(), alpn).await {
            Err(error) if is_refused(&error) && Instant::now() < deadline => {
                tokio::time::sleep(RETRY_INTERVAL).await;
            }
            result => return result,
        }
    }
}

/// Why a connection was lost that was being made.
pub(crate) fn lost(error: &ConnectError) -> Option<&ConnectionError> {
    match error {
        ConnectError::Connection { source, .. }
        | ConnectError::Connecting {
            source: ConnectingError::ConnectionError { source, .. },
            ..
        } => Some(source),
        _ => None,
    }
}

/// Whether the other side closed the connection in its handshake. A wrong key fails on this side instead, and a
/// disagreement about TLS fails every time.
fn is_refused(error: &ConnectError) -> bool {
    match lost(error) {
        Some(ConnectionError::ApplicationClosed(_) | ConnectionError::Reset) => true,
        Some(ConnectionError::ConnectionClosed(close)) => !is_tls(close),
        _ => false,
    }
}

fn is_tls(close: &ConnectionClose) -> bool {
    TLS_ERRORS.contains(&u64::from(close.error_code))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use iroh::endpoint::{RelayMode, presets};
    use iroh::{Endpoint, EndpointAddr};

    use super::connect;

    const ALPN: &[u8] = b"malai/test";

    async fn endpoint(alpn: &[u8]) -> Endpoint {
        let builder = Endpoint::builder(presets::Minimal)
            .relay_mode(RelayMode::Disabled)
            .clear_ip_transports()
            .alpns(vec![alpn.to_vec()]);
        let bound = builder.bind_addr((Ipv4Addr::LOCALHOST, 0)).unwrap();
        bound.bind().await.unwrap()
    }

    fn address(server: &Endpoint) -> EndpointAddr {
        let sockets = server.bound_sockets();
        EndpointAddr::new(server.id()).with_ip_addr(sockets[0])
    }

    #[tokio::test]
    async fn a_dial_that_is_refused_is_repeated() {
        let (server, client) = (endpoint(ALPN).await, endpoint(ALPN).await);
        let target = address(&server);
        let serve = async {
            server.accept().await.unwrap().refuse();
            // One that was accepted and is dropped in its handshake.
            drop(server.accept().await.unwrap().accept().unwrap());
            server.accept().await.unwrap().await.unwrap()
        };
        let dial = async { connect(&client, target, ALPN).await };
        tokio::try_join!(dial, async { Ok(serve.await) }).unwrap();
    }

    #[tokio::test]
    async fn a_disagreement_about_the_protocol_fails_at_once() {
        let (server, client) = (endpoint(b"malai/other").await, endpoint(ALPN).await);
        let target = address(&server);
        let mut accepted = 0;
        let serve = async {
            while let Some(incoming) = server.accept().await {
                accepted += 1;
                let _ = incoming.await;
            }
        };
        tokio::select! {
            dialed = connect(&client, target, ALPN) => drop(dialed.unwrap_err()),
            () = serve => {}
        }
        assert_eq!(accepted, 1);
    }
}
