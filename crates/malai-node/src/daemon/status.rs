//! What a running daemon knows about its clusters and peers, for `malai status`.

use std::time::Duration;

use malai_cluster::MachineId;
use malai_wire::status::{
    ClusterFacts, MachineFacts, MachineState, NetworkPath, Notice, NoticeKind, WaitingFacts,
};

use crate::home::Role;
use crate::service::Service;

/// After this much silence, a peer is shown as not answering.
const NOT_ANSWERING: Duration = Duration::from_secs(10);

/// Machines contact their manager every 60 seconds; one that has missed three of these is overdue.
const OVERDUE: Duration = Duration::from_secs(180);

pub(super) fn cluster_facts(service: &Service) -> ClusterFacts {
    let cluster_state = &service.cluster_state;
    let state = cluster_state.config.state();
    let heard = cluster_state.peers_seen();
    let mut members: Vec<MachineId> = cluster_state
        .config
        .names()
        .map(|cluster| cluster.members().collect())
        .unwrap_or_default();
    if !members.contains(&cluster_state.cluster.manager()) {
        members.insert(0, cluster_state.cluster.manager());
    }
    let is_manager = cluster_state.role == Role::Manager;
    let machines = members
        .iter()
        .filter(|id| **id != cluster_state.local_id)
        .map(|id| {
            let connection = service.peers.current(id);
            let heard = heard.get(id);
            let failure = cluster_state.failure_of(id);
            let silence = heard.map_or_else(
                || cluster_state.node.started_at.min_elapsed(),
                |heard| heard.at.elapsed(),
            );
            MachineFacts {
                name: cluster_state.name_of(id),
                id: *id,
                revision: heard.map(|heard| heard.revision),
                heard_seconds_ago: heard.map(|heard| heard.at.elapsed().as_secs()),
                path: connection
                    .as_ref()
                    .and_then(|connection| connection.is_direct())
                    .map(|direct| {
                        if direct {
                            NetworkPath::Direct
                        } else {
                            NetworkPath::Relayed
                        }
                    }),
                rtt_ms: connection
                    .as_ref()
                    .and_then(|connection| connection.round_trip())
                    .map(|rtt| rtt.as_secs_f64() * 1000.0),
                state: match &connection {
                    Some(connection)
                        if connection.silent_for() > NOT_ANSWERING && connection.sessions() > 0 =>
                    {
                        MachineState::NotAnswering
                    }
                    _ if failure.is_some() => MachineState::NotAnswering,
                    _ if is_manager && silence > OVERDUE => MachineState::NotAnswering,
                    Some(_) => MachineState::Answering,
                    None => MachineState::Idle,
                },
                failed_seconds_ago: failure
                    .as_ref()
                    .map(|failure| failure.at.elapsed().as_secs()),
                failure: failure.map(|failure| failure.why),
            }
        });
    let mut notices = Vec::new();
    let mut add = |kind, text| notices.push(Notice::new(kind, text));
    if let Some(problem) = state.problem {
        add(NoticeKind::Configuration, problem);
    }
    if let Some(fork) = state.fork {
        add(NoticeKind::Fork, fork);
    }
    if let Some(newer) = state.newer {
        let text = crate::sync::newer_notice(cluster_state, newer.revision());
        add(NoticeKind::NewerRevision, text);
    }
    if let Some(duplicate) = cluster_state.duplicate() {
        let text = format!(
            "another daemon has this identity's key (seen at {}): is it a restored backup running beside the original? Stop one of them",
            duplicate.seen_at
        );
        add(NoticeKind::DuplicateIdentity, text);
    }
    for text in cluster_state.invited.notices() {
        add(NoticeKind::Invitation, text);
    }
    let (membership, membership_notice) = cluster_state.standing();
    ClusterFacts {
        alias: cluster_state.alias().to_string(),
        revision: state.snapshot.as_ref().map(|snapshot| snapshot.revision()),
        machines: machines.collect(),
        waiting: cluster_state
            .pending_joins()
            .iter()
            .filter(|waiting| !cluster_state.is_member(&waiting.id))
            .map(|waiting| WaitingFacts {
                id: waiting.id,
                address: waiting
                    .address
                    .map_or_else(|| "a relay".into(), |address| address.to_string()),
                asked_seconds_ago: waiting.last.elapsed().as_secs(),
                former: cluster_state.former(&waiting.id),
            })
            .collect(),
        manager_reachable_seconds_ago: (cluster_state.role == Role::Machine)
            .then(|| {
                heard
                    .get(&cluster_state.cluster.manager())
                    .map(|heard| heard.at.elapsed().as_secs())
            })
            .flatten(),
        membership,
        membership_notice,
        relay: service.peers.dialer().relay(),
        obstacle: service.peers.dialer().obstacle(),
        joining: cluster_state.own_invitation.facts(),
        notices,
    }
}
