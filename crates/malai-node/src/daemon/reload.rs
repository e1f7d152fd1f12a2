//! Applies the files of the home to the running daemon: one cluster at a time, each whole or not at all.

use std::sync::Arc;
use std::time::Duration;

use malai_cluster::{ClusterAlias, MachineId, Severity, escape};
use malai_wire::control::RescanReport;
use malai_wire::{Refusal, RefusalCode};

use super::Daemon;

use crate::cluster::{authorize, load};
use crate::home::{ClusterDir, Role, Survey};
use crate::inspect::check::{self, ClusterReport};
use crate::os::fs;
use crate::service::Service;
use crate::service::distribute::{self, PushOutcome};
use crate::settings::Settings;
use crate::sync::publish::{self, Published};

/// How long `rescan` waits for machines to take a new revision up.
const RESCAN_WAIT: Duration = Duration::from_secs(10);

/// How long a starting manager whose file has changed asks members for newer revisions.
const ASK_AT_START: Duration = Duration::from_millis(1500);

impl Daemon {
    /// Applies the files: of one cluster, or of all. Each cluster is taken up as a whole or not at
    /// all, and none disturbs another.
    ///
    /// # Errors
    ///
    /// There is no such cluster, or the home cannot be read.
    pub async fn rescan(
        self: &Arc<Self>,
        only: Option<&str>,
        typed: bool,
    ) -> Result<Vec<RescanReport>, String> {
        let _one_at_a_time = self.rescanning.lock().await;
        let reports = self.rescan_all(only, typed).await?;
        for report in &reports {
            let said = report.lines.join("; ");
            match report.ok {
                true => tracing::info!(what = %report.alias, "rescanned: {said}"),
                false => tracing::error!(what = %report.alias, "not in order: {said}"),
            }
        }
        let broken = reports.iter().filter(|report| !report.ok);
        self.summarize(broken.map(|report| report.alias.clone()));
        Ok(reports)
    }

    async fn rescan_all(
        self: &Arc<Self>,
        only: Option<&str>,
        typed: bool,
    ) -> Result<Vec<RescanReport>, String> {
        let survey = self.home.survey().map_err(|error| error.to_string())?;
        let mut reports = Vec::new();
        let settings = self.apply_settings(&survey, only);
        let settings_sound = settings.as_ref().is_none_or(|report| report.ok);
        reports.extend(settings);
        if only.is_none() {
            for (path, problem) in &survey.problems {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                reports.push(report(&escape(&name), Err(problem.to_string())));
            }
        }
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
            let known = crate::inspect::check::known_clusters(only, &known);
            return Err(format!(
                "there is no cluster `{}` in {}; {known}",
                escape(only),
                self.home.root().display()
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
                        "the cluster's folder is gone",
                    ))
                    .await;
                reports.push(report(
                    alias.as_str(),
                    Ok(vec!["its folder is gone; it is served no more".into()]),
                ));
            }
        }
        let mut pushes = Vec::new();
        for dir in survey.dirs.into_iter().filter(|dir| wanted(&dir.alias)) {
            let alias = dir.alias.clone();
            let applied = self.apply(dir, typed, settings_sound).await;
            let service = self.services.lock().get(&alias).cloned();
            if let Some(service) = service
                .filter(|service| applied.is_ok() && service.cluster_state.role == Role::Manager)
            {
                pushes.push((reports.len(), service.clone(), distribute::push(&service)));
            }
            reports.push(report(alias.as_str(), applied));
        }
        let deadline = tokio::time::Instant::now() + RESCAN_WAIT;
        for (index, service, (targets, mut results)) in pushes {
            let mut left = targets;
            while let Ok(Some((machine, pushed))) =
                tokio::time::timeout_at(deadline, results.recv()).await
            {
                left.retain(|other| *other != machine);
                reports[index]
                    .lines
                    .push(pushed_line(&service, &machine, &pushed));
            }
            for machine in left {
                reports[index].lines.push(pushed_line(
                    &service,
                    &machine,
                    &PushOutcome::Unreachable(String::new()),
                ));
            }
        }
        Ok(reports)
    }

    /// Takes up `malai.toml`: all of it, or only what it accepts in one cluster. Where it is invalid,
    /// what was in force stays.
    fn apply_settings(&self, survey: &Survey, only: Option<&str>) -> Option<RescanReport> {
        const NAME: &str = "malai.toml";
        let settings = match Settings::load(&self.home) {
            Ok(settings) => settings,
            Err(error) => return Some(report(NAME, Err(error.to_string()))),
        };
        let known: Vec<ClusterAlias> = survey.dirs.iter().map(|dir| dir.alias.clone()).collect();
        let found = settings.accept.check_aliases(&known);
        let (errors, warnings): (Vec<_>, Vec<_>) = found
            .iter()
            .partition(|problem| problem.severity == Severity::Error);
        if !errors.is_empty() {
            let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
            return Some(report(NAME, Err(errors.join("\n"))));
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
            *self.aliases.lock() = settings.aliases.clone();
            if self.node.limiter.replace(settings.limits.clone()) {
                tracing::info!("other limits hold from now on");
            }
            if self.node.audit.configure(settings.audit) {
                let (required, arguments) = (settings.audit.required, settings.audit.arguments);
                tracing::info!(required, arguments, "other audit settings hold from now on");
            }
            let log = settings.log;
            if self
                .log
                .send_if_modified(|held| std::mem::replace(held, log) != log)
            {
                let (format, level) = (log.format, log.level);
                tracing::info!(?format, %level, "other log settings hold from now on");
            }
            match settings.effective_reach() {
                Ok(reach) if reach == self.node.reach => {}
                Ok(reach) => lines.push(format!(
                    "reach `{reach}` takes effect when the daemon is started anew; it serves with `{}`",
                    self.node.reach
                )),
                Err(error) => return Some(report(NAME, Err(error.to_string()))),
            }
        }
        (!lines.is_empty()).then(|| report(NAME, Ok(lines)))
    }

    /// Applies one cluster's folder: opens it if it is new, otherwise takes up what has changed.
    async fn apply(
        self: &Arc<Self>,
        dir: ClusterDir,
        typed: bool,
        settings_sound: bool,
    ) -> Result<Vec<String>, String> {
        let found = check::verify_home(&self.home, Some(dir.alias.as_str()))
            .map_err(|error| error.to_string())?;
        let broken = found
            .iter()
            .filter(|report| report.prevents_start())
            .flat_map(|report| &report.problems);
        let problems: Vec<String> = broken.map(ToString::to_string).collect();
        let mut service = self.services.lock().get(&dir.alias).cloned();
        if let Some(old) = &service
            && problems.is_empty()
            && found.iter().any(|report| is_another(report, old))
        {
            let goodbye = "this computer follows another manager now, under a new identity";
            old.stop(&Refusal::new(RefusalCode::Stopping, goodbye))
                .await;
            self.services.lock().remove(&dir.alias);
            service = None;
        }
        match (service, problems.is_empty()) {
            // What would be accepted in it is not known.
            (None, true) if !settings_sound => {
                Err("it is not taken up while malai.toml is invalid".to_owned())
            }
            (None, true) => with_warnings(self.open(dir, typed).await, &found),
            (None, false) => Err(problems.join("\n")),
            (Some(service), true) => with_warnings(rescan_one(&service, typed), &found),
            (Some(service), false) => {
                let cluster_state = &service.cluster_state;
                let alias = cluster_state.alias();
                cluster_state.config.note(|state| {
                    state.problem = Some(format!(
                        "its files are not in order; `malai rescan --check {alias}` shows how"
                    ));
                });
                let kept = cluster_state
                    .header()
                    .map(|header| format!("\nrevision {} stays in force", header.revision));
                Err(format!(
                    "{}{}",
                    problems.join("\n"),
                    kept.unwrap_or_default()
                ))
            }
        }
    }

    /// Opens one cluster; a manager's includes a rescan.
    pub(super) async fn open(
        self: &Arc<Self>,
        dir: ClusterDir,
        typed: bool,
    ) -> Result<Vec<String>, String> {
        let alias = dir.alias.clone();
        let service = Service::start(dir, self.node.clone())
            .await
            .map_err(|error| error.to_string())?;
        self.services.lock().insert(alias, service.clone());
        if service.cluster_state.role == Role::Machine {
            service.serve();
            return Ok(vec![
                "taken up; it asks the manager for its configuration".into(),
            ]);
        }
        if !typed {
            ask_for_newer(&service).await;
        }
        let published = publish::publish(&service.cluster_state, typed);
        service.serve();
        match published {
            Ok(published) => {
                drop(distribute::push(&service));
                Ok(vec![said(&published)])
            }
            Err(error) => {
                service
                    .cluster_state
                    .config
                    .note(|state| state.problem = Some(error.to_string()));
                Err(error.to_string())
            }
        }
    }
}

/// Whether the folder is about another cluster, or another identity in it, than what is served from it.
fn is_another(report: &ClusterReport, served: &Service) -> bool {
    let cluster_state = &served.cluster_state;
    report.id.is_some_and(|id| id != cluster_state.cluster)
        || report.own_id.is_some_and(|id| id != cluster_state.local_id)
        || report.role.is_some_and(|role| role != cluster_state.role)
}

/// A manager whose file has changed while no daemon ran may have been restored from a backup:
/// before it publishes by itself, members may say that they have seen newer.
async fn ask_for_newer(service: &Arc<Service>) {
    let cluster_state = &service.cluster_state;
    let path = cluster_state.dir.cluster_toml();
    let Ok(Some(text)) = fs::read_text(&path, malai_cluster::MAX_CONTENT as u64) else {
        return;
    };
    let Some(cluster) = malai_cluster::check(&path.to_string_lossy(), &text).cluster else {
        return;
    };
    let current = cluster_state.config.snapshot();
    if current
        .as_ref()
        .is_some_and(|current| current.content() == cluster.render())
    {
        return;
    }
    let mut members: Vec<MachineId> = cluster.members().collect();
    members.extend(
        current
            .iter()
            .flat_map(|current| current.cluster().members()),
    );
    members.sort();
    members.dedup();
    distribute::ask_members_for_newer(service, members.into_iter(), ASK_AT_START).await;
}

/// A cluster that is served already, and whose files are sound.
fn rescan_one(service: &Arc<Service>, typed: bool) -> Result<Vec<String>, String> {
    let cluster_state = &service.cluster_state;
    if cluster_state.role == Role::Manager {
        let published =
            publish::publish(cluster_state, typed).map_err(|error| error.to_string())?;
        cluster_state.config.note(|state| state.problem = None);
        return Ok(vec![said(&published)]);
    }
    if let Some(line) = load::restore_edited(cluster_state) {
        return Ok(vec![line]);
    }
    Ok(vec![match cluster_state.header() {
        Some(header) => format!("revision {}; only the manager changes it", header.revision),
        None => "this machine has no configuration yet; it keeps asking the manager".to_owned(),
    }])
}

/// Adds what the check warns of: it is legal, and surely not meant.
fn with_warnings(
    applied: Result<Vec<String>, String>,
    found: &[ClusterReport],
) -> Result<Vec<String>, String> {
    let warnings = found
        .iter()
        .flat_map(|report| &report.problems)
        .filter(|problem| problem.severity() == Severity::Warning);
    applied.map(|lines| {
        lines
            .into_iter()
            .chain(warnings.map(ToString::to_string))
            .collect()
    })
}

fn report(alias: &str, applied: Result<Vec<String>, String>) -> RescanReport {
    let ok = applied.is_ok();
    RescanReport {
        alias: alias.to_owned(),
        lines: applied.unwrap_or_else(|problem| vec![problem]),
        ok,
    }
}

fn said(published: &Published) -> String {
    match published {
        Published::Unchanged(revision) => format!("unchanged, revision {revision}"),
        Published::Revision(revision) => format!("published revision {revision}"),
        Published::Withheld(why) => format!("nothing published: {why}"),
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
