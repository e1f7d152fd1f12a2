//! Detects one key in two homes, for instance after a backup was restored beside the original. Both sides notice it, by the
//! instance that each daemon reports to probes.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::cluster::state::DuplicateIdentity;
use crate::net::discovery::{self, probe};
use crate::service::Service;

/// How often a daemon checks for another one with its key, before jitter.
const CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// The minimum interval between two checks.
const MIN_CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// How long to listen to the local network. No query is sent, because daemons announce themselves more often than this.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(12);

/// After this many checks without finding it, a duplicate counts as gone.
const GONE_AFTER: u32 = 3;

/// Checks for a duplicate until the service stops: at the start, about every minute, and when a process with this key has probed
/// this daemon.
pub(crate) async fn watch(service: Arc<Service>) {
    let mut missed = 0;
    // At the start, one query is sent.
    let mut asks = true;
    loop {
        let begun = Instant::now();
        let seen_at = look(&service, asks).await;
        let mut duplicate = service.cluster_state.duplicate();
        match seen_at {
            Some(seen_at) => {
                missed = 0;
                if duplicate.as_ref().map(|duplicate| duplicate.instance) != Some(seen_at.instance)
                {
                    tracing::error!(cluster = %service.cluster_state.alias(), "another daemon has this identity's key, seen at {}", seen_at.seen_at);
                }
                duplicate = Some(seen_at);
            }
            None => {
                missed += 1;
                if missed >= GONE_AFTER {
                    duplicate = None;
                }
            }
        }
        service.cluster_state.set_duplicate(duplicate);
        tokio::time::sleep_until(begun + MIN_CHECK_INTERVAL).await;
        asks = tokio::select! {
            () = tokio::time::sleep(CHECK_INTERVAL.mul_f64(rand::random_range(0.9..1.1))) => false,
            () = service.probed_by_duplicate.notified() => true,
        };
    }
}

/// Probes every address where this key could be served a second time.
async fn look(service: &Arc<Service>, asks: bool) -> Option<DuplicateIdentity> {
    let peers = &service.peers;
    let local_id = service.cluster_state.local_id;
    let own_ports: HashSet<u16> = peers
        .endpoint()
        .bound_sockets()
        .iter()
        .map(SocketAddr::port)
        .collect();
    let own: HashSet<SocketAddr> = peers.endpoint().addr().ip_addrs().copied().collect();
    let (hint, mut hints) = mpsc::channel(16);
    let search = async move {
        for address in discovery::loopback_hints(&local_id) {
            if !own_ports.contains(&address.port()) && hint.send(address).await.is_err() {
                return;
            }
        }
        if asks {
            peers.dialer().mdns.find(&local_id, hint).await;
        } else {
            let _ = tokio::time::timeout(
                LISTEN_TIMEOUT,
                peers.dialer().mdns.overhear(&local_id, hint),
            )
            .await;
        }
    };
    let probing = async {
        let bounds = crate::net::discovery::scope::AddressFilter::of(peers.dialer().reach()).await;
        let mut seen = own;
        while let Some(address) = hints.recv().await {
            if !bounds.allow(&address) || !seen.insert(address) {
                continue;
            }
            match probe::instance(&local_id, address).await {
                Some(instance) if instance != service.cluster_state.node.instance => {
                    return Some(DuplicateIdentity {
                        instance,
                        seen_at: address.to_string(),
                    });
                }
                _ => {}
            }
        }
        None
    };
    tokio::pin!(search, probing);
    tokio::select! {
        seen_at = &mut probing => seen_at,
        () = &mut search => probing.await,
    }
}
