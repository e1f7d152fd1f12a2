//! Dispatches a command from its target to its exit code: the same code for daemon and direct commands.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use malai_cluster::{
    Cluster, ClusterRef, Folder, MachineId, MachineName, MachineRef, Resolved, Target, Targets,
    escape, unknown_cluster,
};
use malai_wire::action::Asked;
use malai_wire::peer::exec::Action;
use malai_wire::status::MembershipState;
use tokio_util::sync::CancellationToken;

use crate::client::{self, Caller, ExecError};
use crate::cluster::authorize;
use crate::exec::child::PendingCleanup;
use crate::home::cluster_files::LoadedCluster;
use crate::os::fs::display_path;
use crate::service::{Service, local};

/// The result of a command, for the command line.
pub use malai_wire::control::{EXIT_MALAI_FAILURE, Exited as CommandResult};

/// The exit code when the reader of the output has gone: 128 + SIGPIPE.
pub const EXIT_READER_GONE: u8 = 141;

/// The message of a command line whose daemon has gone.
pub const DAEMON_GONE: &str = "the local daemon exited while the command was running; the command may or may not have finished";

/// The message when the daemon ends a session. (A command line that has gone does not receive it.)
const STOPPED: &str = "the local daemon is stopping; the command was ended";

/// The same if the machine had not accepted the command yet.
const STOPPED_EARLY: &str = "the local daemon is stopping; the command had not started";

/// Runs a command on a target. Returns its result, and what has to be ended here once the caller knows the result. `gone` is
/// cancelled when the caller goes away.
pub async fn execute(
    services: Vec<Arc<Service>>,
    target: &str,
    mut caller: Caller,
    gone: CancellationToken,
    started: impl FnOnce(),
) -> (CommandResult, Option<PendingCleanup>) {
    let found = find(&services, target).and_then(|(target, service, machine)| {
        address_folder(&target, &service, &mut caller.request.action)?;
        Ok((target, service, machine))
    });
    let (target, service, machine) = match found {
        Ok(found) => found,
        Err(message) => {
            tracing::debug!(target = %escape(target), "cannot resolve a command's target: {message}");
            return (CommandResult::failed(message), None);
        }
    };
    let name = target.to_string();
    let (cluster, begun) = (service.cluster_state.alias(), Instant::now());
    if tracing::enabled!(tracing::Level::DEBUG) {
        let shown = authorize::shown(
            &service.cluster_state,
            &Asked::Run(caller.request.action.clone()),
        );
        tracing::debug!(%cluster, target = name, "running a command: {shown}");
    }
    let mut cleanup = None;
    let has_started = AtomicBool::new(false);
    let started = || {
        has_started.store(true, Ordering::Relaxed);
        started();
    };
    let ended = if machine == service.cluster_state.local_id {
        let (ended, left) = local::run(&service.cluster_state, &name, caller, gone, started).await;
        cleanup = left;
        ended
    } else {
        tokio::select! {
            ended = client::run(&service.peers, machine, &name, caller, started) => ended,
            // Dropping the session ends its streams, which ends the command there.
            () = gone.cancelled() => {
                let why = if has_started.load(Ordering::Relaxed) { STOPPED } else { STOPPED_EARLY };
                return (CommandResult::failed(why), None);
            }
        }
    };
    let ending = match ended {
        Ok(exit) => CommandResult::exit(exit.status.exit_code()),
        Err(ExecError::ReaderGone) => CommandResult::exit(EXIT_READER_GONE),
        Err(error) => CommandResult {
            reason: error.reason(),
            ..CommandResult::failed(error.to_string())
        },
    };
    let took_ms = begun.elapsed().as_millis() as u64;
    let message = ending.message.as_deref().unwrap_or("it ended");
    tracing::debug!(%cluster, target = name, code = ending.code, took_ms, "{message}");
    (ending, cleanup)
}

/// Resolves a target to a machine and its cluster.
///
/// # Errors
///
/// What cannot be resolved.
pub(crate) fn find(
    services: &[Arc<Service>],
    target: &str,
) -> Result<(Target, Arc<Service>, MachineId), String> {
    let target = Target::parse(target).map_err(|error| error.to_string())?;
    let service = find_service(services, &target.cluster, Some(&target.machine))?;
    let machine = find_machine(service, &target)?;
    Ok((target, service.clone(), machine))
}

/// Resolves a list of targets to machines.
///
/// # Errors
///
/// What cannot be resolved; then nothing of the list is used.
pub fn resolve(services: &[Arc<Service>], targets: &Targets) -> Result<Resolved, String> {
    let find = |cluster: &ClusterRef| {
        let service = find_service(services, cluster, None)?;
        Ok((
            service.cluster_state.alias().clone(),
            (*names(service)?).clone(),
        ))
    };
    targets.resolve(find).map_err(|error| error.to_string())
}

pub(super) fn find_service<'a>(
    services: &'a [Arc<Service>],
    cluster: &ClusterRef,
    machine: Option<&MachineRef>,
) -> Result<&'a Arc<Service>, String> {
    let found = services.iter().find(|service| match cluster {
        ClusterRef::Alias(alias) => service.cluster_state.alias() == alias,
        ClusterRef::Id(id) => service.cluster_state.cluster == *id,
    });
    found.ok_or_else(|| {
        let known: Vec<_> = services
            .iter()
            .map(|service| service.cluster_state.alias().to_string())
            .collect();
        let clusters = services
            .first()
            .map(|service| &service.cluster_state.dir.path);
        let home = clusters
            .and_then(|path| path.ancestors().nth(2))
            .map(display_path);
        unknown_cluster(cluster, machine, &known, home.as_deref())
    })
}

/// The names in a cluster.
pub(super) fn names(service: &Arc<Service>) -> Result<Arc<Cluster>, String> {
    let cluster_state = &service.cluster_state;
    cluster_state.config.names().ok_or_else(|| {
        let (alias, local_id) = (cluster_state.alias(), cluster_state.local_id);
        if let (MembershipState::NotAManager, Some(notice)) = cluster_state.standing() {
            return format!("cluster `{alias}`: {notice}");
        }
        let problem = cluster_state.config.state().problem;
        problem.unwrap_or_else(|| {
            format!("cluster `{alias}` has not sent its configuration yet: on the manager, add this machine ({local_id}) to cluster.toml and run `malai rescan`")
        })
    })
}

/// The folder that a target names.
fn folder<'c>(cluster: &'c Cluster, target: &Target) -> Option<&'c Folder> {
    match &target.machine {
        MachineRef::Name(name) => cluster.folder_named(name.as_str()),
        MachineRef::Id(_) => None,
    }
}

/// Where the target is a folder: asks for the files of that folder, and for nothing else of its machine.
fn address_folder(
    target: &Target,
    service: &Arc<Service>,
    action: &mut Action,
) -> Result<(), String> {
    let cluster = names(service)?;
    let Some(folder) = folder(&cluster, target) else {
        return Ok(());
    };
    match action {
        Action::Subsystem(subsystem) => {
            *action = Action::Folder {
                folder: folder.name().to_string(),
                subsystem: std::mem::take(subsystem),
            };
            Ok(())
        }
        _ => Err(format!(
            "`{target}` is a folder, on which no commands run: copy its files with `malai cp {target}:<path> .`, sftp or sshfs"
        )),
    }
}

/// Whether this computer's own cluster.toml has a machine that it has not published.
fn is_unpublished(service: &Service, name: &MachineName) -> bool {
    let files = LoadedCluster::load(&service.cluster_state.dir);
    let draft = files.draft.as_ref();
    draft.is_some_and(|draft| draft.machine_named(name.as_str()).is_some())
}

pub(super) fn find_machine(service: &Arc<Service>, target: &Target) -> Result<MachineId, String> {
    let alias = service.cluster_state.alias();
    let cluster = names(service)?;
    match &target.machine {
        MachineRef::Id(id) if cluster.machine(id).is_some() => Ok(*id),
        MachineRef::Id(id) => Err(format!("unknown machine {id} in cluster `{alias}`")),
        MachineRef::Name(name) => cluster
            .machine_named(name.as_str())
            .or_else(|| cluster.machine_named(folder(&cluster, target)?.machine().as_str()))
            .map(|machine| machine.id())
            .ok_or_else(|| {
                if cluster.service_named(name.as_str()).is_some() {
                    return format!(
                        "`{target}` is a service, on which no commands run: `malai forward <port> {target}`"
                    );
                }
                let hint = match is_unpublished(service, name) {
                    true => Some(format!(
                        "; it is in cluster.toml, but not published yet: malai rescan {alias}"
                    )),
                    false => cluster
                        .nearest_machine(name.as_str())
                        .map(|nearest| format!("; did you mean `{nearest}.{alias}`?")),
                };
                format!(
                    "unknown machine `{}` in cluster `{alias}`{}",
                    escape(name.as_str()),
                    hint.unwrap_or_default()
                )
            }),
    }
}
