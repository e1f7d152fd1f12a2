//! Links to peers: found, dialled once at a time, kept, replaced when the peer has started anew.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use iroh::{Endpoint, EndpointAddr};
use malai_cluster::MachineId;
use malai_wire::version::ALPN;
use malai_wire::{Refusal, RefusalCode};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::addresses::Addresses;
use crate::endpoint::{self, Ports, endpoint_id};
use crate::link::{FRESH, Link};
use crate::mdns::Mdns;
use crate::member::{Membership, lock};
use crate::probers::Probers;
use crate::reach::{self, Proven, Tried};
use crate::settings::Reach;
use crate::settings::limits::busy;

mod spare;

use spare::Ends;

/// How long a machine is looked for and dialled, all in all.
pub const DIAL: Duration = Duration::from_secs(10);

/// How long a dial has at least, when it had to wait for another to the same machine to fail.
const DIAL_AT_LEAST: Duration = Duration::from_secs(3);

/// How long a proven address may take to answer the real dial, at least.
const PROVEN: Duration = Duration::from_secs(1);

/// And how many times as long as the proof took: a machine that is busy is slow both times.
const TIMES_PROOF: u32 = 10;

/// How long a peer that has been silent may take to say that it is there.
const ASK: Duration = Duration::from_millis(400);

/// A machine was not reached. Nothing was run.
#[derive(Debug, Clone, thiserror::Error)]
#[error(
    "cannot reach {machine}: {what}\n  tried: {tried}\n  is its daemon running (`malai status` there), and is it in the same network reach?"
)]
pub struct ReachError {
    machine: String,
    what: String,
    tried: String,
}

/// The dial to one machine, if one is under way, and how the last one failed and when it had begun.
type Dial = Arc<tokio::sync::Mutex<Option<(Instant, ReachError)>>>;

/// The links of one identity.
#[derive(Debug)]
pub struct Peers {
    membership: Arc<Membership>,
    endpoint: Endpoint,
    /// How far this identity reaches.
    pub reach: Reach,
    /// Its part in mDNS.
    pub mdns: Mdns,
    /// Where members were last proven to be.
    pub addresses: Addresses,
    probers: Arc<Probers>,
    links: Mutex<HashMap<MachineId, Vec<Arc<Link>>>>,
    dials: Mutex<HashMap<MachineId, Dial>>,
    tasks: TaskTracker,
}

impl Peers {
    /// The links of an identity, none yet. `tasks` owns what runs for them.
    pub fn new(
        membership: Arc<Membership>,
        endpoint: Endpoint,
        reach: Reach,
        mdns: Mdns,
        addresses: Addresses,
        probers: Arc<Probers>,
        tasks: TaskTracker,
    ) -> Arc<Self> {
        Arc::new(Self {
            membership,
            endpoint,
            reach,
            mdns,
            addresses,
            probers,
            links: Mutex::default(),
            dials: Mutex::default(),
            tasks,
        })
    }

    /// The cluster these links belong to.
    pub fn membership(&self) -> &Arc<Membership> {
        &self.membership
    }

    /// The endpoint of this identity.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Announces this identity in the local network, as long as the endpoint is open.
    pub async fn announce(&self) {
        self.mdns.announce(self.endpoint.clone()).await;
    }

    /// Takes a connection in, whichever side dialled.
    pub fn adopt(
        self: &Arc<Self>,
        connection: iroh::endpoint::Connection,
        peer: MachineId,
        own_endpoint: Option<Endpoint>,
    ) -> Arc<Link> {
        let link = Link::new(self.membership.clone(), connection, peer, own_endpoint);
        lock(&self.links)
            .entry(peer)
            .or_default()
            .push(link.clone());
        let (peers, driven) = (self.clone(), link.clone());
        let span = link.span();
        let life = async move {
            let judged = async {
                driven.judged().await;
                peers.make_room(&driven);
                peers.remember(&driven).await;
            };
            tokio::join!(driven.clone().drive(), judged);
            peers.forget(&driven);
        };
        self.tasks.spawn(life.instrument(span));
        link
    }

    /// Keeps to the limits of connections: with one more than that, the one that was unused for longest
    /// is closed. Where all are in use the new one is, unless this side needs it itself.
    ///
    /// A connection that is closed for this carries no request that was received and not answered.
    fn make_room(&self, new: &Arc<Link>) {
        if new.is_closed() {
            return;
        }
        let limits = self.membership.limiter.limits();
        let of_peer = lock(&self.links).get(&new.peer).cloned();
        let (one, all) = (limits.connections_per_peer, limits.connections);
        for (links, name, most) in [
            (of_peer.unwrap_or_default(), "connections_per_peer", one),
            (self.all(), "connections", all),
        ] {
            let open = links
                .into_iter()
                .filter(|link| link.is_admitted() && !link.is_closed());
            let mut open: Vec<_> = open.collect();
            let too_many = open.len().saturating_sub(most as usize);
            if too_many == 0 {
                continue;
            }
            // Each is asked once: time goes on meanwhile, and an order that changes is none.
            open.sort_by_cached_key(|link| std::cmp::Reverse(link.unused_for()));
            let idle = open
                .iter()
                .filter(|link| !link.is_occupied() && !Arc::ptr_eq(link, new));
            let idle: Vec<_> = idle.take(too_many).collect();
            for link in &idle {
                link.close(&busy(name, most));
            }
            if idle.len() < too_many && !new.is_dialled() {
                new.close(&self.membership.limiter.refused(name, most));
                return;
            }
        }
    }

    /// What is learnt from a member's greeting: a member that serves is likely to be found again
    /// where it dialled from, and links to an earlier run of it lead to nobody any more.
    async fn remember(&self, link: &Arc<Link>) {
        link.judged().await;
        let Some(greeted) = link.greeting().filter(|greeted| greeted.hello.serves) else {
            return;
        };
        if link.is_closed() {
            return;
        }
        if let Some(address) = link.address() {
            self.addresses.remember(link.peer, address);
        }
        let of_peer = lock(&self.links)
            .get(&link.peer)
            .cloned()
            .unwrap_or_default();
        for old in of_peer.iter().filter(|old| old.is_outlived_by(&greeted)) {
            old.close(&restarted());
        }
    }

    fn forget(&self, link: &Arc<Link>) {
        let mut links = lock(&self.links);
        if let Some(of_peer) = links.get_mut(&link.peer) {
            of_peer.retain(|other| !Arc::ptr_eq(other, link));
            if of_peer.is_empty() {
                links.remove(&link.peer);
            }
        }
    }

    /// The link that would be used for a peer now, if there is one: the latest, and rather one that
    /// this side has dialled.
    pub fn current(&self, peer: &MachineId) -> Option<Arc<Link>> {
        let links = lock(&self.links);
        let usable = || {
            let of_peer = links.get(peer).into_iter().flatten();
            of_peer.rev().filter(|link| link.is_usable())
        };
        usable()
            .find(|link| link.is_dialled())
            .or_else(|| usable().next())
            .cloned()
    }

    /// All open links.
    pub fn all(&self) -> Vec<Arc<Link>> {
        lock(&self.links).values().flatten().cloned().collect()
    }

    /// A link that is known to work: one that the peer was heard on just now, or one on which it
    /// answers when asked, or a new one.
    ///
    /// # Errors
    ///
    /// The machine was not reached; what was tried is said.
    pub async fn link(self: &Arc<Self>, peer: MachineId) -> Result<Arc<Link>, ReachError> {
        if let Some(link) = self.current(&peer) {
            if link.silent_for() < FRESH || link.ping(link.patience(ASK)).await {
                self.watch(&link);
                return Ok(link);
            }
            // While the old connection is open, a peer that came back on another port cannot be
            // dialled. Live sessions keep theirs: the outage may be short.
            if link.sessions() == 0 {
                link.close(&Refusal::new(RefusalCode::Idle, "no answer"));
            }
        }
        self.fresh_link(peer).await
    }

    /// A link for a command: one that this side has dialled, so that the command survives a new
    /// address of this computer. Where the peer has dialled, its address is known and proven.
    ///
    /// # Errors
    ///
    /// As [`Peers::link`].
    pub async fn session_link(self: &Arc<Self>, peer: MachineId) -> Result<Arc<Link>, ReachError> {
        let link = self.link(peer).await?;
        if link.is_dialled() {
            return Ok(link);
        }
        let Some(address) = link.address() else {
            return Ok(link);
        };
        let dial = lock(&self.dials).entry(peer).or_default().clone();
        let _one_at_a_time = dial.lock().await;
        if let Some(own) = self.current(&peer).filter(|link| link.is_dialled()) {
            return Ok(own);
        }
        let target = EndpointAddr::new(endpoint_id(&peer)).with_ip_addr(address);
        let dialled = self.endpoint.connect(target, ALPN);
        match tokio::time::timeout(link.patience(ASK), dialled).await {
            Ok(Ok(connection)) => {
                let own = self.adopt(connection, peer, None);
                self.watch(&own);
                Ok(own)
            }
            Ok(Err(_)) | Err(_) => Ok(link),
        }
    }

    /// A new link, whatever there is; one that somebody else dials at the same time is shared, and
    /// so is the failure of a dial that has begun since.
    ///
    /// # Errors
    ///
    /// As [`Peers::link`].
    pub async fn fresh_link(self: &Arc<Self>, peer: MachineId) -> Result<Arc<Link>, ReachError> {
        let asked = Instant::now();
        let dial = lock(&self.dials).entry(peer).or_default().clone();
        let before = self.current(&peer);
        let mut last = dial.lock().await;
        if let Some(link) = self.current(&peer)
            && before.is_none_or(|before| !Arc::ptr_eq(&before, &link))
        {
            return Ok(link);
        }
        if let Some((begun, error)) = &*last
            && *begun >= asked
        {
            return Err(error.clone());
        }
        let begun = Instant::now();
        let deadline = (asked + DIAL).max(begun + DIAL_AT_LEAST);
        let mut tried = Tried::default();
        let dialled = tokio::time::timeout_at(deadline.into(), self.dial(peer, &mut tried)).await;
        let result = match dialled {
            Ok(Ok(link)) => {
                self.watch(&link);
                Ok(link)
            }
            Ok(Err(what)) => Err(self.unreached(&peer, what, &tried)),
            Err(_) => {
                let what = format!("no answer within {} s", asked.elapsed().as_secs());
                Err(self.unreached(&peer, what, &tried))
            }
        };
        *last = result.as_ref().err().map(|error| (begun, error.clone()));
        drop(last);
        drop(dial);
        // Whoever waits for this dial holds it as well.
        lock(&self.dials).retain(|_, dial| Arc::strong_count(dial) > 1);
        result
    }

    fn unreached(&self, peer: &MachineId, what: String, tried: &Tried) -> ReachError {
        let cluster = self.membership.configuration.names();
        let name = cluster
            .as_ref()
            .and_then(|cluster| cluster.machine(peer))
            .map(|machine| machine.name().to_string());
        let beyond = match self.reach {
            Reach::Loopback => "",
            Reach::Lan => "; the local network (mDNS)",
            Reach::Public => "; the local network (mDNS); iroh's public discovery and relays",
        };
        ReachError {
            machine: name.unwrap_or_else(|| peer.to_string()),
            what,
            tried: format!("{tried}{beyond}; reach is `{}`", self.reach),
        }
    }

    /// Looks for a proven address and dials it; under `public`, iroh's discovery runs beside it.
    async fn dial(
        self: &Arc<Self>,
        peer: MachineId,
        tried: &mut Tried,
    ) -> Result<Arc<Link>, String> {
        let (hint, hints) = mpsc::channel(64);
        let direct = async {
            let (searching, proving) = (
                self.search(peer, hint),
                reach::prove(&self.probers, &peer, self.reach, hints, tried),
            );
            tokio::pin!(searching, proving);
            tokio::select! {
                proven = &mut proving => proven,
                () = &mut searching => proving.await,
            }
        };
        let public = async {
            if self.reach == Reach::Public {
                self.endpoint.connect(endpoint_id(&peer), ALPN).await.ok()
            } else {
                None
            }
        };
        tokio::pin!(direct, public);
        let (mut direct_done, mut public_done) = (false, self.reach != Reach::Public);
        loop {
            tokio::select! {
                proven = &mut direct, if !direct_done => {
                    direct_done = true;
                    if let Some(proven) = proven {
                        return self.dial_proven(peer, proven).await;
                    }
                }
                connection = &mut public, if !public_done => {
                    public_done = true;
                    if let Some(connection) = connection {
                        return Ok(self.adopt(connection, peer, None));
                    }
                }
                else => return Err("nothing answers with its key at any known address".into()),
            }
        }
    }

    /// Offers hints until the search is over: what is known at once, then what mDNS finds.
    async fn search(&self, peer: MachineId, hint: mpsc::Sender<SocketAddr>) {
        let waiting = lock(&self.membership.waiting)
            .iter()
            .find(|waiting| waiting.id == peer)
            .and_then(|waiting| waiting.address);
        let known = reach::loopback_hints(&peer);
        let remembered = self.addresses.of(&peer);
        let mut hosts: Vec<IpAddr> = remembered
            .iter()
            .chain(&waiting)
            .map(SocketAddr::ip)
            .collect();
        hosts.sort();
        hosts.dedup();
        let moved = reach::hints_at(&peer, &hosts);
        // The likeliest first: where it was last, then where a daemon on this computer would be, then
        // its other ports on the hosts where it was (something else may have taken the one it had).
        for address in remembered
            .into_iter()
            .chain(waiting)
            .chain(known)
            .chain(moved)
        {
            if hint.send(address).await.is_err() {
                return;
            }
        }
        self.mdns.find(&peer, hint).await;
    }

    async fn dial_proven(
        self: &Arc<Self>,
        peer: MachineId,
        Proven { address, took }: Proven,
    ) -> Result<Arc<Link>, String> {
        self.addresses.remember(peer, address);
        let patience = PROVEN.max(took * TIMES_PROOF);
        let target = EndpointAddr::new(endpoint_id(&peer)).with_ip_addr(address);
        let own = match tokio::time::timeout(patience, self.endpoint.connect(target.clone(), ALPN))
            .await
        {
            Ok(Ok(connection)) => return Ok(self.adopt(connection, peer, None)),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer".to_owned(),
        };
        // The endpoint may hold a bad address of this peer for a minute; a new endpoint holds none.
        tracing::debug!(machine = %peer.short(), %address, "a proven address did not answer the endpoint ({own}); dialling with a new one");
        let endpoint = endpoint::bind(&self.membership.seed, self.reach, Ports::Any)
            .await
            .map_err(|error| error.to_string())?;
        match endpoint.connect(target, ALPN).await {
            Ok(connection) => Ok(self.adopt(connection, peer, Some(endpoint))),
            Err(error) => {
                endpoint.close().await;
                Err(format!(
                    "{address} proved to be its address but does not answer: {error:#}"
                ))
            }
        }
    }

    /// Sees to it that a peer's silence on a link in use is noticed.
    fn watch(self: &Arc<Self>, link: &Arc<Link>) {
        if link.is_watched() {
            return;
        }
        let (peers, watched) = (Arc::downgrade(self), link.clone());
        let all = peers.clone();
        let is_spare =
            move |link: &Arc<Link>| all.upgrade().is_some_and(|peers| peers.is_spare(link));
        self.tasks.spawn(watched.watch(is_spare, move |link| {
            let peers = peers.upgrade();
            async move {
                let Some(peers) = peers else { return };
                // A new run of the peer is the end of everything that ran under the old one.
                if peers.successor(&link).await.is_some() {
                    link.close(&restarted());
                }
            }
        }));
    }

    fn is_spare(&self, link: &Arc<Link>) -> bool {
        let ends = Ends {
            me: self.membership.me,
            peer: link.peer,
            manager: self.membership.cluster.manager(),
        };
        let links = lock(&self.links);
        let of_peer = links.get(&link.peer);
        of_peer.is_some_and(|of_peer| spare::is_spare(link, of_peer, ends))
    }

    /// Looks for the peer beside a silent link: a link to another run of it, if there is one.
    pub async fn successor(self: &Arc<Self>, link: &Arc<Link>) -> Option<Arc<Link>> {
        let beside = self
            .current(&link.peer)
            .filter(|next| !Arc::ptr_eq(next, link));
        let next = match beside {
            Some(next) if next.silent_for() < FRESH || next.ping(next.patience(ASK)).await => next,
            _ => self.fresh_link(link.peer).await.ok()?,
        };
        let greeted = next.greeted(ASK).await.ok()?;
        let before = link.greeting()?;
        (greeted.hello.instance != before.hello.instance).then_some(next)
    }
}

fn restarted() -> Refusal {
    Refusal::new(RefusalCode::Done, "the machine's daemon was restarted")
}
