//! mDNS: hints from the local network. It is never attached to the serving endpoint.
//!
//! Announcing and querying are separate. A daemon announces permanently and queries rarely: announcers see each
//! other's queries, and the slower they query, the more of them answer each query. A search for a machine
//! queries quickly while it lasts.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use iroh::address_lookup::{AddressLookup, EndpointData};
use iroh::{Endpoint, SecretKey, Watcher};
use iroh_mdns_address_lookup::MdnsAddressLookup;
use malai_cluster::MachineId;
use n0_future::StreamExt;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::net::endpoint::endpoint_id;
use crate::settings::Reach;

/// The service name of malai's announcements: `_malai._udp.local`.
const SERVICE: &str = "malai";

/// The query interval of a daemon that only announces itself.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(5);

/// The query interval of a search for a machine.
const QUERY_INTERVAL: Duration = Duration::from_millis(120);

/// How long a search for one machine queries.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(5);

/// The query interval of a listener: longer than it ever listens.
const LISTEN_INTERVAL: Duration = Duration::from_secs(120);

/// One identity's use of mDNS.
#[derive(Debug)]
pub(crate) struct Mdns {
    reach: Reach,
    id: MachineId,
    announcing: Mutex<Option<MdnsAddressLookup>>,
    /// Shared by all current searches.
    asking: Mutex<Weak<MdnsAddressLookup>>,
}

impl Mdns {
    /// mDNS for an identity. It sends nothing before the first search or announcement; with reach `loopback` it never
    /// does.
    pub(crate) fn new(reach: Reach, id: MachineId) -> Self {
        Self {
            reach,
            id,
            announcing: Mutex::default(),
            asking: Mutex::default(),
        }
    }

    /// Announces the endpoint's addresses while it is open. It restarts when they change, because its sockets joined only
    /// the multicast groups of the networks that existed when they were created.
    pub(crate) async fn announce(&self, endpoint: Endpoint) {
        if self.reach == Reach::Loopback {
            return;
        }
        let mut addresses = endpoint.watch_addr().stream();
        loop {
            let address = tokio::select! {
                address = addresses.next() => address,
                () = endpoint.closed() => None,
            };
            let Some(address) = address else { break };
            let lookup = build(endpoint_id(&self.id), true, ANNOUNCE_INTERVAL);
            if let Some(lookup) = &lookup {
                lookup.publish(&EndpointData::from_iter(address.addrs));
            }
            *self.announcing.lock() = lookup;
        }
        *self.announcing.lock() = None;
    }

    /// Queries for a machine for some seconds, and sends the addresses announced for it.
    pub(crate) async fn find(&self, machine: &MachineId, hint: mpsc::Sender<SocketAddr>) {
        if self.reach == Reach::Loopback {
            return;
        }
        let (known, asking) = (self.announcing.lock().clone(), self.asking());
        let heard = async {
            tokio::join!(
                pass(known.as_ref(), machine, &hint),
                pass(asking.as_deref(), machine, &hint)
            )
        };
        let _ = tokio::time::timeout(SEARCH_TIMEOUT, heard).await;
    }

    /// Only listens, and sends the addresses announced for a machine, which may be this identity itself.
    pub(crate) async fn overhear(&self, machine: &MachineId, hint: mpsc::Sender<SocketAddr>) {
        if self.reach != Reach::Loopback {
            let lookup = build(SecretKey::generate().public(), false, LISTEN_INTERVAL);
            pass(lookup.as_ref(), machine, &hint).await;
        }
    }

    fn asking(&self) -> Option<Arc<MdnsAddressLookup>> {
        let mut asking = self.asking.lock();
        if let Some(lookup) = asking.upgrade() {
            return Some(lookup);
        }
        // A query uses its own random name, because announcements of that same name are not reported.
        let lookup = Arc::new(build(
            SecretKey::generate().public(),
            false,
            QUERY_INTERVAL,
        )?);
        *asking = Arc::downgrade(&lookup);
        Some(lookup)
    }
}

async fn pass(
    lookup: Option<&MdnsAddressLookup>,
    machine: &MachineId,
    hint: &mpsc::Sender<SocketAddr>,
) {
    let Some(mut found) = lookup.and_then(|lookup| lookup.resolve(endpoint_id(machine))) else {
        return;
    };
    while let Some(item) = found.next().await {
        let Ok(item) = item else { continue };
        for address in item.endpoint_info().ip_addrs() {
            if hint.send(*address).await.is_err() {
                return;
            }
        }
    }
}

fn build(name: iroh::EndpointId, announces: bool, cadence: Duration) -> Option<MdnsAddressLookup> {
    match MdnsAddressLookup::builder()
        .advertise(announces)
        .service_name(SERVICE)
        .discovery_cadence(cadence)
        .build(name)
    {
        Ok(lookup) => Some(lookup),
        Err(error) => {
            tracing::warn!("mDNS is not available: {error:#}");
            None
        }
    }
}
