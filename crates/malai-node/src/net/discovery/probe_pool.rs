//! The endpoints that send probes, shared by all searches of a process.
//!
//! In iroh, what an endpoint has learned about a machine's addresses stays with it, including bad ones. So one of these
//! endpoints only ever probes a machine at a single address; many machines can share it. An endpoint takes a few
//! megabytes, and a manager may search for a thousand machines at once.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use iroh::Endpoint;
use iroh::endpoint::{PortmapperConfig, QuicTransportConfig, RelayMode, presets};
use malai_cluster::MachineId;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How long one address may take to answer. A server that stalls the handshake delays nothing but its own probe.
pub(crate) const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// How many endpoints are kept. A machine with more announced addresses makes only its own probes more expensive: each
/// gets an endpoint of its own.
const MAX_KEPT: usize = 32;

/// How many machines one endpoint is used for. iroh stores a little about each for a while.
const MAX_MACHINES: usize = 1024;

/// How long an unused endpoint is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// The endpoints, and what each was used for.
#[derive(Debug, Default)]
pub(crate) struct ProbePool {
    kept: Mutex<Vec<Registration>>,
}

#[derive(Debug)]
struct Registration {
    local: SocketAddr,
    /// Its clones are the running probes.
    endpoint: Arc<ProbeEndpoint>,
    /// The address at which each machine was probed from here.
    looked_at: HashMap<MachineId, SocketAddr>,
    used: Instant,
}

impl ProbePool {
    /// An endpoint that has probed `target` at no address other than `address`. `None` if no socket could be bound.
    pub(crate) async fn endpoint_for(
        self: &Arc<Self>,
        target: &MachineId,
        address: SocketAddr,
    ) -> Option<Arc<ProbeEndpoint>> {
        let local = local(address);
        // Held while an endpoint is bound, so that of many probes starting at once only the first binds one.
        let mut kept = self.kept.lock().await;
        let fits = |one: &&mut Registration| {
            one.local == local
                && match one.looked_at.get(target) {
                    Some(before) => *before == address,
                    None => one.looked_at.len() < MAX_MACHINES,
                }
        };
        if let Some(one) = kept.iter_mut().find(fits) {
            one.looked_at.insert(*target, address);
            one.used = Instant::now();
            return Some(one.endpoint.clone());
        }
        let endpoint = Arc::new(ProbeEndpoint::bind(local).await?);
        if kept.len() < MAX_KEPT {
            if kept.is_empty() {
                // Ends when no endpoint is left.
                tokio::spawn(self.clone().tidy());
            }
            kept.push(Registration {
                local,
                endpoint: endpoint.clone(),
                looked_at: HashMap::from([(*target, address)]),
                used: Instant::now(),
            });
        }
        Some(endpoint)
    }

    /// Drops endpoints that were unused for a while, until none is left.
    async fn tidy(self: Arc<Self>) {
        loop {
            tokio::time::sleep(IDLE_TIMEOUT).await;
            let mut kept = self.kept.lock().await;
            kept.retain(|one| {
                Arc::strong_count(&one.endpoint) > 1 || one.used.elapsed() < IDLE_TIMEOUT
            });
            if kept.is_empty() {
                return;
            }
        }
    }
}

/// The local address from which to probe this address.
fn local(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(a) if a.ip().is_loopback() => (Ipv4Addr::LOCALHOST, 0).into(),
        SocketAddr::V6(a) if a.ip().is_loopback() => (Ipv6Addr::LOCALHOST, 0).into(),
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

/// An endpoint for probes, under its own key, without relays and publishing.
#[derive(Debug)]
pub(crate) struct ProbeEndpoint(Option<Endpoint>);

impl ProbeEndpoint {
    /// An endpoint for a single probe.
    pub(crate) async fn of(address: SocketAddr) -> Option<Self> {
        Self::bind(local(address)).await
    }

    async fn bind(local: SocketAddr) -> Option<Self> {
        let endpoint = Endpoint::builder(presets::Minimal)
            .relay_mode(RelayMode::Disabled)
            .portmapper_config(PortmapperConfig::Disabled)
            .transport_config(
                QuicTransportConfig::builder()
                    .max_idle_timeout(PROBE_TIMEOUT.try_into().ok())
                    .build(),
            )
            .clear_ip_transports()
            .bind_addr(local)
            .ok()?
            .bind()
            .await
            .ok()?;
        Some(Self(Some(endpoint)))
    }

    /// The endpoint.
    pub(crate) fn endpoint(&self) -> &Endpoint {
        match &self.0 {
            Some(endpoint) => endpoint,
            None => unreachable!("only dropping takes the endpoint"),
        }
    }
}

/// The endpoint closes in the background, even if a probe is dropped half-way.
impl Drop for ProbeEndpoint {
    fn drop(&mut self) {
        if let (Some(endpoint), Ok(runtime)) =
            (self.0.take(), tokio::runtime::Handle::try_current())
        {
            // Nothing waits for it: it only tells peers that proved their address that the connection is closed.
            runtime.spawn(async move { endpoint.close().await });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use malai_cluster::SecretSeed;

    use super::ProbePool;

    #[tokio::test]
    async fn machines_share_endpoints_and_addresses_of_one_machine_do_not() {
        let machine = |n| SecretSeed::from_bytes([n; 32]).id();
        let probers = Arc::new(ProbePool::default());
        let at = |address: &str| address.parse().unwrap();
        let ask = |n, address| {
            let probers = probers.clone();
            async move {
                probers
                    .endpoint_for(&machine(n), at(address))
                    .await
                    .unwrap()
            }
        };
        let first = ask(1, "127.0.0.1:1").await;
        assert!(Arc::ptr_eq(&first, &ask(2, "127.0.0.1:2").await));
        assert!(Arc::ptr_eq(&first, &ask(1, "127.0.0.1:1").await));
        let other = ask(1, "127.0.0.1:3").await;
        assert!(!Arc::ptr_eq(&first, &other));
        // What was once looked for somewhere from an endpoint is not looked for elsewhere from it.
        assert!(Arc::ptr_eq(&first, &ask(1, "127.0.0.1:1").await));
        assert!(Arc::ptr_eq(&other, &ask(1, "127.0.0.1:3").await));
        // The other family is bound elsewhere.
        assert!(!Arc::ptr_eq(&first, &ask(3, "[::1]:1").await));
    }
}
