//! What a running daemon knows of its clusters and peers, for `malai status`.

use std::time::Duration;

use malai_cluster::MachineId;
use malai_wire::status::{
    ClusterFacts, MachineFacts, MachineState, NetworkPath, TWIN, WaitingFacts,
};

use crate::home::Role;
use crate::member::lock;
use crate::service::Service;

/// A peer silent for this long is shown as not answering.
const NOT_ANSWERING: Duration = Duration::from_secs(10);

pub(super) fn cluster_facts(service: &Service) -> ClusterFacts {
    let membership = &service.membership;
    let state = membership.configuration.state();
    let heard = lock(&membership.heard).clone();
    let mut members: Vec<MachineId> = membership
        .configuration
        .names()
        .map(|cluster| cluster.members().collect())
        .unwrap_or_default();
    if !members.contains(&membership.cluster.manager()) {
        members.insert(0, membership.cluster.manager());
    }
    let machines = members.iter().filter(|id| **id != membership.me).map(|id| {
        let link = service.peers.current(id);
        let heard = heard.get(id);
        MachineFacts {
            name: membership.name_of(id),
            id: *id,
            revision: heard.map(|heard| heard.revision),
            heard_seconds_ago: heard.map(|heard| heard.at.elapsed().as_secs()),
            path: link
                .as_ref()
                .and_then(|link| link.is_direct())
                .map(|direct| {
                    if direct {
                        NetworkPath::Direct
                    } else {
                        NetworkPath::Relayed
                    }
                }),
            rtt_ms: link
                .as_ref()
                .and_then(|link| link.round_trip())
                .map(|rtt| rtt.as_secs_f64() * 1000.0),
            state: match &link {
                Some(link) if link.silent_for() > NOT_ANSWERING && link.sessions() > 0 => {
                    MachineState::NotAnswering
                }
                Some(_) => MachineState::Answering,
                None => MachineState::Idle,
            },
        }
    });
    let mut notices: Vec<String> = state.problem.into_iter().chain(state.fork).collect();
    if let Some(newer) = state.newer {
        notices.push(crate::sync::newer_notice(
            membership,
            newer,
            &membership.dir.newer(),
        ));
    }
    if let Some(twin) = lock(&membership.twin).as_ref() {
        notices.push(format!(
            "{TWIN} (met at {}): a restored backup beside the original? Stop one of them",
            twin.met
        ));
    }
    if membership.role == Role::Machine && state.snapshot.is_none() {
        notices.push(format!(
            "no configuration yet: the manager has to add {} to its cluster.toml",
            membership.me
        ));
    }
    ClusterFacts {
        alias: membership.alias().to_string(),
        revision: state.snapshot.as_ref().map(|snapshot| snapshot.revision()),
        machines: machines.collect(),
        waiting: lock(&membership.waiting)
            .iter()
            .filter(|waiting| !membership.knows(&waiting.id))
            .map(|waiting| WaitingFacts {
                id: waiting.id,
                address: waiting
                    .address
                    .map_or_else(|| "a relay".into(), |address| address.to_string()),
            })
            .collect(),
        manager_reachable_seconds_ago: (membership.role == Role::Machine)
            .then(|| {
                heard
                    .get(&membership.cluster.manager())
                    .map(|heard| heard.at.elapsed().as_secs())
            })
            .flatten(),
        notices,
    }
}
