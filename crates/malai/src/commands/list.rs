//! `malai list [cluster]`: the machines of this computer's clusters, whether they answer, and what this computer may do there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use malai_cluster::{
    Access, Cluster, ClusterAlias, MachineId, Targets, access, may_use_folder, may_use_service,
};
use malai_node::{
    ClusterReport, Condition, Home, LockState, Role, Settings, control, lock, verify_home,
};
use malai_wire::control::Named;
use malai_wire::ping::Pinged;
use malai_wire::status::ClusterFacts;

use crate::cli::ListArgs;
use crate::commands::ping::ask_all;
use crate::commands::reload::no_answer;
use crate::fanout::route::Backend;
use crate::output::exit::Exit;
use crate::output::list::{ListedCluster, ListedFolder, ListedMachine, ListedService, render};
use crate::output::{self, Printer};

/// At most this many machines of a cluster are pinged; for others, the daemon's knowledge is shown.
const MOST_ASKED: usize = 64;

/// How long a machine may take to answer.
const LIST_TIMEOUT: Duration = Duration::from_secs(2);

/// Lists the machines of one cluster, or of all.
pub fn run(home: &Home, args: &ListArgs, printer: &Printer) -> anyhow::Result<Exit> {
    let reports = verify_home(home, args.cluster.as_deref())?;
    let settings = Settings::load(home)?;
    let served = match lock::probe(home)? {
        LockState::Held { .. } => Some(control::facts(home).map_err(no_answer)?),
        LockState::Free => None,
    };
    let mut clusters = Vec::new();
    for report in &reports {
        if report.condition == Condition::Stray && args.cluster.is_none() {
            continue;
        }
        let by_daemon = served.as_ref().map(|status| {
            let mut all = status.clusters.iter();
            all.find(|cluster| cluster.alias == report.alias)
        });
        clusters.push(listed(report, by_daemon, &settings, args, home));
    }
    if args.json {
        printer.out(&format!("{}\n", serde_json::to_string_pretty(&clusters)?));
    } else if clusters.is_empty() {
        printer.out(&format!(
            "No clusters in {} yet: malai cluster init <alias>, or malai machine init <manager-id52> <alias>\n",
            malai_node::display_path(home.root())
        ));
    } else {
        printer.out(&render(&clusters));
        if served.is_none() {
            printer.say("no daemon is running here: start it with malai daemon");
        }
    }
    Ok(Exit::OK)
}

/// The daemon's notices about a cluster, starting with this computer's membership.
fn notices(served: &ClusterFacts) -> Vec<String> {
    let notices = served.notices.iter().map(|notice| &notice.text);
    let all = served.membership_notice.iter().chain(notices);
    all.cloned().collect()
}

/// One cluster. `by_daemon` is `None` without a daemon, and contains `None` if the daemon does not serve the cluster.
fn listed(
    report: &ClusterReport,
    by_daemon: Option<Option<&ClusterFacts>>,
    settings: &Settings,
    args: &ListArgs,
    home: &Home,
) -> ListedCluster {
    let served = by_daemon.flatten();
    let mut listed = ListedCluster {
        alias: report.alias.clone(),
        managed: report.role == Some(Role::Manager),
        revision: served.and_then(|served| served.revision),
        notices: served.map(notices).unwrap_or_default(),
        has_configuration: true,
        machines: Vec::new(),
        folders: Vec::new(),
        services: Vec::new(),
    };
    let is_unserved = by_daemon.is_some() && served.is_none();
    if is_unserved {
        let check = format!("malai rescan --check {}", report.alias);
        listed
            .notices
            .push(format!("the daemon does not serve it: {check}"));
    }
    let (Some(cluster), Some(own)) = (report.in_force(), report.own_id) else {
        listed.has_configuration = false;
        if listed.notices.is_empty() {
            listed.notices.push(match report.condition {
                Condition::Waiting => "the manager has to add this machine".to_owned(),
                _ => format!("see malai rescan --check {}", report.alias),
            });
        }
        return listed;
    };
    let is_asked = !args.no_ping && !is_unserved && cluster.machines().count() <= MOST_ASKED;
    let asked = match is_asked {
        true => ping_others(home, &report.alias, cluster, own).unwrap_or_else(|error| {
            listed.notices.push(output::error::text(&error));
            BTreeMap::new()
        }),
        false => BTreeMap::new(),
    };
    let accept = ClusterAlias::parse(&report.alias).ok();
    let accept = accept.and_then(|alias| settings.accept.of_this_computer(&alias));
    for machine in cluster.machines() {
        let known = served.and_then(|served| {
            let mut all = served.machines.iter();
            all.find(|status| status.id == machine.id())
        });
        let is_here = machine.id() == own;
        let accept = accept.as_ref().filter(|_| is_here);
        let may: Access = access(cluster, own, machine.id(), accept);
        let groups = cluster
            .groups()
            .filter(|group| cluster.members_of(group).any(|id| id == machine.id()));
        listed.machines.push(ListedMachine {
            name: machine.name().to_string(),
            id: machine.id(),
            groups: groups.map(|group| group.name().to_string()).collect(),
            is_here,
            known: known.cloned(),
            asked: asked.get(machine.name().as_str()).cloned(),
            may_run_commands: may.commands,
            may_open_shell: may.shell,
            forced: may.forced.map(|name| name.to_string()),
            may_run: may.entries.iter().map(ToString::to_string).collect(),
            user: may.user.map(|user| user.to_string()),
        });
    }
    let folders = cluster.folders().map(|folder| ListedFolder {
        name: folder.name().to_string(),
        machine: folder.machine().to_string(),
        path: folder.path().to_owned(),
        write: folder.is_writable(),
        may: may_use_folder(cluster, own, folder),
    });
    listed.folders = folders.collect();
    let services = cluster.services().map(|service| ListedService {
        name: service.name().to_string(),
        machine: service.machine().to_string(),
        address: service.upstream().to_string(),
        protocol: service.upstream().protocol(),
        may: may_use_service(cluster, own, service),
    });
    listed.services = services.collect();
    listed
}

/// Pings every other machine of a cluster; the answers by name.
fn ping_others(
    home: &Home,
    alias: &str,
    cluster: &Cluster,
    own: MachineId,
) -> anyhow::Result<BTreeMap<String, Pinged>> {
    let others = cluster.machines().filter(|machine| machine.id() != own);
    let others: Vec<Named> = others
        .map(|machine| Named {
            machine: machine.name().to_string(),
            cluster: alias.to_owned(),
        })
        .collect();
    let Some(first) = others.first() else {
        return Ok(BTreeMap::new());
    };
    // Resolving one of them opens the cluster; each is pinged by its name.
    let first = Targets::parse(&format!("{}.{}", first.machine, first.cluster), |_| None)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    let answers = runtime.block_on(async {
        let (backend, _) = Backend::open(home, &first).await?;
        let backend = Arc::new(backend);
        let mut answers = BTreeMap::new();
        ask_all(&backend, others, 1, LIST_TIMEOUT, |pinged| {
            answers.insert(pinged.machine.clone(), pinged);
        })
        .await;
        backend.close(true).await;
        anyhow::Ok(answers)
    });
    runtime.shutdown_background();
    answers
}
