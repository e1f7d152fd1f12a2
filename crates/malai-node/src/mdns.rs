//! mDNS: hints from the local network, never attached to the endpoint that serves.

use std::net::SocketAddr;

use iroh::address_lookup::{AddressLookup, EndpointData};
use iroh::{Endpoint, Watcher};
use iroh_mdns_address_lookup::MdnsAddressLookup;
use malai_cluster::MachineId;
use n0_future::StreamExt;
use tokio::sync::mpsc;

use crate::endpoint::endpoint_id;
use crate::settings::Reach;

/// The name under which malai's machines announce themselves: `_malai._udp.local`.
const SERVICE: &str = "malai";

/// One identity's part in mDNS.
#[derive(Debug)]
pub enum Mdns {
    /// Under `loopback` there is none.
    Off,
    /// Announces itself and listens, as long as the daemon runs.
    Announcing(MdnsAddressLookup),
    /// Listens only, from the first question on.
    Asking {
        /// This identity.
        id: MachineId,
        /// Made when it is first needed.
        lookup: tokio::sync::OnceCell<Option<MdnsAddressLookup>>,
    },
}

impl Mdns {
    /// What a command by itself needs: ask, if anything has to be asked.
    pub fn asking(reach: Reach, id: MachineId) -> Self {
        match reach {
            Reach::Loopback => Self::Off,
            Reach::Lan | Reach::Public => Self::Asking {
                id,
                lookup: tokio::sync::OnceCell::new(),
            },
        }
    }

    /// What a daemon needs: announce this identity and listen.
    pub fn announcing(reach: Reach, id: MachineId) -> Self {
        match reach {
            Reach::Loopback => Self::Off,
            Reach::Lan | Reach::Public => build(&id, true).map_or(Self::Off, Self::Announcing),
        }
    }

    /// Announces the endpoint's addresses, again whenever they change, as long as it is open.
    pub async fn announce(&self, endpoint: Endpoint) {
        let Self::Announcing(lookup) = self else {
            return;
        };
        let mut addresses = endpoint.watch_addr().stream();
        loop {
            tokio::select! {
                address = addresses.next() => match address {
                    Some(address) => lookup.publish(&EndpointData::from_iter(address.addrs)),
                    None => return,
                },
                () = endpoint.closed() => return,
            }
        }
    }

    /// Sends what is announced for a machine, until mDNS gives up or nobody listens.
    pub async fn find(&self, machine: &MachineId, hint: mpsc::Sender<SocketAddr>) {
        let lookup = match self {
            Self::Off => return,
            Self::Announcing(lookup) => Some(lookup),
            Self::Asking { id, lookup } => {
                lookup.get_or_init(async || build(id, false)).await.as_ref()
            }
        };
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
}

fn build(id: &MachineId, advertise: bool) -> Option<MdnsAddressLookup> {
    match MdnsAddressLookup::builder()
        .advertise(advertise)
        .service_name(SERVICE)
        .build(endpoint_id(id))
    {
        Ok(lookup) => Some(lookup),
        Err(error) => {
            tracing::warn!("mDNS is not available: {error:#}");
            None
        }
    }
}
