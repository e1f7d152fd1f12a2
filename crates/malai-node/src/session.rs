//! Commands that run on this machine now: who runs what, by which rule, and how they can be ended.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use malai_cluster::{ClusterAlias, MachineId};
use malai_wire::peer::exec::Action;
use tokio::sync::watch;

use crate::account::Account;
use crate::inbound::gate::{self, Command};
use crate::member::{Membership, lock};

/// The live sessions of a process, of all its clusters.
#[derive(Debug, Default)]
pub struct Sessions {
    next: AtomicU64,
    live: Mutex<BTreeMap<u64, Arc<Session>>>,
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
    pub account: Account,
    /// When it began.
    pub since: SystemTime,
    ended: watch::Sender<Option<String>>,
}

/// A session's place in the list, until dropped.
#[derive(Debug)]
pub struct Listed {
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
    pub fn begin(self: &Arc<Self>, membership: &Membership, command: &Command) -> Listed {
        let alias = membership.alias();
        let session = Arc::new(Session {
            id: command.session,
            alias: alias.clone(),
            from: command.from,
            asked: command.asked.clone(),
            account: command.account.clone(),
            since: SystemTime::now(),
            ended: watch::Sender::new(None),
        });
        lock(&self.live).insert(session.id, session.clone());
        session.judge_again(membership);
        Listed {
            sessions: self.clone(),
            session,
        }
    }

    /// All of them, the oldest first.
    pub fn all(&self) -> Vec<Arc<Session>> {
        lock(&self.live).values().cloned().collect()
    }

    /// Judges a cluster's sessions again, under what is in force now. One that would not get the same
    /// answer (allowed, as the same user) is ended, with the reason.
    pub fn judge_again(&self, membership: &Membership) {
        let of_cluster = self
            .all()
            .into_iter()
            .filter(|session| session.alias == *membership.alias());
        for session in of_cluster {
            session.judge_again(membership);
        }
    }
}

impl Session {
    /// Judges the session again, under what is in force now.
    pub fn judge_again(&self, membership: &Membership) {
        let reason = match gate::judge(membership, self.from, &self.asked) {
            Ok((_, account)) if account.uid == self.account.uid => return,
            Ok((_, account)) => match &account.name {
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
        self.end(reason);
    }

    /// Ends the session, with a reason for its client.
    pub fn end(&self, reason: String) {
        self.ended.send_if_modified(|ended| {
            let first = ended.is_none();
            if first {
                *ended = Some(reason);
            }
            first
        });
    }
}

impl Listed {
    /// The session.
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// Waits until the session is ended, for the reason.
    pub async fn ended(&self) -> String {
        let mut ended = self.session.ended.subscribe();
        loop {
            if let Some(reason) = ended.borrow_and_update().clone() {
                return reason;
            }
            if ended.changed().await.is_err() {
                // The sender is the session's own, which is held here.
                std::future::pending::<()>().await;
            }
        }
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        lock(&self.sessions.live).remove(&self.session.id);
    }
}
