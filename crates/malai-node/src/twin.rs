//! One key in two homes at once, as after a backup that was restored beside the original: noticed on
//! both sides, by the instance that each daemon tells whoever probes it.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use malai_wire::status::TWIN;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::member::{Twin, lock};
use crate::probe;
use crate::reach;
use crate::service::Service;

/// How often a daemon looks whether there is another with its key, before jitter.
const EVERY: Duration = Duration::from_secs(60);

/// The least time between two looks, whoever asks for one.
const NOT_BEFORE: Duration = Duration::from_secs(5);

/// How long the local network is listened to. Nothing is asked: daemons announce themselves more
/// often than this.
const LISTEN: Duration = Duration::from_secs(12);

/// A twin that was not met again in as many looks has gone.
const GONE_AFTER: u32 = 3;

/// Looks for a twin until the service stops: at the start, every minute or so, and when somebody
/// with this key has probed this daemon.
pub async fn watch(service: Arc<Service>) {
    let mut missed = 0;
    // At the start the network is asked, once.
    let mut asks = true;
    loop {
        let begun = Instant::now();
        let met = look(&service, asks).await;
        let mut twin = lock(&service.membership.twin).clone();
        match met {
            Some(met) => {
                missed = 0;
                if twin.as_ref().map(|twin| twin.instance) != Some(met.instance) {
                    tracing::error!(cluster = %service.membership.alias(), "{TWIN}, met at {}", met.met);
                }
                twin = Some(met);
            }
            None => {
                missed += 1;
                if missed >= GONE_AFTER {
                    twin = None;
                }
            }
        }
        *lock(&service.membership.twin) = twin;
        tokio::time::sleep_until(begun + NOT_BEFORE).await;
        asks = tokio::select! {
            () = tokio::time::sleep(EVERY.mul_f64(rand::random_range(0.9..1.1))) => false,
            () = service.probed_by_twin.notified() => true,
        };
    }
}

/// Probes every place where this key could be served a second time.
async fn look(service: &Arc<Service>, asks: bool) -> Option<Twin> {
    let peers = &service.peers;
    let me = service.membership.me;
    let own_ports: HashSet<u16> = peers
        .endpoint()
        .bound_sockets()
        .iter()
        .map(SocketAddr::port)
        .collect();
    let own: HashSet<SocketAddr> = peers.endpoint().addr().ip_addrs().copied().collect();
    let (hint, mut hints) = mpsc::channel(16);
    let search = async move {
        for address in reach::loopback_hints(&me) {
            if !own_ports.contains(&address.port()) && hint.send(address).await.is_err() {
                return;
            }
        }
        if asks {
            peers.mdns.find(&me, hint).await;
        } else {
            let _ = tokio::time::timeout(LISTEN, peers.mdns.overhear(&me, hint)).await;
        }
    };
    let probing = async {
        let bounds = crate::nearby::Bounds::of(peers.reach).await;
        let mut seen = own;
        while let Some(address) = hints.recv().await {
            if !bounds.allow(&address) || !seen.insert(address) {
                continue;
            }
            match probe::instance(&me, address).await {
                Some(instance) if instance != service.membership.instance => {
                    return Some(Twin {
                        instance,
                        met: address.to_string(),
                    });
                }
                _ => {}
            }
        }
        None
    };
    tokio::pin!(search, probing);
    tokio::select! {
        met = &mut probing => met,
        () = &mut search => probing.await,
    }
}
