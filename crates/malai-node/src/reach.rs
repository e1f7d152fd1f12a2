//! From a public key to a proven address.
//!
//! Addresses that nobody vouches for (derived, remembered, announced by mDNS) are hints and nothing
//! else. In iroh the first server that answers decides a dial, and a bad address stays with the
//! endpoint; so each hint is tried by an endpoint of its own, under a key of its own, without relay
//! and publishing. It only proves that the wanted key lives at the address, and closes.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use iroh::endpoint::{PortmapperConfig, QuicTransportConfig, RelayMode, presets};
use iroh::{Endpoint, EndpointAddr};
use malai_cluster::MachineId;
use malai_wire::version::PROBE_ALPN;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::endpoint::{derived_ports, endpoint_id};
use crate::settings::Reach;

/// How long one hint may take to answer. A server that stalls in the handshake costs this, in the
/// background, and nothing else.
const PROBE: Duration = Duration::from_secs(3);

/// The pause between the starts of two probes, so that the likeliest hint usually answers alone.
const STAGGER: Duration = Duration::from_millis(4);

/// Probes under way at once for one machine; more hints than that wait for their turn.
const AT_ONCE: usize = 16;

/// Where this computer itself may serve the machine: all derived ports, both families.
pub fn loopback_hints(id: &MachineId) -> Vec<SocketAddr> {
    derived_ports(id)
        .into_iter()
        .flat_map(|port| {
            [
                SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
                SocketAddr::from((Ipv6Addr::LOCALHOST, port)),
            ]
        })
        .collect()
}

/// Whether an address may be tried under this reach.
pub fn allowed(reach: Reach, address: &SocketAddr) -> bool {
    let ip = address.ip();
    match reach {
        Reach::Loopback => ip == Ipv4Addr::LOCALHOST || ip == Ipv6Addr::LOCALHOST,
        Reach::Lan => match ip {
            std::net::IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
            std::net::IpAddr::V6(ip) => {
                ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local()
            }
        },
        Reach::Public => !ip.is_unspecified() && !ip.is_multicast(),
    }
}

/// What a search for an address has tried, for the error that says so.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tried {
    /// Hints that were probed.
    pub hints: usize,
    /// Hints at which another key answered.
    pub liars: usize,
}

/// Probes hints as they arrive until one is proven to be `target`'s, then returns it.
///
/// The channel of `hints` may stay open (mDNS finds more later); a hint is tried once. Returns `None`
/// when the channel is closed and all of them have failed; the caller puts a time limit on the whole.
pub async fn prove(
    target: &MachineId,
    reach: Reach,
    mut hints: mpsc::Receiver<SocketAddr>,
    tried: &mut Tried,
) -> Option<SocketAddr> {
    let mut seen = std::collections::HashSet::new();
    let mut probes = JoinSet::new();
    let mut open = true;
    loop {
        tokio::select! {
            biased;
            Some(done) = probes.join_next() => match done {
                Ok((address, Answer::Proven)) => return Some(address),
                Ok((address, Answer::Another)) => {
                    tried.liars += 1;
                    tracing::debug!(%address, machine = %target.short(), "another key answers there");
                }
                Ok((_, Answer::Silent)) | Err(_) => {}
            },
            hint = hints.recv(), if open && probes.len() < AT_ONCE => match hint {
                Some(address) if allowed(reach, &address) && seen.insert(address) => {
                    tried.hints += 1;
                    let (target, delay) = (*target, STAGGER * probes.len() as u32);
                    probes.spawn(async move {
                        tokio::time::sleep(delay).await;
                        (address, probe(&target, address).await)
                    });
                }
                Some(_) => {}
                None => open = false,
            },
            else => return None,
        }
    }
}

/// What a hint turned out to be.
#[derive(Debug)]
enum Answer {
    Proven,
    Another,
    Silent,
}

async fn probe(target: &MachineId, address: SocketAddr) -> Answer {
    let local: SocketAddr = match address {
        SocketAddr::V4(a) if a.ip().is_loopback() => (Ipv4Addr::LOCALHOST, 0).into(),
        SocketAddr::V6(a) if a.ip().is_loopback() => (Ipv6Addr::LOCALHOST, 0).into(),
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let builder = Endpoint::builder(presets::Minimal)
        .relay_mode(RelayMode::Disabled)
        .portmapper_config(PortmapperConfig::Disabled)
        .transport_config(
            QuicTransportConfig::builder()
                .max_idle_timeout(PROBE.try_into().ok())
                .build(),
        )
        .clear_ip_transports()
        .bind_addr(local);
    let Ok(builder) = builder else {
        return Answer::Silent;
    };
    let Ok(endpoint) = builder.bind().await else {
        return Answer::Silent;
    };
    let closing = CloseLater(Some(endpoint.clone()));
    let dial = endpoint.connect(
        EndpointAddr::new(endpoint_id(target)).with_ip_addr(address),
        PROBE_ALPN,
    );
    let answer = match tokio::time::timeout(PROBE, dial).await {
        Ok(Ok(connection)) => {
            connection.close(0u32.into(), b"");
            Answer::Proven
        }
        Ok(Err(_)) => Answer::Another,
        Err(_) => Answer::Silent,
    };
    drop(closing);
    answer
}

/// Closes a probe's endpoint in the background, also when the probe is dropped half-way.
struct CloseLater(Option<Endpoint>);

impl Drop for CloseLater {
    fn drop(&mut self) {
        if let (Some(endpoint), Ok(runtime)) =
            (self.0.take(), tokio::runtime::Handle::try_current())
        {
            // Nobody waits for it: all it does is to say goodbye to a socket that proved its point.
            runtime.spawn(async move { endpoint.close().await });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::allowed;
    use crate::settings::Reach;

    #[test]
    fn a_reach_keeps_its_bounds() {
        for (reach, address, expected) in [
            (Reach::Loopback, "127.0.0.1:1", true),
            (Reach::Loopback, "[::1]:1", true),
            (Reach::Loopback, "127.0.0.2:1", false),
            (Reach::Loopback, "192.168.1.1:1", false),
            (Reach::Lan, "127.0.0.1:1", true),
            (Reach::Lan, "10.1.2.3:1", true),
            (Reach::Lan, "[fe80::1]:1", true),
            (Reach::Lan, "8.8.8.8:1", false),
            (Reach::Lan, "[2001:db8::1]:1", false),
            (Reach::Public, "8.8.8.8:1", true),
            (Reach::Public, "0.0.0.0:1", false),
        ] {
            assert_eq!(
                allowed(reach, &address.parse().unwrap()),
                expected,
                "{reach:?} {address}"
            );
        }
    }
}
