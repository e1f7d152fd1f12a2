//! mDNS: hints from the local network, never attached to the endpoint that serves.
//!
//! Announcing and asking are apart. A daemon announces all the time and asks rarely: those that
//! announce share their questions, and the slower they ask, the more of them answer each one. Who
//! looks for a machine asks quickly, for as long as it looks.

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

/// The name under which malai's machines announce themselves: `_malai._udp.local`.
const SERVICE: &str = "malai";

/// The pause between two questions of a daemon that only announces itself.
const ANNOUNCING: Duration = Duration::from_secs(5);

/// The pause between two questions of somebody who looks for a machine now.
const ASKING: Duration = Duration::from_millis(120);

/// How long somebody asks for one machine.
const SEARCH: Duration = Duration::from_secs(5);

/// The pause between two questions of somebody who only listens: longer than it ever listens.
const LISTENING: Duration = Duration::from_secs(120);

/// One identity's part in mDNS.
#[derive(Debug)]
pub(crate) struct Mdns {
    reach: Reach,
    id: MachineId,
    announcing: Mutex<Option<MdnsAddressLookup>>,
    /// Shared by all searches under way.
    asking: Mutex<Weak<MdnsAddressLookup>>,
}

impl Mdns {
    /// The part of an identity. Nothing is sent before something is looked for or announced; under
    /// `loopback` nothing ever is.
    pub(crate) fn new(reach: Reach, id: MachineId) -> Self {
        Self {
            reach,
            id,
            announcing: Mutex::default(),
            asking: Mutex::default(),
        }
    }

    /// Announces the endpoint's addresses as long as it is open. Whenever they change it starts again:
    /// sockets joined the groups of the networks that were there when they were made.
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
            let lookup = build(endpoint_id(&self.id), true, ANNOUNCING);
            if let Some(lookup) = &lookup {
                lookup.publish(&EndpointData::from_iter(address.addrs));
            }
            *self.announcing.lock() = lookup;
        }
        *self.announcing.lock() = None;
    }

    /// Asks for a machine for some seconds, and sends what is announced for it.
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
        let _ = tokio::time::timeout(SEARCH, heard).await;
    }

    /// Only listens, and sends what is announced for a machine, this identity included.
    pub(crate) async fn overhear(&self, machine: &MachineId, hint: mpsc::Sender<SocketAddr>) {
        if self.reach != Reach::Loopback {
            let lookup = build(SecretKey::generate().public(), false, LISTENING);
            pass(lookup.as_ref(), machine, &hint).await;
        }
    }

    fn asking(&self) -> Option<Arc<MdnsAddressLookup>> {
        let mut asking = self.asking.lock();
        if let Some(lookup) = asking.upgrade() {
            return Some(lookup);
        }
        // Whoever asks has a name of its own, since nobody hears of its own name.
        let lookup = Arc::new(build(SecretKey::generate().public(), false, ASKING)?);
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
