//! What runs now: on this machine, for whom and by which rule; and on others, for this machine's command
//! lines. How each can be ended.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use malai_cluster::{ClusterAlias, MachineId, Rule};
use malai_wire::peer::exec::Action;
use malai_wire::{Refusal, RefusalCode};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::audit::Counts;
use crate::cluster::authorize::{self, Command};
use crate::cluster::state::ClusterState;
use crate::os::user::RunAs;
use crate::peer::connection::PeerConnection;

/// The live sessions of a process, of all its clusters.
#[derive(Debug, Default)]
pub struct Sessions {
    next: AtomicU64,
    live: Mutex<BTreeMap<u64, Arc<Session>>>,
    elsewhere: Mutex<BTreeMap<u64, Arc<OutboundSession>>>,
}

/// A command that runs.
#[derive(Debug)]
pub struct Session {
    /// Its number in this process.
    pub id: u64,
    /// The cluster it came through.
    pub alias: ClusterAlias,
    /// Who asked for it.
    pub from: MachineId,
    /// What was asked for: an argument list, or a shell.
    pub asked: Action,
    /// The user it runs as.
    pub run_as: RunAs,
    /// When it began.
    pub since: SystemTime,
    /// The rule that allowed it.
    pub rule: Rule,
    /// The connection that it came over; none from this computer itself.
    pub connection: Option<Weak<PeerConnection>>,
    /// How many bytes went each way.
    pub counts: Arc<Counts>,
    ended: watch::Sender<Option<Refusal>>,
}

/// A command of one of this computer's command lines that runs on another machine.
#[derive(Debug)]
pub struct OutboundSession {
    /// Its number in this process.
    pub id: u64,
    /// The cluster it goes through.
    pub alias: ClusterAlias,
    /// The target as it was typed.
    pub target: String,
    /// What was asked for.
    pub asked: Action,
    /// When it began.
    pub since: SystemTime,
    /// The connection that it goes over.
    pub connection: Weak<PeerConnection>,
    /// How many bytes went each way.
    pub counts: Arc<Counts>,
    ended: watch::Sender<Option<Refusal>>,
}

/// The place in the list of what runs elsewhere, until dropped.
#[derive(Debug)]
pub struct OutboundGuard {
    sessions: Arc<Sessions>,
    session: Arc<OutboundSession>,
}

/// A session's place in the list, until dropped.
#[derive(Debug)]
pub struct SessionGuard {
    sessions: Arc<Sessions>,
    session: Arc<Session>,
}

impl Sessions {
    /// A number for a session that is allowed: none has it yet.
    pub fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Lists a command that is about to run, and judges it once more: what has changed between its
    /// grant and its place in the list was not told to it.
    pub fn begin(
        self: &Arc<Self>,
        cluster_state: &ClusterState,
        command: &Command,
        connection: Option<&Arc<PeerConnection>>,
        counts: Arc<Counts>,
    ) -> SessionGuard {
        let alias = cluster_state.alias();
        let session = Arc::new(Session {
            id: command.session,
            alias: alias.clone(),
            from: command.from,
            asked: command.asked.clone(),
            run_as: command.run_as.clone(),
            since: SystemTime::now(),
            rule: command.grant.rule.clone(),
            connection: connection.map(Arc::downgrade),
            counts,
            ended: watch::Sender::new(None),
        });
        self.live.lock().insert(session.id, session.clone());
        session.reauthorize(cluster_state);
        SessionGuard {
            sessions: self.clone(),
            session,
        }
    }

    /// Lists a command that another machine has accepted.
    pub fn begin_elsewhere(
        self: &Arc<Self>,
        connection: &Arc<PeerConnection>,
        target: &str,
        asked: &Action,
        counts: Arc<Counts>,
    ) -> OutboundGuard {
        let session = Arc::new(OutboundSession {
            id: self.number(),
            alias: connection.cluster_state.alias().clone(),
            target: target.to_owned(),
            asked: asked.clone(),
            since: SystemTime::now(),
            connection: Arc::downgrade(connection),
            counts,
            ended: watch::Sender::new(None),
        });
        self.elsewhere.lock().insert(session.id, session.clone());
        OutboundGuard {
            sessions: self.clone(),
            session,
        }
    }

    /// What runs elsewhere, the oldest first.
    pub fn all_elsewhere(&self) -> Vec<Arc<OutboundSession>> {
        self.elsewhere.lock().values().cloned().collect()
    }

    /// Ends the session of this number, here or elsewhere, in the name of `who`; whether there is one.
    pub fn end(&self, id: u64, who: &str) -> bool {
        let reason = Refusal::new(RefusalCode::Ended, format!("ended by {who}"));
        if let Some(session) = self.live.lock().get(&id) {
            tracing::info!(cluster = %session.alias, peer = %session.from.short(), session = id, "ended by hand: malai sessions end");
            session.end(reason);
            return true;
        }
        if let Some(session) = self.elsewhere.lock().get(&id) {
            tracing::info!(cluster = %session.alias, session = id, "a command on another machine is ended by hand: malai sessions end");
            end_first(&session.ended, reason);
            return true;
        }
        false
    }

    /// What runs here, the oldest first.
    pub fn all(&self) -> Vec<Arc<Session>> {
        self.live.lock().values().cloned().collect()
    }

    /// Judges a cluster's sessions again, under what is in force now. One that would not get the same
    /// answer (allowed, as the same user) is ended, with the reason.
    pub fn reauthorize(&self, cluster_state: &ClusterState) {
        let of_cluster = self
            .all()
            .into_iter()
            .filter(|session| session.alias == *cluster_state.alias());
        for session in of_cluster {
            session.reauthorize(cluster_state);
        }
    }
}

impl Session {
    /// Judges the session again, under what is in force now.
    pub fn reauthorize(&self, cluster_state: &ClusterState) {
        let reason = match authorize::decide_exec(cluster_state, self.from, &self.asked) {
            Ok((_, run_as)) if run_as.uid == self.run_as.uid => return,
            Ok((_, run_as)) => match &run_as.name {
                Some(name) => format!(
                    "it would run as user `{}` now",
                    malai_cluster::escape(&name.to_string_lossy())
                ),
                None => "it would run as another user now".to_owned(),
            },
            Err(refusal) => refusal.message,
        };
        let reason = format!("ended, since the configuration has changed: {reason}");
        tracing::info!(cluster = %self.alias, peer = %self.from.short(), session = self.id, "{reason}");
        self.end(Refusal::new(RefusalCode::NotAllowed, reason));
    }

    /// Ends the session, with a reason for its client.
    fn end(&self, reason: Refusal) {
        end_first(&self.ended, reason);
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

impl SessionGuard {
    /// The session.
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// Waits until the session is ended, for the reason.
    pub async fn ended(&self) -> Refusal {
        until_ended(&self.session.ended).await
    }
}

impl OutboundGuard {
    /// Waits until the session is ended, for the reason.
    pub async fn ended(&self) -> Refusal {
        until_ended(&self.session.ended).await
    }
}

impl Drop for SessionGuard {
    fn drop(&mut self) {
        self.sessions.live.lock().remove(&self.session.id);
    }
}

impl Drop for OutboundGuard {
    fn drop(&mut self) {
        self.sessions.elsewhere.lock().remove(&self.session.id);
    }
}
