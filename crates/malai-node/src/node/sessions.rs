//! What runs now: on this machine, for whom and by which rule; and on others, for this machine's command
//! lines. How each can be ended.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use malai_cluster::{ClusterAlias, MachineId, Rule};
use malai_wire::peer::exec::Action;
use malai_wire::{Refusal, RefusalCode};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::audit::Counts;
use crate::os::user::RunAs;

/// How the other side of a session is reached.
pub(crate) trait PathInfo: fmt::Debug + Send + Sync {
    /// Whether its packets go straight to the peer rather than through a relay, where that is known.
    fn is_direct(&self) -> Option<bool>;
    /// The peer's address on the path that is used.
    fn address(&self) -> Option<SocketAddr>;
}

/// The live sessions of a process, of all its clusters.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    next: AtomicU64,
    live: Arc<List<Session>>,
    outbound: Arc<List<OutboundSession>>,
}

/// What every live session has, whoever runs its command.
#[derive(Debug)]
pub(crate) struct Live {
    /// Its number in this process.
    pub id: u64,
    /// The cluster it goes through.
    pub alias: ClusterAlias,
    /// What was asked for: an argument list, or a shell.
    pub asked: Action,
    /// When it began.
    pub since: SystemTime,
    /// The connection that it uses; none where the command line and the command are on this computer.
    pub connection: Option<Weak<dyn PathInfo>>,
    /// How many bytes went each way.
    pub counts: Arc<Counts>,
    ended: watch::Sender<Option<Refusal>>,
}

/// A command that runs on this machine.
#[derive(Debug)]
pub(crate) struct Session {
    /// Number, cluster, connection.
    pub live: Live,
    /// Who asked for it.
    pub from: MachineId,
    /// The user whom the caller asked for.
    pub user: Option<String>,
    /// The user it runs as.
    pub run_as: RunAs,
    /// The rule that allowed it.
    pub rule: Rule,
}

/// A command of one of this computer's command lines that runs on another machine.
#[derive(Debug)]
pub(crate) struct OutboundSession {
    /// Number, cluster, connection.
    pub live: Live,
    /// The target as it was typed.
    pub target: String,
}

impl Live {
    /// A session that begins now.
    pub(crate) fn new(
        id: u64,
        alias: ClusterAlias,
        asked: Action,
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

    /// Ends the session, with a reason for its client.
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

/// A session's place in the list, until dropped.
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

    /// Waits until the session is ended, for the reason.
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

    /// Lists a command that is about to run here.
    pub(crate) fn begin(&self, session: Session) -> SessionGuard<Session> {
        self.live.add(session)
    }

    /// Lists a command that another machine has accepted.
    pub(crate) fn begin_outbound(&self, session: OutboundSession) -> SessionGuard<OutboundSession> {
        self.outbound.add(session)
    }

    /// What runs here, the oldest first.
    pub(crate) fn all(&self) -> Vec<Arc<Session>> {
        self.live.all()
    }

    /// What runs elsewhere, the oldest first.
    pub(crate) fn all_outbound(&self) -> Vec<Arc<OutboundSession>> {
        self.outbound.all()
    }

    /// Ends the session of this number, here or elsewhere, in the name of `who`; whether there is one.
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
            // The sender is the session's own, which the caller holds.
            std::future::pending::<()>().await;
        }
    }
}
