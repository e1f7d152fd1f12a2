//! The live sessions: those on this machine, and those of this machine's command lines on other machines. Each can be
//! ended.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use malai_cluster::{ClusterAlias, MachineId, Rule, ServedFolder, Upstream};
use malai_wire::action::Asked;
use malai_wire::{Refusal, RefusalCode};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::audit::Counts;
use crate::os::user::RunAs;

/// The network path to the other side of a session.
pub(crate) trait PathInfo: fmt::Debug + Send + Sync {
    /// Whether packets go directly to the peer rather than through a relay, if known.
    fn is_direct(&self) -> Option<bool>;
    /// The peer's address on the current path.
    fn address(&self) -> Option<SocketAddr>;
}

/// The live sessions of a process, over all its clusters.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    next: AtomicU64,
    live: Arc<List<Session>>,
    outbound: Arc<List<OutboundSession>>,
}

/// The common part of all live sessions.
#[derive(Debug)]
pub(crate) struct Live {
    /// Its number in this process.
    pub id: u64,
    /// The cluster that it belongs to.
    pub alias: ClusterAlias,
    /// What was asked for.
    pub asked: Asked,
    /// When it started.
    pub since: SystemTime,
    /// The connection that it uses; `None` if command line and command are on this computer.
    pub connection: Option<Weak<dyn PathInfo>>,
    /// The byte counts.
    pub counts: Arc<Counts>,
    ended: watch::Sender<Option<Refusal>>,
}

/// A command that runs on this machine, or a connection to one of its services.
#[derive(Debug)]
pub(crate) struct Session {
    /// The common part.
    pub live: Live,
    /// Who asked for it.
    pub from: MachineId,
    /// The user that the caller asked for.
    pub user: Option<String>,
    /// The user it runs as; the daemon's own for a connection.
    pub run_as: RunAs,
    /// Where a connection leads.
    pub upstream: Option<Upstream>,
    /// Where the service sees it come from.
    pub located: Located,
    /// The rule that allowed it.
    pub rule: Rule,
    /// The folder whose files it serves, if it is for one.
    pub folder: Option<ServedFolder>,
}

/// The address of this side of a connection to a service, as the service sees it, while there is one over TCP.
#[derive(Debug, Clone, Default)]
pub(crate) struct Located(Arc<Mutex<Option<SocketAddr>>>);

/// Keeps an address. It is forgotten when this is dropped, which has to be before the socket is closed: another process
/// may have the address then.
#[derive(Debug)]
pub(crate) struct LocatedGuard(Located);

impl Located {
    /// Keeps the address until the guard is dropped.
    pub(crate) fn at(&self, address: SocketAddr) -> LocatedGuard {
        *self.0.lock() = Some(address);
        LocatedGuard(self.clone())
    }

    /// The address now.
    pub(crate) fn get(&self) -> Option<SocketAddr> {
        *self.0.lock()
    }
}

impl Drop for LocatedGuard {
    fn drop(&mut self) {
        *self.0.0.lock() = None;
    }
}

/// A command of one of this computer's command lines that runs on another machine.
#[derive(Debug)]
pub(crate) struct OutboundSession {
    /// The common part.
    pub live: Live,
    /// The target as typed.
    pub target: String,
}

impl Live {
    /// A session that starts now.
    pub(crate) fn new(
        id: u64,
        alias: ClusterAlias,
        asked: Asked,
        connection: Option<Weak<dyn PathInfo>>,
        counts: Arc<Counts>,
    ) -> Self {
        Self {
            id,
            alias,
            asked,
            since: SystemTime::now(),
            connection,
            counts,
            ended: watch::Sender::new(None),
        }
    }

    /// Ends the session; the client is told the reason.
    pub(crate) fn end(&self, reason: Refusal) {
        end_first(&self.ended, reason);
    }
}

impl AsRef<Live> for Session {
    fn as_ref(&self) -> &Live {
        &self.live
    }
}

impl AsRef<Live> for OutboundSession {
    fn as_ref(&self) -> &Live {
        &self.live
    }
}

#[derive(Debug)]
struct List<T>(Mutex<BTreeMap<u64, Arc<T>>>);

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: AsRef<Live>> List<T> {
    fn add(self: &Arc<Self>, session: T) -> SessionGuard<T> {
        let session = Arc::new(session);
        let id = (*session).as_ref().id;
        self.0.lock().insert(id, session.clone());
        SessionGuard {
            list: self.clone(),
            session,
        }
    }

    fn all(&self) -> Vec<Arc<T>> {
        self.0.lock().values().cloned().collect()
    }

    fn get(&self, id: u64) -> Option<Arc<T>> {
        self.0.lock().get(&id).cloned()
    }
}

/// A session's entry in the list, until dropped.
#[derive(Debug)]
pub(crate) struct SessionGuard<T: AsRef<Live>> {
    list: Arc<List<T>>,
    session: Arc<T>,
}

impl<T: AsRef<Live>> SessionGuard<T> {
    /// The session.
    pub(crate) fn session(&self) -> &T {
        &self.session
    }

    /// Waits until the session is ended; returns the reason.
    pub(crate) async fn ended(&self) -> Refusal {
        until_ended(&(*self.session).as_ref().ended).await
    }
}

impl<T: AsRef<Live>> Drop for SessionGuard<T> {
    fn drop(&mut self) {
        let id = (*self.session).as_ref().id;
        self.list.0.lock().remove(&id);
    }
}

impl Sessions {
    /// The number of a new session.
    pub(crate) fn next_id(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Adds a command that is about to run here.
    pub(crate) fn begin(&self, session: Session) -> SessionGuard<Session> {
        self.live.add(session)
    }

    /// Adds a command that another machine has accepted.
    pub(crate) fn begin_outbound(&self, session: OutboundSession) -> SessionGuard<OutboundSession> {
        self.outbound.add(session)
    }

    /// The sessions here, oldest first.
    pub(crate) fn all(&self) -> Vec<Arc<Session>> {
        self.live.all()
    }

    /// The sessions on other machines, oldest first.
    pub(crate) fn all_outbound(&self) -> Vec<Arc<OutboundSession>> {
        self.outbound.all()
    }

    /// Ends all connections to services and through machines, here and on other machines.
    pub(crate) fn end_connections(&self, reason: &Refusal) {
        let is_connection = |live: &Live| matches!(live.asked, Asked::Connect(_));
        let (here, there) = (self.live.all(), self.outbound.all());
        let here = here.iter().map(|session| &session.live);
        let there = there.iter().map(|session| &session.live);
        for live in here.chain(there).filter(|live| is_connection(live)) {
            live.end(reason.clone());
        }
    }

    /// Ends the session with this number, here or on another machine, on behalf of `who`. Returns whether it exists.
    pub(crate) fn end(&self, id: u64, who: &str) -> bool {
        let reason = Refusal::new(RefusalCode::Ended, format!("ended by {who}"));
        if let Some(session) = self.live.get(id) {
            tracing::info!(cluster = %session.live.alias, peer = %session.from.short(), session = id, "ended by hand: malai sessions end");
            session.live.end(reason);
            return true;
        }
        if let Some(session) = self.outbound.get(id) {
            tracing::info!(cluster = %session.live.alias, session = id, "a command on another machine is ended by hand: malai sessions end");
            session.live.end(reason);
            return true;
        }
        false
    }
}

/// Only the first reason counts.
fn end_first(ended: &watch::Sender<Option<Refusal>>, reason: Refusal) {
    ended.send_if_modified(|ended| {
        let first = ended.is_none();
        if first {
            *ended = Some(reason);
        }
        first
    });
}

async fn until_ended(ended: &watch::Sender<Option<Refusal>>) -> Refusal {
    let mut ended = ended.subscribe();
    loop {
        if let Some(reason) = ended.borrow_and_update().clone() {
            return reason;
        }
        if ended.changed().await.is_err() {
            // The sender belongs to the session, which the caller holds.
            std::future::pending::<()>().await;
        }
    }
}
