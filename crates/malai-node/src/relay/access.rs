//! Who may use the relay: members, each with a few connections.

use std::collections::{HashMap, HashSet};

use iroh::EndpointId;
use iroh_relay::server::{Access, AccessControl, ClientRequest, ConnectionId};
use malai_cluster::MachineId;
use parking_lot::Mutex;

use crate::net::endpoint::machine_id;

/// How many connections one key may have: its daemon, and commands that connect by themselves.
const MAX_CONNECTIONS: usize = 32;

/// The members, and who is connected.
#[derive(Debug, Default)]
pub(super) struct Admission(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    members: HashSet<MachineId>,
    connected: HashMap<EndpointId, usize>,
}

impl Inner {
    fn is_member(&self, id: &EndpointId) -> bool {
        machine_id(id).is_some_and(|id| self.members.contains(&id))
    }
}

impl Admission {
    /// From now on, admits these keys only.
    pub(super) fn admit_only(&self, members: HashSet<MachineId>) {
        self.0.lock().members = members;
    }

    /// The connected keys that are no longer admitted.
    pub(super) fn connected_strangers(&self) -> Vec<EndpointId> {
        let inner = self.0.lock();
        let connected = inner.connected.keys();
        connected
            .filter(|id| !inner.is_member(id))
            .copied()
            .collect()
    }
}

impl AccessControl for Admission {
    /// The relay's handshake has proved the key.
    fn on_connect(&self, request: &ClientRequest) -> impl Future<Output = Access> + Send {
        let id = request.endpoint_id();
        let mut inner = self.0.lock();
        let refusal = if !inner.is_member(&id) {
            Some("this key is no member of a cluster that the relay serves")
        } else if inner
            .connected
            .get(&id)
            .is_some_and(|count| *count >= MAX_CONNECTIONS)
        {
            Some("this key has too many connections to the relay")
        } else {
            *inner.connected.entry(id).or_default() += 1;
            None
        };
        let access = match refusal {
            None => Access::Allow,
            Some(reason) => {
                let peer = machine_id(&id);
                tracing::debug!(
                    peer = peer.map(|peer| peer.to_string()),
                    "refused: {reason}"
                );
                let reason = Some(reason.to_owned());
                Access::Deny { reason }
            }
        };
        std::future::ready(access)
    }

    fn on_disconnect(&self, id: EndpointId, _: ConnectionId) {
        let mut inner = self.0.lock();
        if let Some(count) = inner.connected.get_mut(&id) {
            *count -= 1;
            if *count == 0 {
                inner.connected.remove(&id);
            }
        }
    }
}
