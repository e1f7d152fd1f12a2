//! The sessions of a running daemon, for `malai sessions`, and ending them by hand.

use std::sync::Weak;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use malai_wire::action::RecordedAction;
use malai_wire::sessions::{ElsewhereFacts, HereFacts, Path, SessionFacts, SessionsFacts};
use malai_wire::time::Timestamp;

use super::Daemon;

use crate::node::sessions::Live;

impl Daemon {
    /// The sessions, as JSON.
    pub fn sessions_facts(&self) -> String {
        let sessions = &self.node.sessions;
        let here = sessions.all().into_iter().map(|session| {
            let service = self.services.lock().get(&session.live.alias).cloned();
            HereFacts {
                session: facts(&session.live),
                peer: session.from,
                machine: service.and_then(|service| service.cluster_state.name_of(&session.from)),
                user: session.run_as.to_string(),
                rule: session.rule.to_string(),
            }
        });
        let elsewhere = sessions
            .all_outbound()
            .into_iter()
            .map(|session| ElsewhereFacts {
                session: facts(&session.live),
                target: session.target.clone(),
            });
        let facts = SessionsFacts {
            here: here.collect(),
            elsewhere: elsewhere.collect(),
        };
        serde_json::to_string(&facts).unwrap_or_default()
    }

    /// Ends a session by its number, on behalf of this computer's administrator: only the daemon's own user and root can reach
    /// the control socket.
    ///
    /// # Errors
    ///
    /// There is no such session.
    pub fn end_session(&self, id: u64) -> Result<(), String> {
        let sessions = &self.node.sessions;
        let alias = sessions
            .all()
            .iter()
            .find(|session| session.live.id == id)
            .map(|session| session.live.alias.clone());
        let service = alias.and_then(|alias| self.services.lock().get(&alias).cloned());
        let name = service.and_then(|service| {
            let cluster_state = &service.cluster_state;
            cluster_state.name_of(&cluster_state.local_id)
        });
        let who = match name {
            Some(name) => format!("the administrator of {name}"),
            None => "the administrator of this computer".to_owned(),
        };
        match sessions.end(id, &who) {
            true => Ok(()),
            false => Err(format!(
                "there is no session {id}; `malai sessions` lists the running ones"
            )),
        }
    }
}

fn facts(live: &Live) -> SessionFacts {
    let since_epoch = live
        .since
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let counts = &live.counts;
    let connection = live.connection.as_ref().map(Weak::upgrade);
    let path = match &connection {
        None => Path::Here,
        Some(connection) => match connection
            .as_ref()
            .and_then(|connection| connection.is_direct())
        {
            Some(true) => Path::Direct,
            Some(false) => Path::Relayed,
            None => Path::Unknown,
        },
    };
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    SessionFacts {
        id: live.id,
        cluster: live.alias.to_string(),
        action: RecordedAction::of(&live.asked, true),
        since: Timestamp(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)),
        seconds: live.since.elapsed().unwrap_or_default().as_secs(),
        path,
        address: connection
            .flatten()
            .filter(|_| path == Path::Direct)
            .and_then(|connection| connection.address())
            .map(|address| address.to_string()),
        bytes_in: count(&counts.stdin),
        bytes_out: count(&counts.stdout),
        bytes_err: count(&counts.stderr),
    }
}
