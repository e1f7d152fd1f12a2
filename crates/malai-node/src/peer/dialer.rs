//! Finds a machine and dials it. It tries every known address and uses only one that is proven.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use iroh::endpoint::Connection;
use iroh::{Endpoint, EndpointAddr};
use malai_cluster::MachineId;
use malai_wire::status::RelayFacts;
use malai_wire::version::ALPN;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::cluster::state::ClusterState;
use crate::net::connect::connect;
use crate::net::discovery::address_book::AddressBook;
use crate::net::discovery::mdns::Mdns;
use crate::net::discovery::{self, ProbeLog, VerifiedAddress};
use crate::net::endpoint::{self, Ports, endpoint_id};
use crate::net::relays::{self, Plan, Relays};
use crate::settings::Reach;

/// The maximum time to find and dial a machine.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a dial that has begun may keep others waiting.
const DIAL_TURN: Duration = Duration::from_millis(500);

/// The minimum time for a dial that had to wait for another dial to the same machine to fail.
const MIN_DIAL_TIMEOUT: Duration = Duration::from_secs(3);

/// The minimum time for the real dial to a verified address.
const VERIFIED_TIMEOUT: Duration = Duration::from_secs(1);

/// The maximum time for that dial, as a multiple of the time for the verification: a busy machine is slow both times.
const VERIFIED_FACTOR: u32 = 10;

/// A machine could not be reached. Nothing was run.
#[derive(Debug, Clone, thiserror::Error)]
#[error("cannot reach {machine}: {what}\n  tried: {tried}; the reach here is `{reach}`\n  {hint}")]
pub struct ReachError {
    machine: String,
    what: String,
    tried: String,
    reach: Reach,
    hint: &'static str,
}

impl ReachError {
    /// What happened, without the addresses tried.
    pub(crate) fn what(&self) -> &str {
        &self.what
    }
}

/// A dialed connection.
#[derive(Debug)]
pub(crate) struct Dialed {
    /// The connection.
    pub connection: Connection,
    /// The endpoint that was created for this connection only, if any.
    pub own_endpoint: Option<Endpoint>,
}

impl From<Connection> for Dialed {
    fn from(connection: Connection) -> Self {
        Self {
            connection,
            own_endpoint: None,
        }
    }
}

/// The right to dial a machine, one dial at a time. It stores the start and the error of the last failed dial.
pub(crate) type Turn = Arc<tokio::sync::Mutex<Option<(Instant, ReachError)>>>;

/// Dials machines as one identity.
#[derive(Debug)]
pub(crate) struct Dialer {
    /// The cluster of the identity.
    pub cluster_state: Arc<ClusterState>,
    /// Its endpoint.
    pub endpoint: Endpoint,
    /// The relays and public infrastructure that the endpoint uses.
    relays: Arc<Relays>,
    /// Its use of mDNS.
    pub mdns: Mdns,
    /// The addresses where members were last found.
    pub addresses: AddressBook,
    turns: Mutex<HashMap<MachineId, Turn>>,
}

impl Dialer {
    /// Dials with this endpoint, which was bound with these relays.
    pub(crate) fn new(
        cluster_state: Arc<ClusterState>,
        endpoint: Endpoint,
        relays: Arc<Relays>,
    ) -> Self {
        Self {
            mdns: Mdns::new(cluster_state.node.reach, cluster_state.local_id),
            addresses: AddressBook::load(&cluster_state.dir.addresses()),
            cluster_state,
            endpoint,
            relays,
            turns: Mutex::default(),
        }
    }

    /// The reach of this identity.
    pub(crate) fn reach(&self) -> Reach {
        self.cluster_state.node.reach
    }

    /// Changes what the endpoint uses. Its connections go on.
    pub(crate) async fn use_network(&self, plan: Plan) {
        self.relays.apply(&self.endpoint, plan).await;
    }

    /// The relay by which this identity is reached.
    pub(crate) fn relay(&self) -> Option<RelayFacts> {
        self.relays.facts(&self.endpoint)
    }

    /// Why its connections are not direct, as far as is known.
    pub(crate) fn obstacle(&self) -> Option<String> {
        relays::obstacle(&self.endpoint).map(str::to_owned)
    }

    /// The right to dial a machine.
    pub(crate) fn turn(&self, peer: MachineId) -> Turn {
        self.turns.lock().entry(peer).or_default().clone()
    }

    /// Forgets the turns that no dial holds or waits for.
    pub(crate) fn forget_turns(&self) {
        self.turns
            .lock()
            .retain(|_, turn| Arc::strong_count(turn) > 1);
    }

    /// Finds and dials a machine that was `asked` for at this time. The caller holds the turn.
    ///
    /// # Errors
    ///
    /// The machine could not be reached; the error says what was tried.
    pub(crate) async fn dial(&self, peer: MachineId, asked: Instant) -> Result<Dialed, ReachError> {
        let turn = self.cluster_state.node.dials.acquire().await;
        let deadline = (asked + DIAL_TIMEOUT).max(Instant::now() + MIN_DIAL_TIMEOUT);
        let mut tried = ProbeLog::default();
        let dialed = {
            let race = tokio::time::timeout_at(deadline.into(), self.race(peer, &mut tried));
            tokio::pin!(race);
            // What takes longer waits for its peer, and computes nothing: it is another dial's turn.
            let begun = tokio::time::timeout(DIAL_TURN, &mut race).await;
            drop(turn);
            match begun {
                Ok(dialed) => dialed,
                Err(_) => race.await,
            }
        };
        match dialed {
            Ok(Ok(dialed)) => Ok(dialed),
            Ok(Err(what)) => Err(self.unreached(&peer, what, &tried)),
            Err(_) => {
                let what = format!("no answer within {} s", asked.elapsed().as_secs());
                Err(self.unreached(&peer, what, &tried))
            }
        }
    }

    /// Dials a machine at an address known to be its own.
    ///
    /// # Errors
    ///
    /// Why it could not be reached.
    pub(crate) async fn dial_at(
        &self,
        peer: &MachineId,
        address: SocketAddr,
        timeout: Duration,
    ) -> Result<Connection, String> {
        let dialed = connect(&self.endpoint, target(peer, address), ALPN);
        match tokio::time::timeout(timeout, dialed).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("no answer".to_owned()),
        }
    }

    fn unreached(&self, peer: &MachineId, what: String, tried: &ProbeLog) -> ReachError {
        let cluster = self.cluster_state.config.names();
        let name = cluster
            .as_ref()
            .and_then(|cluster| cluster.machine(peer))
            .map(|machine| machine.name().to_string());
        let (reach, plan) = (self.reach(), self.relays.plan());
        let (beyond, hint) = match reach {
            Reach::Loopback => (
                plan.to_string(),
                "if it is another computer, set reach to \"lan\" or \"public\" in [network] of malai.toml on both; otherwise start its daemon: malai daemon",
            ),
            Reach::Lan => (
                "; the local network (mDNS)".to_owned(),
                "check there that its daemon runs (malai status); if it is in another network, set reach to \"public\" in [network] of malai.toml on both",
            ),
            Reach::Public => (
                format!("; the local network (mDNS){plan}"),
                "check there that its daemon runs, with the reach `public` as well: malai status",
            ),
        };
        ReachError {
            machine: name.unwrap_or_else(|| peer.to_string()),
            what,
            tried: format!("{tried}{beyond}"),
            reach,
            hint,
        }
    }

    /// Finds a verified address and dials it. Relays and public discovery, if they are used, are tried in parallel.
    async fn race(&self, peer: MachineId, tried: &mut ProbeLog) -> Result<Dialed, String> {
        let (hint, hints) = mpsc::channel(64);
        let direct = async {
            let (searching, proving) = (
                self.search(peer, hint),
                discovery::prove(
                    &self.cluster_state.node.probes,
                    &peer,
                    self.reach(),
                    hints,
                    tried,
                ),
            );
            tokio::pin!(searching, proving);
            tokio::select! {
                verified = &mut proving => verified,
                () = &mut searching => proving.await,
            }
        };
        let elsewhere = self.relays.plan().leads_somewhere();
        let relayed = async {
            let target = self.relays.target(endpoint_id(&peer));
            self.endpoint.connect(target, ALPN).await.ok()
        };
        tokio::pin!(direct, relayed);
        let (mut direct_done, mut relayed_done) = (false, !elsewhere);
        loop {
            tokio::select! {
                verified = &mut direct, if !direct_done => {
                    direct_done = true;
                    if let Some(verified) = verified {
                        return self.dial_verified(peer, verified).await;
                    }
                }
                connection = &mut relayed, if !relayed_done => {
                    relayed_done = true;
                    if let Some(connection) = connection {
                        return Ok(Dialed::from(connection));
                    }
                }
                else => return Err("nothing answers with its key at any known address".into()),
            }
        }
    }

    /// Sends hints until the search is over: the known addresses at once, then what mDNS finds.
    async fn search(&self, peer: MachineId, hint: mpsc::Sender<SocketAddr>) {
        let pending = self
            .cluster_state
            .pending_joins()
            .into_iter()
            .find(|pending| pending.id == peer)
            .and_then(|pending| pending.address);
        let known = discovery::loopback_hints(&peer);
        let remembered = self.addresses.of(&peer);
        let mut hosts: Vec<IpAddr> = remembered
            .iter()
            .chain(&pending)
            .map(SocketAddr::ip)
            .collect();
        hosts.sort();
        hosts.dedup();
        let moved = discovery::hints_at(&peer, &hosts);
        // Most likely first: its last address, then where a daemon on this computer would be, then its other ports on its
        // last hosts (another process may have taken its last port).
        for address in remembered
            .into_iter()
            .chain(pending)
            .chain(known)
            .chain(moved)
        {
            if hint.send(address).await.is_err() {
                return;
            }
        }
        self.mdns.find(&peer, hint).await;
    }

    async fn dial_verified(
        &self,
        peer: MachineId,
        VerifiedAddress { address, took }: VerifiedAddress,
    ) -> Result<Dialed, String> {
        self.addresses.remember(peer, address);
        let timeout = VERIFIED_TIMEOUT.max(took * VERIFIED_FACTOR);
        let own = match self.dial_at(&peer, address, timeout).await {
            Ok(connection) => return Ok(Dialed::from(connection)),
            Err(why) => why,
        };
        // The endpoint may keep a bad address of this peer for a minute; a new endpoint has none.
        tracing::debug!(machine = %peer.short(), %address, "a verified address did not answer this endpoint ({own}); dialing from a new one");
        // It is dialed directly, and uses no relay: there, it would take the other endpoint's place.
        let endpoint = endpoint::bind(&self.cluster_state.seed, self.reach(), Ports::Any)
            .await
            .map_err(|error| error.to_string())?;
        match connect(&endpoint, target(&peer, address), ALPN).await {
            Ok(connection) => Ok(Dialed {
                connection,
                own_endpoint: Some(endpoint),
            }),
            Err(error) => {
                endpoint.close().await;
                Err(format!(
                    "{address} proved to be its address but does not answer: {error:#}"
                ))
            }
        }
    }
}

fn target(peer: &MachineId, address: SocketAddr) -> EndpointAddr {
    EndpointAddr::new(endpoint_id(peer)).with_ip_addr(address)
}
