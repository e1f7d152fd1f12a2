//! Distributes configurations to every member: a manager pushes, machines poll, and any two peers compare.

use std::sync::Arc;
use std::time::Duration;

use malai_cluster::{Header, MachineId, members_needing_update};
use malai_wire::RefusalCode;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::home::Role;
use crate::service::Service;
use crate::sync::{self, SyncError};

/// How often a machine polls the manager, before jitter.
const POLL_INTERVAL: Duration = Duration::from_secs(60);

/// How often a machine without a configuration polls at first; the interval grows.
const FIRST_POLL_INTERVAL: Duration = Duration::from_secs(5);

/// How often a machine with an invitation asks at least.
const JOINING_INTERVAL: Duration = Duration::from_secs(15);

/// How many members a starting manager asks in parallel whether they have seen a newer revision.
const MAX_PARALLEL_POLLS: usize = 64;

/// The result of a push to one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PushOutcome {
    /// It has the revision now.
    Updated,
    /// It could not be reached; it polls when it is back, or gets the revision from another member.
    Unreachable(String),
    /// It was reached but did not apply the revision.
    Refused(String),
}

/// Pushes the configuration in force to every machine that is not known to have it. The receiver gets each result as it arrives
/// and ends after the last one; the work continues if it is dropped.
pub(crate) fn push(
    service: &Arc<Service>,
) -> (
    Vec<MachineId>,
    mpsc::UnboundedReceiver<(MachineId, PushOutcome)>,
) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let cluster_state = &service.cluster_state;
    let Some(snapshot) = cluster_state.config.snapshot() else {
        return (Vec::new(), receiver);
    };
    let known = cluster_state
        .peers_seen()
        .iter()
        .map(|(id, heard)| (*id, heard.revision))
        .collect();
    let targets = members_needing_update(
        snapshot.header(),
        &known,
        snapshot.cluster().members(),
        cluster_state.local_id,
    );
    let (header, pushing) = (snapshot.header().clone(), service.clone());
    let all = targets.clone();
    let at_once = cluster_state.node.limiter.limits().concurrent_pushes as usize;
    service.spawn(async move {
        let permits = Arc::new(Semaphore::new(at_once));
        let mut pushes = JoinSet::new();
        for target in all {
            let (service, permits, sender, header) = (
                pushing.clone(),
                permits.clone(),
                sender.clone(),
                header.clone(),
            );
            pushes.spawn(async move {
                let _permit = permits.acquire().await;
                let _ = sender.send((target, push_to(&service, target, &header).await));
            });
        }
        while pushes.join_next().await.is_some() {}
    });
    (targets, receiver)
}

async fn push_to(service: &Arc<Service>, target: MachineId, header: &Header) -> PushOutcome {
    let connection = match service.peers.connection(target).await {
        Ok(connection) => connection,
        Err(error) => return PushOutcome::Unreachable(error.to_string()),
    };
    service.cluster_state.remove_pending_join(&target);
    match sync::compare(&connection).await {
        // It may have received a newer one from another peer meanwhile; the manager signed both.
        Ok(Some(theirs)) if theirs == *header || is_newer(service, &theirs, header) => {
            PushOutcome::Updated
        }
        Ok(_) => PushOutcome::Refused("it did not apply the revision".into()),
        Err(SyncError::Refused(refusal)) => {
            PushOutcome::Refused(malai_cluster::escape(&refusal.message))
        }
        Err(error) => PushOutcome::Unreachable(error.to_string()),
    }
}

fn is_newer(service: &Service, theirs: &Header, header: &Header) -> bool {
    theirs.revision > header.revision && theirs.verify(&service.cluster_state.cluster).is_ok()
}

/// Keeps a service's configuration up to date until it stops. A manager does not poll: members show it what it does not know.
pub(crate) async fn poll_loop(service: Arc<Service>) {
    if service.cluster_state.role == Role::Manager {
        return;
    }
    let mut waiting = FIRST_POLL_INTERVAL;
    loop {
        let answered = ask(&service).await;
        let pause = if answered {
            waiting = FIRST_POLL_INTERVAL;
            jittered(POLL_INTERVAL)
        } else {
            let pause = jittered(waiting);
            waiting = (waiting * 3 / 2).min(POLL_INTERVAL);
            pause
        };
        let mut news = service.cluster_state.config.watch();
        let pause = match service.cluster_state.own_invitation.is_asking() {
            true => pause.min(JOINING_INTERVAL),
            false => pause,
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = service.cluster_state.ask_now.notified() => waiting = FIRST_POLL_INTERVAL,
            // A push has arrived, so the next poll can wait its full interval.
            _ = news.changed() => waiting = FIRST_POLL_INTERVAL,
        }
    }
}

/// Polls the manager, or else a random member. Returns whether there was an answer.
async fn ask(service: &Arc<Service>) -> bool {
    let cluster_state = &service.cluster_state;
    let manager = cluster_state.cluster.manager();
    match ask_one(service, manager).await {
        Ok(()) => return true,
        Err(why) => {
            tracing::debug!(cluster = %cluster_state.alias(), "polling the manager failed: {why}")
        }
    }
    let members: Vec<MachineId> = match cluster_state.config.cluster() {
        Some(cluster) => cluster
            .members()
            .filter(|id| *id != manager && *id != cluster_state.local_id)
            .collect(),
        None => return false,
    };
    if members.is_empty() {
        return false;
    }
    let member = members[rand::random_range(0..members.len())];
    match ask_one(service, member).await {
        Ok(()) => true,
        Err(why) => {
            tracing::debug!(cluster = %cluster_state.alias(), member = %member.short(), "polling a member failed: {why}");
            false
        }
    }
}

async fn ask_one(service: &Arc<Service>, id: MachineId) -> Result<(), String> {
    let connection = service
        .peers
        .connection(id)
        .await
        .map_err(|error| error.to_string())
        .inspect_err(|why| {
            if id == service.cluster_state.cluster.manager() {
                service.cluster_state.own_invitation.unreachable(why);
            }
        })?;
    let before = service.cluster_state.header();
    let mut compared = sync::compare(&connection).await;
    if compared.is_ok() && service.cluster_state.header() != before {
        // What was fetched just now is news to its sender.
        compared = sync::compare(&connection).await;
    }
    match compared {
        Ok(_) => Ok(()),
        Err(error) => match connection.refused() {
            Some(refusal) if refusal.known_code() == Some(RefusalCode::NotAMember) => {
                Err("this machine is not in the cluster's configuration yet".into())
            }
            _ => Err(error.to_string()),
        },
    }
}

/// Before a manager publishes by itself (when it starts), it asks the members whether they have seen a newer revision: its files
/// are older then. The time is bounded, because most of them may be offline.
pub(crate) async fn ask_members_for_newer(
    service: &Arc<Service>,
    members: impl Iterator<Item = MachineId>,
    timeout: Duration,
) {
    let mut asked = JoinSet::new();
    for member in members
        .filter(|id| *id != service.cluster_state.local_id)
        .take(MAX_PARALLEL_POLLS)
    {
        let service = service.clone();
        asked.spawn(async move { ask_one(&service, member).await });
    }
    let all = async {
        while asked.join_next().await.is_some() {
            if service.cluster_state.config.state().newer.is_some() {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(timeout, all).await;
}

/// A duration between 90 % and 110 % of `pause`, so that machines do not poll in step.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::random_range(0.9..1.1))
}
