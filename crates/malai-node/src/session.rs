//! What runs now: on this machine, for whom and by which rule; and on others, for this machine's command
//! lines. How each can be ended.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::SystemTime;

use malai_cluster::{ClusterAlias, MachineId, Rule};
use malai_wire::peer::exec::Action;
use malai_wire::{Refusal, RefusalCode};
use tokio::sync::watch;

use crate::account::Account;
use crate::audit::Counts;
use crate::inbound::gate::{self, Command};
use crate::link::Link;
use crate::member::{Membership, lock};

/// The live sessions of a process, of all its clusters.
#[derive(Debug, Default)]
pub struct Sessions {
    next: AtomicU64,
    live: Mutex<BTreeMap<u64, Arc<Session>>>,
    elsewhere: Mutex<BTreeMap<u64, Arc<Elsewhere>>>,
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
    /// The rule that allowed it.
    pub rule: Rule,
    /// The connection that it came over; none from this computer itself.
    pub link: Option<Weak<Link>>,
    /// How many bytes went each way.
    pub counts: Arc<Counts>,
    ended: watch::Sender<Option<Refusal>>,
}

/// A command of one of this computer's command lines that runs on another machine.
#[derive(Debug)]
pub struct Elsewhere {
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
    pub link: Weak<Link>,
    /// How many bytes went each way.
    pub counts: Arc<Counts>,
    ended: watch::Sender<Option<Refusal>>,
}

/// The place in the list of what runs elsewhere, until dropped.
#[derive(Debug)]
pub struct ListedElsewhere {
    sessions: Arc<Sessions>,
    session: Arc<Elsewhere>,
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
    pub fn begin(
        self: &Arc<Self>,
        membership: &Membership,
        command: &Command,
        link: Option<&Arc<Link>>,
        counts: Arc<Counts>,
    ) -> Listed {
        let alias = membership.alias();
        let session = Arc::new(Session {
            id: command.session,
            alias: alias.clone(),
            from: command.from,
            asked: command.asked.clone(),
            account: command.account.clone(),
            since: SystemTime::now(),
            rule: command.grant.rule.clone(),
            link: link.map(Arc::downgrade),
            counts,
            ended: watch::Sender::new(None),
        });
        lock(&self.live).insert(session.id, session.clone());
        session.judge_again(membership);
        Listed {
            sessions: self.clone(),
            session,
        }
    }

    /// Lists a command that another machine has accepted.
    pub fn begin_elsewhere(
        self: &Arc<Self>,
        link: &Arc<Link>,
        target: &str,
        asked: &Action,
        counts: Arc<Counts>,
    ) -> ListedElsewhere {
        let session = Arc::new(Elsewhere {
            id: self.number(),
            alias: link.membership.alias().clone(),
            target: target.to_owned(),
            asked: asked.clone(),
            since: SystemTime::now(),
            link: Arc::downgrade(link),
            counts,
            ended: watch::Sender::new(None),
        });
        lock(&self.elsewhere).insert(session.id, session.clone());
        ListedElsewhere {
            sessions: self.clone(),
            session,
        }
    }

    /// What runs elsewhere, the oldest first.
    pub fn all_elsewhere(&self) -> Vec<Arc<Elsewhere>> {
        lock(&self.elsewhere).values().cloned().collect()
    }

    /// Ends the session of this number, here or elsewhere, in the name of `who`; whether there is one.
    pub fn end(&self, id: u64, who: &str) -> bool {
        let reason = Refusal::new(RefusalCode::Ended, format!("ended by {who}"));
        if let Some(session) = lock(&self.live).get(&id) {
            tracing::info!(cluster = %session.alias, peer = %session.from.short(), session = id, "ended by hand: malai sessions end");
            session.end(reason);
            return true;
        }
        if let Some(session) = lock(&self.elsewhere).get(&id) {
            tracing::info!(cluster = %session.alias, session = id, "a command on another machine is ended by hand: malai sessions end");
            end_first(&session.ended, reason);
            return true;
        }
        false
    }

    /// What runs here, the oldest first.
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

impl Listed {
    /// The session.
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// Waits until the session is ended, for the reason.
    pub async fn ended(&self) -> Refusal {
        until_ended(&self.session.ended).await
    }
}

impl ListedElsewhere {
    /// Waits until the session is ended, for the reason.
    pub async fn ended(&self) -> Refusal {
        until_ended(&self.session.ended).await
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        lock(&self.sessions.live).remove(&self.session.id);
    }
}

impl Drop for ListedElsewhere {
    fn drop(&mut self) {
        lock(&self.sessions.elsewhere).remove(&self.session.id);
    }
}
