//! Whether the manager and the machines can be reached: as reported by the daemon, or by searching for each one.

use std::collections::HashMap;
use std::time::Duration;

use malai_cluster::MachineId;
use malai_wire::control::{Ping, Reply, Request};
use malai_wire::ping::{PingAnswer, Pinged};
use malai_wire::status::{
    ClusterFacts, MachineFacts, MachineState, MembershipState, NetworkPath, NoticeKind,
};
use tokio::task::JoinSet;

use super::{Context, Finding, some_of};

use crate::control as client;
use crate::home::{Home, Role};
use crate::service::Service;
use crate::service::standalone::Standalone;
use crate::settings::Settings;

const CHECK: &str = "peers";

/// Machines check in every 60 seconds; one that has missed three of these is reported.
const OVERDUE_SECONDS: u64 = 180;

/// How long a machine may take to answer the daemon.
const PING_TIMEOUT: Duration = Duration::from_secs(4);

/// How long to search for a peer without a daemon.
const REACH_TIMEOUT: Duration = Duration::from_secs(5);

/// At most this many peers are searched per cluster; more would take long and tell little.
const MAX_SEARCHED: usize = 32;

pub(super) async fn check(context: &Context<'_>) -> Vec<Finding> {
    if let Some(facts) = context.answered() {
        let mut found = Vec::new();
        for cluster in &facts.clusters {
            let mut reports = context.clusters.iter();
            let report = reports.find(|report| report.alias == cluster.alias);
            let asked = ask_daemon(context.home, cluster).await;
            let role = report.and_then(|report| report.role);
            let is_broken = report.is_some_and(|report| report.errors().next().is_some());
            found.extend(by_daemon(cluster, role, is_broken, &asked));
        }
        return found;
    }
    // A daemon that does not respond uses the keys: searching beside it would use one key twice.
    match context.is_held() {
        true => Vec::new(),
        false => by_looking(context.home, &context.settings).await,
    }
}

/// The results of pinging machines just now.
type Asked = HashMap<MachineId, Pinged>;

/// Lets the daemon ping machines, starting with those that it may have lost.
async fn ask_daemon(home: &Home, cluster: &ClusterFacts) -> Asked {
    if !matches!(
        cluster.membership,
        MembershipState::Member | MembershipState::Unknown
    ) {
        return Asked::new();
    }
    let mut machines: Vec<&MachineFacts> = cluster.machines.iter().collect();
    machines.sort_by_key(|machine| machine.state == MachineState::Answering);
    let mut asking = JoinSet::new();
    for machine in machines.into_iter().take(MAX_SEARCHED) {
        let (home, id) = (home.clone(), machine.id);
        let request = Request::Ping(Ping {
            // A manager that is not listed as a machine cannot be a target.
            target: match &machine.name {
                Some(name) => format!("{name}.{}", cluster.alias),
                None => continue,
            },
            count: 1,
            timeout_ms: u32::try_from(PING_TIMEOUT.as_millis()).unwrap_or(u32::MAX),
        });
        asking.spawn_blocking(move || (id, client::ask(&home, &request)));
    }
    let mut asked = Asked::new();
    while let Some(answer) = asking.join_next().await {
        // Another check reports a daemon that does not answer.
        if let Ok((id, Ok(Some(Reply::Pinged(text))))) = answer
            && let Ok(pinged) = serde_json::from_str(&text)
        {
            asked.insert(id, pinged);
        }
    }
    asked
}

/// What the daemon knows of a cluster's peers, combined with the pings. `is_broken` says that the check of the configuration
/// has found errors in the cluster's files.
fn by_daemon(
    cluster: &ClusterFacts,
    role: Option<Role>,
    is_broken: bool,
    asked: &Asked,
) -> Vec<Finding> {
    let alias = &cluster.alias;
    if let (MembershipState::Removed | MembershipState::NotAManager, Some(notice)) =
        (cluster.membership, &cluster.membership_notice)
    {
        let finding = Finding::error(CHECK, format!("{alias}: {notice}")).because(
            "commands from here are refused, and changes of the configuration do not arrive",
        );
        return vec![finding.fix(match cluster.membership {
            MembershipState::Removed => {
                format!("malai cluster leave {alias}   # or be added again")
            }
            _ => format!("malai machine init --replace <manager-id52> {alias}"),
        })];
    }
    let mut found: Vec<Finding> = cluster
        .notices
        .iter()
        .filter(|notice| {
            let is_of_files = matches!(
                notice.kind,
                NoticeKind::Configuration | NoticeKind::NewerRevision
            );
            !(is_broken && is_of_files)
        })
        .map(|notice| {
            let text = format!("{alias}: {}", notice.text);
            match notice.kind {
                NoticeKind::DuplicateIdentity => Finding::error(CHECK, text)
                    .because("each receives answers meant for the other; peers reach sometimes one, sometimes the other")
                    .fix("malai stop   # in one of the two homes, and then: malai machine init --replace, or remove it"),
                NoticeKind::Configuration => {
                    Finding::warning(CHECK, text).fix(format!("malai rescan {alias}"))
                }
                // The text says what to do.
                _ => Finding::warning(CHECK, text),
            }
        })
        .collect();
    found.extend(cluster.waiting.iter().map(|waiting| {
        Finding::note(CHECK, format!("{alias}: {waiting}"))
            .because("compare it with what machine init printed there before you add it")
            .fix(format!("malai cluster add {alias} <name> {}", waiting.id))
    }));
    if role == Some(Role::Machine) {
        found.push(match cluster.manager_reachable_seconds_ago {
            Some(ago) if ago <= OVERDUE_SECONDS => {
                Finding::fine(CHECK, format!("{alias}: the manager answered {ago} s ago"))
            }
            seen => {
                let seen = seen.map_or_else(
                    || "since the daemon started".to_owned(),
                    |ago| format!("for {} minutes", ago / 60),
                );
                Finding::warning(CHECK, format!("{alias}: nothing was heard from the manager {seen}"))
                    .because("meanwhile, configuration changes reach this computer only through other machines")
                    .fix("malai status   # on the manager: does its daemon run, and reach the network?")
            }
        });
    }
    found.extend(presence(cluster, role, asked));
    if role == Some(Role::Manager) {
        let behind = cluster.machines.iter().filter(|machine| {
            machine.state == MachineState::Answering && machine.revision < cluster.revision
        });
        let behind: Vec<String> = behind.map(name).collect();
        if !behind.is_empty() {
            found.push(
                Finding::warning(
                    CHECK,
                    format!(
                        "{alias}: these machines answer but have an older revision: {}",
                        some_of(&behind)
                    ),
                )
                .because("they enforce the revision that they have")
                .fix(format!("malai rescan {alias}")),
            );
        }
    }
    found.extend(relay(cluster));
    let relayed = cluster
        .machines
        .iter()
        .filter(|machine| machine.path == Some(NetworkPath::Relayed));
    let relayed: Vec<String> = relayed.map(name).collect();
    if !relayed.is_empty() {
        found.push(
            Finding::note(
                CHECK,
                format!(
                    "{alias}: reached only through a relay: {}",
                    some_of(&relayed)
                ),
            )
            .because(match &cluster.obstacle {
                Some(obstacle) => format!("it is slower; {obstacle}"),
                None => {
                    "it is slower; the routers between the two do not let UDP through".to_owned()
                }
            }),
        );
    }
    found
}

/// Whether the cluster's own relay is connected.
fn relay(cluster: &ClusterFacts) -> Option<Finding> {
    let relay = cluster.relay.as_ref().filter(|relay| relay.own)?;
    let (alias, url) = (&cluster.alias, &relay.url);
    if relay.connected {
        return Some(Finding::fine(
            CHECK,
            format!("{alias}: connected to its relay {url}"),
        ));
    }
    let problem = relay.problem.as_ref();
    let problem = problem.map_or_else(String::new, |problem| format!(": {problem}"));
    Some(
        Finding::warning(CHECK, format!("{alias}: not connected to its relay {url}{problem}"))
            .because("machines in other networks cannot reach this one")
            .fix("malai relay <host>:<port>   # on the relay's host: does it run, and with which address?"),
    )
}

/// Which machines answer: by ping, or for those not pinged, by when they were last heard from.
fn presence(cluster: &ClusterFacts, role: Option<Role>, asked: &Asked) -> Vec<Finding> {
    let alias = &cluster.alias;
    let (mut silent, mut missed, mut refusing) = (Vec::new(), Vec::new(), Vec::new());
    let (mut answering, mut heard) = (0, 0);
    for machine in &cluster.machines {
        match asked.get(&machine.id).map(|pinged| pinged.answer) {
            Some(PingAnswer::Answers | PingAnswer::Here) => answering += 1,
            Some(PingAnswer::Refused) => refusing.push(name(machine)),
            Some(PingAnswer::None) => silent.push(name(machine)),
            None if role == Some(Role::Manager) => {
                match machine
                    .heard_seconds_ago
                    .is_none_or(|ago| ago > OVERDUE_SECONDS)
                {
                    true => missed.push(name(machine)),
                    false => heard += 1,
                }
            }
            // Members have no contact until one runs a command on another.
            None => {}
        }
    }
    let mut found = Vec::new();
    if answering > 0 {
        found.push(Finding::fine(
            CHECK,
            format!("{alias}: {answering} of {} machines answer", asked.len()),
        ));
    }
    if heard > 0 {
        found.push(Finding::fine(
            CHECK,
            format!(
                "{alias}: heard from {heard} of {} machines recently",
                heard + missed.len()
            ),
        ));
    }
    let look = "malai status   # on each of them: does its daemon run, and reach the network?";
    for (machines, what) in [
        (silent, "these machines do not answer:"),
        (missed, "nothing was heard recently from"),
    ] {
        if !machines.is_empty() {
            found.push(
                Finding::warning(CHECK, format!("{alias}: {what} {}", some_of(&machines)))
                    .because("they keep their configuration, and commands on them fail")
                    .fix(look),
            );
        }
    }
    if !refusing.is_empty() {
        found.push(
            Finding::warning(
                CHECK,
                format!(
                    "{alias}: these machines refuse this computer: {}",
                    some_of(&refusing)
                ),
            )
            .because("their configuration differs, and commands on them fail")
            .fix(format!("malai ping '*.{alias}'   # says why")),
        );
    }
    found
}

fn name(machine: &MachineFacts) -> String {
    let name = machine.name.as_deref().map(malai_cluster::escape);
    name.unwrap_or_else(|| machine.id.short())
}

/// Searches for the manager, and on a manager for the machines, with its own connections.
async fn by_looking(home: &Home, settings: &Settings) -> Vec<Finding> {
    // Another check reports clusters that cannot be used.
    let Ok(standalone) = Standalone::open_all(home, settings).await else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for service in standalone.services() {
        found.extend(look(service).await);
    }
    standalone.stop().await;
    found
}

async fn look(service: &Service) -> Vec<Finding> {
    let cluster_state = &service.cluster_state;
    let alias = cluster_state.alias();
    let manager = cluster_state.cluster.manager();
    let mut wanted: Vec<MachineId> = vec![manager];
    if cluster_state.role == Role::Manager {
        let names = cluster_state.config.names();
        wanted = names.map_or_else(Vec::new, |cluster| {
            cluster.machines().map(|machine| machine.id()).collect()
        });
    }
    wanted.retain(|id| *id != cluster_state.local_id);
    let left_out = wanted.len().saturating_sub(MAX_SEARCHED);
    wanted.truncate(MAX_SEARCHED);
    let mut looking = JoinSet::new();
    for id in wanted {
        let peers = service.peers.clone();
        looking.spawn(async move {
            let connection = tokio::time::timeout(REACH_TIMEOUT, peers.connection(id)).await;
            (id, matches!(connection, Ok(Ok(_))))
        });
    }
    let (mut reached, mut missed) = (Vec::new(), Vec::new());
    while let Some(Ok((id, is_reached))) = looking.join_next().await {
        let name = match id == manager {
            true => "the manager".to_owned(),
            false => cluster_state.name_of(&id).unwrap_or_else(|| id.short()),
        };
        if is_reached {
            &mut reached
        } else {
            &mut missed
        }
        .push(name);
    }
    reached.sort();
    missed.sort();
    let mut found = Vec::new();
    if !reached.is_empty() {
        found.push(Finding::fine(
            CHECK,
            format!("{alias}: reached {}", some_of(&reached)),
        ));
    }
    if !missed.is_empty() {
        found.push(
            Finding::warning(
                CHECK,
                format!(
                    "{alias}: not reached within {} s: {}",
                    REACH_TIMEOUT.as_secs(),
                    some_of(&missed)
                ),
            )
            .because("commands on them fail, and they do not exchange configurations")
            .fix("malai status   # on each of them: does its daemon run, and reach the network?"),
        );
    }
    if left_out > 0 {
        found.push(Finding::note(
            CHECK,
            format!("{alias}: {left_out} more machines were not searched for"),
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    fn facts(text: &str) -> ClusterFacts {
        serde_json::from_str(text).unwrap()
    }

    fn said(found: &[Finding]) -> Vec<(State, &str)> {
        found
            .iter()
            .map(|finding| (finding.state, finding.what.as_str()))
            .collect()
    }

    const ID: &str = "i66fo538lfl5ombdf6tcdbrabp4hmp9asv7nrffuc2im13ct4q60";

    #[test]
    fn a_machine_misses_its_manager_and_a_manager_its_machines() {
        let heard = facts(r#"{"alias": "c", "manager_reachable_seconds_ago": 7}"#);
        let silent = facts(r#"{"alias": "c", "manager_reachable_seconds_ago": 600}"#);
        let never = facts(r#"{"alias": "c"}"#);
        for (cluster, state, what) in [
            (&heard, State::Fine, "c: the manager answered 7 s ago"),
            (
                &silent,
                State::Warning,
                "c: nothing was heard from the manager for 10 minutes",
            ),
            (
                &never,
                State::Warning,
                "c: nothing was heard from the manager since the daemon started",
            ),
        ] {
            assert_eq!(
                said(&by_daemon(
                    cluster,
                    Some(Role::Machine),
                    false,
                    &Asked::new()
                )),
                [(state, what)]
            );
        }
        let machines = format!(
            r#"{{"alias": "c", "revision": 3, "machines": [
                {{"name": "web01", "id": "{ID}", "revision": 2, "heard_seconds_ago": 5, "state": "answering"}},
                {{"name": "db", "id": "{ID}", "path": "relayed"}}]}}"#
        );
        let found = by_daemon(&facts(&machines), Some(Role::Manager), false, &Asked::new());
        assert_eq!(
            said(&found),
            [
                (State::Fine, "c: heard from 1 of 2 machines recently"),
                (State::Warning, "c: nothing was heard recently from db"),
                (
                    State::Warning,
                    "c: these machines answer but have an older revision: web01"
                ),
                (State::Note, "c: reached only through a relay: db"),
            ]
        );
    }

    #[test]
    fn one_key_in_two_homes_is_an_error() {
        let notice = r#"{"kind": "duplicate-identity", "text": "x"}"#;
        let duplicate = facts(&format!(r#"{{"alias": "c", "notices": [{notice}]}}"#));
        let found = by_daemon(&duplicate, None, false, &Asked::new());
        assert_eq!(found[0].state, State::Error);
        assert!(found[0].remedy.is_some());
    }

    #[test]
    fn errors_of_files_are_left_to_the_check_of_the_files() {
        for kind in ["configuration", "newer-revision"] {
            let notice = format!(r#"{{"kind": "{kind}", "text": "x"}}"#);
            let broken = facts(&format!(r#"{{"alias": "c", "notices": [{notice}]}}"#));
            for (is_broken, expected) in [(true, 0), (false, 1)] {
                let found = by_daemon(&broken, Some(Role::Manager), is_broken, &Asked::new());
                assert_eq!(found.len(), expected, "{kind} {is_broken}");
            }
        }
    }

    #[test]
    fn what_does_not_answer_is_said_whatever_was_heard_of_it() {
        let machines = format!(
            r#"{{"alias": "c", "machines": [{{"name": "web01", "id": "{ID}", "heard_seconds_ago": 5}}]}}"#
        );
        for (answer, state, what) in [
            ("answers", State::Fine, "c: 1 of 1 machines answer"),
            (
                "none",
                State::Warning,
                "c: these machines do not answer: web01",
            ),
            (
                "refused",
                State::Warning,
                "c: these machines refuse this computer: web01",
            ),
        ] {
            let pinged = format!(r#"{{"machine": "web01", "cluster": "c", "answer": "{answer}"}}"#);
            let asked =
                Asked::from([(ID.parse().unwrap(), serde_json::from_str(&pinged).unwrap())]);
            for role in [Role::Manager, Role::Machine] {
                let found = by_daemon(&facts(&machines), Some(role), false, &asked);
                assert!(said(&found).contains(&(state, what)), "{found:#?}");
            }
        }
    }

    #[test]
    fn who_is_not_a_member_is_told_that_and_nothing_else() {
        for state in ["removed", "not-a-manager"] {
            let excluded = format!(
                r#"{{"alias": "c", "membership": "{state}", "membership_notice": "it is so", "manager_reachable_seconds_ago": 3}}"#
            );
            let found = by_daemon(&facts(&excluded), Some(Role::Machine), false, &Asked::new());
            assert_eq!(said(&found), [(State::Error, "c: it is so")]);
        }
    }
}
