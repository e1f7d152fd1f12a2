//! The state of one cluster in this home: identity, role, configuration, and what was learned from peers.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bytes::Bytes;
use malai_cluster::{
    Accept, Cluster, ClusterAlias, ClusterId, Header, MachineId, Network, RelayAddress, SecretSeed,
    Snapshot,
};
use malai_wire::peer::hello::{Hello, InstanceId};
use malai_wire::status::{FormerMachine, MembershipState};
use malai_wire::version::Versions;
use malai_wire::{Refusal, RefusalCode};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::audit::Requester;
use crate::cluster::config::ConfigStore;
use crate::cluster::encoded::EncodedSnapshot;
use crate::cluster::invited::{InvitedMachines, OwnInvitation};
use crate::cluster::pending::{PendingJoin, PendingJoins};
use crate::cluster::standing::{Failure, Objection, Observed};
use crate::home::manager_file::ManagerFile;
use crate::home::{ClusterDir, Role};
use crate::net::relays::Plan;
use crate::node::Node;

/// A cluster that this computer manages, or that it is a machine of.
#[derive(Debug)]
pub struct ClusterState {
    /// Its folder, whose name is the alias.
    pub dir: ClusterDir,
    /// The cluster's id: the manager's key.
    pub cluster: ClusterId,
    /// Manager or machine.
    pub role: Role,
    /// This home's identity in the cluster.
    pub local_id: MachineId,
    /// The secret of that identity.
    pub seed: SecretSeed,
    /// Relays at which the manager may be found, as given to `machine init`.
    hinted_relays: Vec<RelayAddress>,
    /// The process.
    pub node: Arc<Node>,
    /// The configuration in force.
    pub(crate) config: ConfigStore,
    /// What other members were last known to have.
    peers_seen: Mutex<HashMap<MachineId, PeerSeen>>,
    /// The encoded configuration, for members that fetch it.
    encoded: EncodedSnapshot,
    /// Keys that ask to join.
    pending_joins: Mutex<PendingJoins>,
    /// Machines that a revision published by this process has removed, oldest first.
    former: Mutex<VecDeque<(MachineId, FormerMachine)>>,
    /// Another process with this identity, if one was found.
    duplicate: Mutex<Option<DuplicateIdentity>>,
    /// How others have answered, and which did not.
    observed: Observed,
    /// On a machine: the invitation that it joins with.
    pub(crate) own_invitation: OwnInvitation,
    /// Notified when the manager is to be asked at once.
    pub(crate) ask_now: Notify,
    /// On a manager: the machines that have come with an invitation.
    pub(crate) invited: InvitedMachines,
    /// Held from reading cluster.toml until it is published.
    pub(crate) publishing: tokio::sync::Mutex<()>,
    /// Whether new sessions are refused because the daemon is stopping.
    stopping: AtomicBool,
}

/// When a member was last heard from, and what it had.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PeerSeen {
    /// When.
    pub at: Instant,
    /// Its revision; 0 if it has none.
    pub revision: u64,
    /// The run of the member that reported it.
    pub instance: Option<InstanceId>,
}

/// Another process that proved to have this identity's key.
#[derive(Debug, Clone)]
pub(crate) struct DuplicateIdentity {
    /// Its instance.
    pub instance: InstanceId,
    /// Where it was found, as text.
    pub seen_at: String,
}

/// How many former machines are remembered.
const MAX_FORMER: usize = 64;

impl ClusterState {
    /// The state of a cluster before anything was learned from peers.
    pub(crate) fn new(
        dir: ClusterDir,
        cluster: ClusterId,
        role: Role,
        seed: SecretSeed,
        config: ConfigStore,
        node: Arc<Node>,
    ) -> Self {
        let hints = ManagerFile::load(&dir).map(|file| file.hints);
        let hints = hints.unwrap_or_default().into_iter();
        let hinted_relays = hints.filter_map(|hint| hint.parse().ok()).collect();
        Self {
            dir,
            cluster,
            role,
            local_id: seed.id(),
            seed,
            hinted_relays,
            node,
            config,
            peers_seen: Mutex::default(),
            encoded: EncodedSnapshot::default(),
            pending_joins: Mutex::default(),
            former: Mutex::default(),
            observed: Observed::default(),
            duplicate: Mutex::default(),
            own_invitation: OwnInvitation::default(),
            ask_now: Notify::new(),
            invited: InvitedMachines::default(),
            publishing: tokio::sync::Mutex::default(),
            stopping: AtomicBool::new(false),
        }
    }

    /// The alias of the cluster here.
    pub fn alias(&self) -> &ClusterAlias {
        &self.dir.alias
    }

    /// The name of a machine, if the configuration has one.
    pub fn name_of(&self, machine: &MachineId) -> Option<String> {
        let names = self.config.names()?;
        names.machine(machine).map(|found| found.name().to_string())
    }

    /// A machine that asks for something here, as recorded in the audit record.
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

    /// How members find and reach each other: as the configuration in force says. Before there is one, through the relays
    /// that `machine init` was given, and then through nothing public.
    pub fn network(&self) -> Network {
        if let Some(cluster) = self.config.names() {
            return cluster.network().clone();
        }
        let relays = self.hinted_relays.clone();
        let public = relays.is_empty();
        Network::new(relays, public)
    }

    /// What the reach of this computer leaves of it.
    pub(crate) fn network_plan(&self) -> Plan {
        Plan::of(self.node.reach, &self.network())
    }

    /// What this computer's owner accepts in the cluster; `None` means whatever its rules allow.
    pub fn accept(&self) -> Option<Arc<Accept>> {
        self.node.accept_policies.of(self.alias())
    }

    /// This side's hello on a connection.
    pub fn hello(&self) -> Hello {
        Hello {
            versions: Versions::OURS,
            instance: self.node.instance,
            age_ms: u64::try_from(self.node.started_at.min_elapsed().as_millis())
                .unwrap_or(u64::MAX),
            serves: self.node.serves,
            header: self.header(),
            claim: None,
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

    /// Records the configuration that a member's run reports. One run never goes back, but reports on two connections may
    /// arrive out of order.
    pub fn record_peer_revision(
        &self,
        peer: MachineId,
        instance: Option<InstanceId>,
        header: Option<&Header>,
    ) {
        // An unsigned claim is not a revision.
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

    /// What members were last known to have.
    pub(crate) fn peers_seen(&self) -> HashMap<MachineId, PeerSeen> {
        self.peers_seen.lock().clone()
    }

    /// Records that a member answers.
    pub fn heard_again(&self, peer: &MachineId) {
        if let Some(peers_seen) = self.peers_seen.lock().get_mut(peer) {
            peers_seen.at = Instant::now();
        }
    }

    /// Removes keys that are no longer members.
    pub fn forget_strangers(&self) {
        self.peers_seen
            .lock()
            .retain(|peer, _| self.is_member(peer));
        self.observed.retain(|peer| self.is_member(peer));
    }

    /// Records that a member could not be reached, or has fallen silent.
    pub(crate) fn record_failure(&self, peer: MachineId, why: &str) {
        if self.is_member(&peer) {
            self.observed.failed(peer, why);
        }
    }

    /// The last failure to reach a member, unless it was heard from since.
    pub(crate) fn failure_of(&self, peer: &MachineId) -> Option<Failure> {
        let heard = self.peers_seen.lock().get(peer).map(|seen| seen.at);
        self.observed.failure_of(peer, heard)
    }

    /// Records the header in a peer's hello. If the peer was taken for this cluster's manager, and the header is another
    /// manager's, it is a machine.
    pub(crate) fn record_introduction(&self, peer: &MachineId, header: &Header) {
        let cluster = header.cluster;
        if *peer == self.cluster.manager()
            && cluster != self.cluster
            && header.verify(&cluster).is_ok()
        {
            self.observed.object(Objection::NotAManager { cluster });
        }
    }

    /// Records how a peer closed a connection. Only the manager's refusal shows that this machine is not a member: another
    /// machine's configuration may be older than the one in force here.
    pub(crate) fn record_close(&self, peer: &MachineId, refusal: &Refusal) {
        if self.role == Role::Machine && *peer == self.cluster.manager() {
            self.own_invitation.answered(refusal, &self.dir);
        }
        let is_refused = refusal.known_code() == Some(RefusalCode::NotAMember);
        if self.role == Role::Machine && is_refused && *peer == self.cluster.manager() {
            self.observed.object(Objection::Refused);
        }
    }

    /// Records that a member refused the content of a newer, validly signed revision.
    pub(crate) fn record_content_refused(&self, header: &Header, refusal: &Refusal) {
        let is_refused = refusal.known_code() == Some(RefusalCode::NotAMember);
        if self.role == Role::Machine && is_refused {
            let revision = header.revision;
            self.observed.object(Objection::LeftOut { revision });
        }
    }

    /// Records that the manager treats this machine as a member, or that a configuration with it is in force.
    pub(crate) fn record_accepted(&self) {
        self.observed.accepted();
        let cluster = self.config.cluster();
        if cluster.is_some_and(|cluster| cluster.is_member(&self.local_id)) {
            self.own_invitation.joined(&self.dir);
        }
    }

    /// Whether this machine is a member of the cluster, and what its owner should know and do about it.
    pub(crate) fn standing(&self) -> (MembershipState, Option<String>) {
        match self.role {
            Role::Manager => (MembershipState::Member, None),
            Role::Machine => {
                let alias = self.alias();
                let joining = self.own_invitation.standing(alias.as_str());
                joining.unwrap_or_else(|| {
                    let is_configured = self.config.snapshot().is_some();
                    self.observed
                        .standing(is_configured, alias, &self.cluster, &self.local_id)
                })
            }
        }
    }

    /// A snapshot as the frame that members fetch.
    pub(crate) fn encoded(&self, snapshot: Arc<Snapshot>) -> Bytes {
        self.encoded.frame(snapshot)
    }

    /// Keys that ask to join, oldest first.
    pub(crate) fn pending_joins(&self) -> Vec<PendingJoin> {
        let pending = self.pending_joins.lock();
        pending.recent(Instant::now()).cloned().collect()
    }

    /// Remembers the machines that a new revision no longer has. `revision` is the last one that had them.
    pub(crate) fn record_former(&self, before: &Cluster, after: &Cluster, revision: u64) {
        let removed = before
            .machines()
            .filter(|machine| after.machine(&machine.id()).is_none());
        let mut former = self.former.lock();
        for machine in removed {
            if former.len() >= MAX_FORMER {
                former.pop_front();
            }
            let name = machine.name().to_string();
            former.push_back((machine.id(), FormerMachine { name, revision }));
        }
    }

    /// The machine that had this key before.
    pub(crate) fn former(&self, id: &MachineId) -> Option<FormerMachine> {
        let former = self.former.lock();
        let mut latest = former.iter().rev();
        latest
            .find(|(other, _)| other == id)
            .map(|(_, former)| former.clone())
    }

    /// Removes a key that has become a member from those that ask to join.
    pub(crate) fn remove_pending_join(&self, peer: &MachineId) {
        self.pending_joins.lock().remove(peer);
    }

    /// Another process with this identity, if one was found recently.
    pub(crate) fn duplicate(&self) -> Option<DuplicateIdentity> {
        self.duplicate.lock().clone()
    }

    /// Records whether there is another process with this identity.
    pub(crate) fn set_duplicate(&self, duplicate: Option<DuplicateIdentity>) {
        *self.duplicate.lock() = duplicate;
    }

    /// Refuses new sessions from now on.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Whether new sessions are refused.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Records a key that is not in the configuration.
    pub fn record_rejected_peer(&self, peer: MachineId, address: Option<SocketAddr>) {
        self.node.audit.stranger(self.alias());
        if self.role == Role::Manager {
            let limits = self.node.limiter.limits();
            self.pending_joins
                .lock()
                .insert(peer, address, Instant::now(), &limits);
        }
    }
}
