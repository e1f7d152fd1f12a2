//! Applies the files of the home to the running daemon: one cluster at a time, each completely or not at all.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use malai_cluster::{Cluster, ClusterAlias, MachineId, Severity, Snapshot, escape};
use malai_wire::control::RescanReport;
use malai_wire::{Refusal, RefusalCode};

use super::Daemon;

use crate::cluster::state::ClusterState;
use crate::cluster::{authorize, load};
use crate::home::cluster_files::{Condition, LoadedCluster, says};
use crate::home::no_such_cluster::no_such_cluster;
use crate::home::problem::Problem;
use crate::home::{Role, Survey, edit, invitations};
use crate::inspect::check::{self, ClusterReport, VerifyError};
use crate::service::Service;
use crate::service::distribute::{self, PushOutcome};
use crate::settings::{Settings, SettingsError};
use crate::sync::publish::{self, PublishError, PublishMode, Published};

/// How long `rescan` waits for machines to apply a new revision.
const RESCAN_WAIT: Duration = Duration::from_secs(10);

/// How long a manager whose file has changed asks members for newer revisions before it publishes.
const ASK_BEFORE_PUBLISHING: Duration = Duration::from_millis(1500);

/// The result for one cluster, for people and for the log.
struct Applied {
    /// The folder's name.
    alias: String,
    /// Everything, for the command line; an entry may have several lines.
    lines: Vec<String>,
    /// The problems in one line each, for the log.
    brief: Vec<String>,
    /// Whether it was applied.
    ok: bool,
}

/// Why a cluster was not applied.
struct Failure {
    lines: Vec<String>,
    brief: Vec<String>,
}

impl Failure {
    fn new(message: impl fmt::Display) -> Self {
        let message = message.to_string();
        let first = message.lines().next().unwrap_or_default().to_owned();
        Self {
            lines: vec![message],
            brief: vec![first],
        }
    }

    /// Every problem of something that cannot be served.
    fn of_problems(report: &ClusterReport) -> Self {
        Self {
            lines: report.problems.iter().map(ToString::to_string).collect(),
            brief: report.problems.iter().map(Problem::brief).collect(),
        }
    }

    /// The errors of a cluster's files, and their consequences.
    fn of_files(report: &ClusterReport, meaning: Option<String>) -> Self {
        let lines = report.errors().map(ToString::to_string);
        let brief = report.errors().map(Problem::brief);
        Self {
            lines: lines.chain(meaning.clone()).collect(),
            brief: brief.chain(meaning).collect(),
        }
    }
}

impl Applied {
    fn new(report: &ClusterReport, applied: Result<Vec<String>, Failure>) -> Self {
        let warnings = report
            .problems
            .iter()
            .filter(|problem| problem.severity() == Severity::Warning);
        let alias = escape(&report.alias);
        match applied {
            Ok(mut lines) => {
                lines.extend(warnings.clone().map(ToString::to_string));
                let brief = warnings.map(Problem::brief).collect();
                Self {
                    alias,
                    lines,
                    brief,
                    ok: true,
                }
            }
            Err(Failure { lines, brief }) => Self {
                alias,
                lines,
                brief,
                ok: false,
            },
        }
    }

    fn log(&self) {
        let alias = &self.alias;
        if self.ok {
            let done = self.lines.iter().filter(|line| !line.contains('\n'));
            let done: Vec<&str> = done.map(String::as_str).collect();
            tracing::info!(what = %alias, "rescanned: {}", done.join("; "));
            for warning in &self.brief {
                tracing::warn!(what = %alias, "{warning}");
            }
        } else {
            for error in &self.brief {
                tracing::error!(what = %alias, "{error}");
            }
        }
    }

    /// The report for a command line.
    fn report(self) -> RescanReport {
        RescanReport {
            alias: self.alias,
            lines: self.lines,
            ok: self.ok,
        }
    }
}

impl Daemon {
    /// Applies the files of one cluster, or of all. Each cluster is applied completely or not at all, and none disturbs another.
    /// With `publish_older`, a manager's file is published even if members have a newer revision.
    ///
    /// # Errors
    ///
    /// There is no such cluster, or the home cannot be read.
    pub async fn rescan(
        self: &Arc<Self>,
        only: Option<&str>,
        publish_older: bool,
    ) -> Result<Vec<RescanReport>, String> {
        let mode = match (only, publish_older) {
            (Some(_), true) => PublishMode::EvenIfOlder,
            (None, true) => {
                return Err(
                    "an older file can be published only for one cluster at a time: name the cluster".to_owned(),
                );
            }
            (_, false) => PublishMode::Current,
        };
        let is_machine = |service: &Arc<Service>| {
            let cluster_state = &service.cluster_state;
            Some(cluster_state.alias().as_str()) == only && cluster_state.role == Role::Machine
        };
        if publish_older && self.services().iter().any(is_machine) {
            return Err(
                "this computer is a machine of the cluster, and only its manager publishes"
                    .to_owned(),
            );
        }
        let _one_at_a_time = self.rescanning.lock().await;
        let applied = self.rescan_all(only, mode).await?;
        for applied in &applied {
            applied.log();
        }
        let broken = applied.iter().filter(|applied| !applied.ok);
        self.summarize(broken.map(|applied| applied.alias.clone()));
        Ok(applied.into_iter().map(Applied::report).collect())
    }

    /// Opens all clusters of a starting daemon. Returns the problems as text: the name of each cluster and its problems.
    pub(super) async fn open_all(
        self: &Arc<Self>,
        reports: Vec<ClusterReport>,
    ) -> Vec<(String, String)> {
        let mut wrong = Vec::new();
        let mut broken = Vec::new();
        for report in reports {
            let is_stray = report.condition == Condition::Stray;
            let warnings: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
            let applied = self.apply(report, PublishMode::Current, true).await;
            if is_stray {
                // It is not a cluster that was to be served.
                for warning in &applied.brief {
                    tracing::warn!(what = %applied.alias, "{warning}");
                }
                wrong.push((applied.alias, warnings.join("\n")));
            } else if !applied.ok {
                applied.log();
                broken.push(applied.alias.clone());
                wrong.push((applied.alias, applied.lines.join("\n")));
            }
        }
        self.summarize(broken.into_iter());
        wrong
    }

    async fn rescan_all(
        self: &Arc<Self>,
        only: Option<&str>,
        mode: PublishMode,
    ) -> Result<Vec<Applied>, String> {
        let survey = self.home.survey().map_err(|error| error.to_string())?;
        let mut applied = Vec::new();
        let settings = self.apply_settings(&survey, only).await;
        let settings_sound = settings.as_ref().is_none_or(|settings| settings.ok);
        applied.extend(settings);
        let known: Vec<String> = survey
            .dirs
            .iter()
            .map(|dir| dir.alias.to_string())
            .collect();
        let served: Vec<ClusterAlias> = self.services.lock().keys().cloned().collect();
        let wanted = |alias: &ClusterAlias| only.is_none_or(|only| only == alias.as_str());
        if let Some(only) = only
            && !known.iter().any(|alias| alias == only)
            && !served.iter().any(|alias| alias.as_str() == only)
        {
            return Err(no_such_cluster(
                only,
                &self.home.clusters(),
                known.iter().map(String::as_str),
            ));
        }
        for alias in served
            .iter()
            .filter(|alias| wanted(alias) && !known.iter().any(|known| known == alias.as_str()))
        {
            let gone = self.services.lock().remove(alias);
            if let Some(service) = gone {
                service
                    .stop(&Refusal::new(
                        RefusalCode::Stopping,
                        "the cluster's folder was deleted",
                    ))
                    .await;
                applied.push(Applied {
                    alias: alias.to_string(),
                    lines: vec!["its folder was deleted; it is no longer served".into()],
                    brief: Vec::new(),
                    ok: true,
                });
            }
        }
        let served: Vec<ClusterAlias> = self.services.lock().keys().cloned().collect();
        let found = match check::verify_home_serving(&self.home, only, &served) {
            Ok(found) => found,
            // Its folder was deleted, which is reported above.
            Err(VerifyError::UnknownCluster { .. }) => Vec::new(),
            Err(error) => return Err(error.to_string()),
        };
        let mut pushes = Vec::new();
        for report in found {
            // A warning suffices for something that is not a cluster, unless it was asked for.
            let is_warning = report.condition == Condition::Stray && only.is_none();
            let mut done = self.apply(report, mode, settings_sound).await;
            done.ok |= is_warning;
            let alias = ClusterAlias::parse(&done.alias).ok();
            let service = alias.and_then(|alias| self.services.lock().get(&alias).cloned());
            if let Some(service) =
                service.filter(|service| done.ok && service.cluster_state.role == Role::Manager)
            {
                pushes.push((applied.len(), service.clone(), distribute::push(&service)));
            }
            applied.push(done);
        }
        let deadline = tokio::time::Instant::now() + RESCAN_WAIT;
        for (index, service, (targets, mut results)) in pushes {
            let mut left = targets;
            while let Ok(Some((machine, pushed))) =
                tokio::time::timeout_at(deadline, results.recv()).await
            {
                left.retain(|other| *other != machine);
                applied[index]
                    .lines
                    .push(pushed_line(&service, &machine, &pushed));
            }
            for machine in left {
                applied[index].lines.push(pushed_line(
                    &service,
                    &machine,
                    &PushOutcome::Unreachable(String::new()),
                ));
            }
        }
        Ok(applied)
    }

    /// Loads `malai.toml`: all of it, or only what it accepts in one cluster. If it is invalid, the previous settings stay in
    /// force.
    async fn apply_settings(
        self: &Arc<Self>,
        survey: &Survey,
        only: Option<&str>,
    ) -> Option<Applied> {
        let failed = |problems: Vec<Problem>| Applied {
            alias: SETTINGS.to_owned(),
            lines: problems.iter().map(ToString::to_string).collect(),
            brief: problems.iter().map(Problem::brief).collect(),
            ok: false,
        };
        let settings = match Settings::load(&self.home) {
            Ok(settings) => settings,
            Err(error) => return Some(failed(settings_problems(error))),
        };
        let known: Vec<ClusterAlias> = survey.dirs.iter().map(|dir| dir.alias.clone()).collect();
        let found = settings.accept.check_aliases(&known);
        let found: Vec<Problem> = found.into_iter().map(Problem::InFile).collect();
        let (errors, warnings): (Vec<_>, Vec<_>) = found.into_iter().partition(Problem::is_error);
        if !errors.is_empty() {
            return Some(failed(errors));
        }
        let mut lines = Vec::new();
        for alias in self.node.accept_policies.replace(&settings.accept, only) {
            tracing::info!(cluster = %alias, "what this computer accepts has changed");
            lines.push(format!(
                "what this computer accepts in `{alias}` has changed"
            ));
            let service = self.services.lock().get(&alias).cloned();
            if let Some(service) = service {
                let cluster_state = &service.cluster_state;
                authorize::reauthorize_all(cluster_state);
                if let Some(cluster) = cluster_state.config.cluster() {
                    let unknown = settings.accept.check_names(&alias, &cluster);
                    lines.extend(unknown.iter().map(ToString::to_string));
                }
            }
        }
        if only.is_none() {
            lines.extend(warnings.iter().map(ToString::to_string));
            if self.node.limiter.replace(settings.limits.clone()) {
                tracing::info!("new limits are in force");
            }
            if self.node.environment.replace(&settings.environment) {
                tracing::info!("new variables are in force for commands");
            }
            if self.node.audit.configure(settings.audit) {
                let (required, arguments) = (settings.audit.required, settings.audit.arguments);
                tracing::info!(required, arguments, "new audit settings are in force");
            }
            lines.extend(self.keep_forwards(&settings.forward).await);
            let log = settings.log;
            if self
                .log
                .send_if_modified(|held| std::mem::replace(held, log) != log)
            {
                let (format, level) = (log.format, log.level);
                tracing::info!(?format, %level, "new log settings are in force");
            }
            match settings.effective_reach() {
                Ok(reach) if reach == self.node.reach => {}
                Ok(reach) => lines.push(format!(
                    "restart the daemon to apply reach `{reach}` (currently `{}`)",
                    self.node.reach
                )),
                Err(error) => return Some(failed(vec![Problem::error(error)])),
            }
        }
        (!lines.is_empty()).then(|| Applied {
            alias: SETTINGS.to_owned(),
            lines,
            brief: warnings.iter().map(Problem::brief).collect(),
            ok: true,
        })
    }

    /// Applies one cluster's folder: opens it if it is new, otherwise applies what has changed.
    async fn apply(
        self: &Arc<Self>,
        mut report: ClusterReport,
        mode: PublishMode,
        settings_sound: bool,
    ) -> Applied {
        let Some(files) = report.files.take() else {
            return Applied::new(&report, Err(Failure::of_problems(&report)));
        };
        let alias = files.dir.alias.clone();
        let mut service = self.services.lock().get(&alias).cloned();
        if let Some(old) = &service
            && files.is_servable()
            && is_another(&report, old)
        {
            let goodbye = "this computer now follows another manager, under a new identity";
            old.stop(&Refusal::new(RefusalCode::Stopping, goodbye))
                .await;
            self.services.lock().remove(&alias);
            service = None;
        }
        let applied = match service {
            Some(service) => rescan_one(&service, &files, &report, mode).await,
            None if !files.is_servable() => Err(Failure::of_problems(&report)),
            // It is not known what would be accepted in it.
            None if !settings_sound => {
                Err(Failure::new("it is not served while malai.toml is invalid"))
            }
            None => self.open(&files, &report, mode).await,
        };
        Applied::new(&report, applied)
    }

    /// Opens one cluster. For a manager, this includes a rescan.
    async fn open(
        self: &Arc<Self>,
        files: &LoadedCluster,
        report: &ClusterReport,
        mode: PublishMode,
    ) -> Result<Vec<String>, Failure> {
        let service = Service::start_loaded(files, self.node.clone())
            .await
            .map_err(Failure::new)?;
        self.services
            .lock()
            .insert(files.dir.alias.clone(), service.clone());
        if service.cluster_state.role == Role::Machine {
            service.serve();
            return Ok(vec![
                "loaded; requesting its configuration from the manager".into(),
            ]);
        }
        let published = rescan_one(&service, files, report, mode).await;
        service.serve();
        if published.is_ok() {
            drop(distribute::push(&service));
        }
        published
    }
}

/// The name under which `malai.toml` is reported.
const SETTINGS: &str = "malai.toml";

/// Whether the folder belongs to another cluster, or another identity in it, than the one being served from it.
fn is_another(report: &ClusterReport, served: &Service) -> bool {
    let cluster_state = &served.cluster_state;
    report.id.is_some_and(|id| id != cluster_state.cluster)
        || report.own_id.is_some_and(|id| id != cluster_state.local_id)
        || report.role.is_some_and(|role| role != cluster_state.role)
}

/// Applies the files of a served cluster.
async fn rescan_one(
    service: &Arc<Service>,
    files: &LoadedCluster,
    report: &ClusterReport,
    mode: PublishMode,
) -> Result<Vec<String>, Failure> {
    let cluster_state = &service.cluster_state;
    if report.condition == Condition::Broken {
        let alias = cluster_state.alias();
        cluster_state.config.note(|state| {
            state.problem = Some(format!(
                "its files have errors, so changes in them are not applied; see `malai rescan --check {alias}`"
            ));
        });
        let kept = cluster_state
            .header()
            .map(|header| format!("revision {} stays in force", header.revision));
        return Err(Failure::of_files(report, kept));
    }
    if cluster_state.role == Role::Machine {
        if cluster_state.own_invitation.load(&files.dir) {
            cluster_state.ask_now.notify_one();
            return Ok(vec!["asking the manager with the invitation".to_owned()]);
        }
        if let Some(line) = load::restore_edited(cluster_state, files) {
            return Ok(vec![line]);
        }
        return Ok(vec![match cluster_state.header() {
            Some(header) => format!("revision {}; only the manager changes it", header.revision),
            None => "this machine has no configuration yet; it keeps asking the manager".to_owned(),
        }]);
    }
    let _publishing = cluster_state.publishing.lock().await;
    let reloaded = reloaded(cluster_state, files);
    let files = reloaded.as_ref().unwrap_or(files);
    let Some(draft) = &files.draft else {
        return Err(Failure::of_files(report, None));
    };
    publish::notice_restored(cluster_state, files);
    if let Some(in_force) = cluster_state.config.cluster() {
        invitations::finish_uses(&files.dir, &in_force);
    }
    if mode == PublishMode::Current {
        ask_for_newer(service, draft).await;
    }
    let published = publish::publish(cluster_state, draft, mode);
    if published.is_ok() {
        invitations::finish_uses(&files.dir, draft);
    }
    cluster_state.config.note(|state| {
        state.problem = match &published {
            // What members have is reported separately.
            Ok(_) | Err(PublishError::Behind(_)) => None,
            Err(error) => Some(error.to_string()),
        };
    });
    published
        .map(|published| vec![said(&published)])
        .map_err(Failure::new)
}

/// The files of a manager, read again if a machine with an invitation has changed them since.
fn reloaded(cluster_state: &ClusterState, files: &LoadedCluster) -> Option<LoadedCluster> {
    let in_force = cluster_state.header().map(|header| header.revision);
    let stored = files.snapshot.as_ref().map(Snapshot::revision);
    let source = edit::read(&files.dir.cluster_toml()).ok();
    (source != files.source || in_force > stored).then(|| LoadedCluster::load(&files.dir))
}

/// A manager whose file was changed while no daemon ran may have been restored from a backup. Before it publishes for
/// the first time, it asks members whether they have seen a newer revision.
async fn ask_for_newer(service: &Arc<Service>, draft: &Cluster) {
    let current = service.cluster_state.config.snapshot();
    if current.as_ref().is_some_and(|current| says(draft, current))
        || service.has_asked_for_newer.swap(true, Ordering::Relaxed)
    {
        return;
    }
    let mut members: Vec<MachineId> = draft.members().collect();
    members.extend(
        current
            .iter()
            .flat_map(|current| current.cluster().members()),
    );
    members.sort();
    members.dedup();
    distribute::ask_members_for_newer(service, members.into_iter(), ASK_BEFORE_PUBLISHING).await;
}

/// The problems of `malai.toml`.
fn settings_problems(error: SettingsError) -> Vec<Problem> {
    match error {
        SettingsError::Invalid(found) => found.into_iter().map(Problem::InFile).collect(),
        error => vec![Problem::error(error)],
    }
}

fn said(published: &Published) -> String {
    match published {
        Published::Unchanged(revision) => format!("unchanged, revision {revision}"),
        Published::Revision(revision) => format!("published revision {revision}"),
        Published::Adopted(revision) => {
            format!(
                "revision {revision} is in force here again: the file matches what members have"
            )
        }
    }
}

fn pushed_line(service: &Service, machine: &MachineId, pushed: &PushOutcome) -> String {
    let name = service
        .cluster_state
        .name_of(machine)
        .unwrap_or_else(|| machine.short());
    match pushed {
        PushOutcome::Updated => format!("{name}: updated"),
        PushOutcome::Unreachable(_) => format!("{name}: unreachable (it will get it later)"),
        PushOutcome::Refused(why) => format!("{name}: refused: {why}"),
    }
}
