//! The endpoints from which probes go out, shared by all searches of a process.
//!
//! In iroh what an endpoint has learnt of a machine's addresses stays with it, bad ones included. So on
//! one of these endpoints a machine is only ever looked for at one address; many machines can share
//! it. An endpoint costs some megabytes, and a manager may be looking for a thousand machines at once.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use iroh::Endpoint;
use iroh::endpoint::{PortmapperConfig, QuicTransportConfig, RelayMode, presets};
use malai_cluster::MachineId;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How long one address may take to answer. A server that stalls in the handshake costs this, in the
/// background, and nothing else.
pub(crate) const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// Endpoints kept. Whoever announces more addresses for a machine makes the rest of its probes dearer,
/// each with an endpoint of its own, and no other's.
const KEPT: usize = 32;

/// Machines that one endpoint is used for. iroh keeps a little of each for a while.
const MACHINES: usize = 1024;

/// How long an unused endpoint is kept.
const IDLE: Duration = Duration::from_secs(10);

/// The endpoints, by what they were used for.
#[derive(Debug, Default)]
pub(crate) struct ProbePool {
    kept: Mutex<Vec<Registration>>,
}

#[derive(Debug)]
struct Registration {
    local: SocketAddr,
    /// Its clones are the probes under way.
    endpoint: Arc<ProbeEndpoint>,
    /// Where each machine was looked for from here.
    looked_at: HashMap<MachineId, SocketAddr>,
    used: Instant,
}

impl ProbePool {
    /// An endpoint from which `target` was never looked for anywhere but at `address`. None if the
    /// system has no socket for it.
    pub(crate) async fn endpoint_for(
        self: &Arc<Self>,
        target: &MachineId,
        address: SocketAddr,
    ) -> Option<Arc<ProbeEndpoint>> {
        let local = local(address);
        // Held while one is bound, so that of many probes that begin at once the first makes it.
        let mut kept = self.kept.lock().await;
        let fits = |one: &&mut Registration| {
            one.local == local
                && match one.looked_at.get(target) {
                    Some(before) => *before == address,
                    None => one.looked_at.len() < MACHINES,
                }
        };
        if let Some(one) = kept.iter_mut().find(fits) {
            one.looked_at.insert(*target, address);
            one.used = Instant::now();
            return Some(one.endpoint.clone());
        }
        let endpoint = Arc::new(ProbeEndpoint::bind(local).await?);
        if kept.len() < KEPT {
            if kept.is_empty() {
                // Ends when none is left.
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

    /// Lets go of endpoints that nobody has used for a while, until there is none.
    async fn tidy(self: Arc<Self>) {
        loop {
            tokio::time::sleep(IDLE).await;
            let mut kept = self.kept.lock().await;
            kept.retain(|one| Arc::strong_count(&one.endpoint) > 1 || one.used.elapsed() < IDLE);
            if kept.is_empty() {
                return;
            }
        }
    }
}

/// Where an endpoint for probes of this address is bound.
fn local(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(a) if a.ip().is_loopback() => (Ipv4Addr::LOCALHOST, 0).into(),
        SocketAddr::V6(a) if a.ip().is_loopback() => (Ipv6Addr::LOCALHOST, 0).into(),
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

/// An endpoint for probes, under a key of its own, without relay and publishing.
#[derive(Debug)]
pub(crate) struct ProbeEndpoint(Option<Endpoint>);

impl ProbeEndpoint {
    /// An endpoint for one probe alone.
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

/// The endpoint closes in the background, also when a probe is dropped half-way.
impl Drop for ProbeEndpoint {
    fn drop(&mut self) {
        if let (Some(endpoint), Ok(runtime)) =
            (self.0.take(), tokio::runtime::Handle::try_current())
        {
            // Nobody waits for it: all it does is to say goodbye to sockets that proved their point.
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
