//! One cluster as this home takes part in it: identity, role, configuration, and what it has heard.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use malai_cluster::{Accept, ClusterAlias, ClusterId, Header, MachineId, SecretSeed};
use malai_wire::peer::hello::{Hello, InstanceId};
use malai_wire::version::Versions;
use parking_lot::Mutex;

use crate::audit::{Audit, Requester};
use crate::cluster::config::ConfigStore;
use crate::cluster::encoded::EncodedSnapshot;
use crate::cluster::pending::PendingJoins;
use crate::home::{ClusterDir, Role};
use crate::node::accept::AcceptPolicies;
use crate::node::limits::Limiter;
use crate::node::reaper::Reaper;
use crate::node::sessions::Sessions;
use crate::os::clock::BoundedInstant;

/// A cluster that this home manages or is a machine of.
#[derive(Debug)]
pub struct ClusterState {
    /// The folder it lives in, which gives it its alias.
    pub dir: ClusterDir,
    /// Which cluster: the manager's key.
    pub cluster: ClusterId,
    /// Manager or machine.
    pub role: Role,
    /// This home's identity in the cluster.
    pub local_id: MachineId,
    /// The secret of that identity.
    pub seed: SecretSeed,
    /// What is in force.
    pub config: ConfigStore,
    /// Whether this process serves requests (a daemon) or only dials (a command by itself). Only a
    /// daemon writes what it learns into the home.
    pub serves: bool,
    /// Which run of the program this is.
    pub instance: InstanceId,
    /// When this run began.
    pub started_at: BoundedInstant,
    /// What other members were last heard to have.
    pub peers_seen: Mutex<HashMap<MachineId, PeerSeen>>,
    /// What this computer's owner accepts, in all clusters of this process.
    pub accept_policies: Arc<AcceptPolicies>,
    /// What runs here now, of all clusters of this process.
    pub sessions: Arc<Sessions>,
    /// Where that is recorded.
    pub audit: Arc<Audit>,
    /// What counts for the limits, of all clusters of this process.
    pub limiter: Arc<Limiter>,
    /// Who ends what runs here if this process cannot.
    pub reaper: Arc<Reaper>,
    /// The configuration as it is being given to others.
    pub(crate) encoded: EncodedSnapshot,
    /// Keys that ask to be members.
    pub pending_joins: Mutex<PendingJoins>,
    /// Whether no new session may begin: the daemon is stopping.
    pub stopping: AtomicBool,
    /// A second process with this identity, if one was met.
    pub duplicate: Mutex<Option<DuplicateIdentity>>,
}

/// When and with what a member was last heard from.
#[derive(Debug, Clone, Copy)]
pub struct PeerSeen {
    /// When.
    pub at: Instant,
    /// The revision it has; 0 for none.
    pub revision: u64,
    /// Which run of it said so.
    pub instance: Option<InstanceId>,
}

/// Another process that proved to have this identity's key.
#[derive(Debug, Clone)]
pub struct DuplicateIdentity {
    /// Its instance.
    pub instance: InstanceId,
    /// Where it was met, for people.
    pub seen_at: String,
}

impl ClusterState {
    /// The alias of the cluster here.
    pub fn alias(&self) -> &ClusterAlias {
        &self.dir.alias
    }

    /// The name of a machine, where the configuration has one for it.
    pub fn name_of(&self, machine: &MachineId) -> Option<String> {
        let names = self.config.names()?;
        names.machine(machine).map(|found| found.name().to_string())
    }

    /// What the audit record says of a machine that asks for something here.
    pub(crate) fn requester(&self, peer: MachineId) -> Requester<'_> {
        Requester {
            alias: self.alias(),
            cluster: self.cluster,
            revision: self.header().map(|header| header.revision),
            peer,
            machine: self.name_of(&peer),
        }
    }

    /// The header of the configuration in force.
    pub fn header(&self) -> Option<Header> {
        self.config
            .snapshot()
            .map(|snapshot| snapshot.header().clone())
    }

    /// What this computer's owner accepts in the cluster; none is whatever its rules allow.
    pub fn accept(&self) -> Option<Arc<Accept>> {
        self.accept_policies.of(self.alias())
    }

    /// The first words of this side on a connection.
    pub fn hello(&self) -> Hello {
        Hello {
            versions: Versions::OURS,
            instance: self.instance,
            age_ms: u64::try_from(self.started_at.min_elapsed().as_millis()).unwrap_or(u64::MAX),
            serves: self.serves,
            header: self.header(),
        }
    }

    /// Whether a key is the manager's, or a member's under the configuration in force.
    pub fn is_member(&self, peer: &MachineId) -> bool {
        *peer == self.cluster.manager()
            || self
                .config
                .cluster()
                .is_some_and(|cluster| cluster.is_member(peer))
    }

    /// Takes note of what a member's run says it has. One run never goes back, but what it said on
    /// two connections may be heard in another order.
    pub fn record_peer_revision(
        &self,
        peer: MachineId,
        instance: Option<InstanceId>,
        header: Option<&Header>,
    ) {
        // What nobody but the peer vouches for is no revision.
        let own = self.header();
        let mut revision = header
            .filter(|header| own.as_ref() == Some(header) || header.verify(&self.cluster).is_ok())
            .map_or(0, |header| header.revision);
        let mut peers_seen = self.peers_seen.lock();
        if let Some(before) = peers_seen.get(&peer)
            && before.instance == instance
        {
            revision = revision.max(before.revision);
        }
        peers_seen.insert(
            peer,
            PeerSeen {
                at: Instant::now(),
                revision,
                instance,
            },
        );
    }

    /// Takes note that a member answers, whatever it has.
    pub fn heard_again(&self, peer: &MachineId) {
        if let Some(peers_seen) = self.peers_seen.lock().get_mut(peer) {
            peers_seen.at = Instant::now();
        }
    }

    /// Forgets what was heard from keys that are not members any more.
    pub fn forget_strangers(&self) {
        self.peers_seen
            .lock()
            .retain(|peer, _| self.is_member(peer));
    }

    /// Lets no new session begin.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Whether no new session may begin.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Takes note of a key that is not in the configuration.
    pub fn record_rejected_peer(&self, peer: MachineId, address: Option<SocketAddr>) {
        self.audit.stranger(self.alias());
        if self.role == Role::Manager {
            let limits = self.limiter.limits();
            self.pending_joins
                .lock()
                .insert(peer, address, Instant::now(), &limits);
        }
    }
}
