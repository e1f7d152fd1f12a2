//! Checks a whole home without a daemon: for `malai rescan --check`, `malai status` and a daemon's start.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use malai_cluster::{
    Cluster, ClusterAlias, ClusterId, Diagnostic, MAX_CONTENT, MachineId, Severity, Snapshot,
    check, escape, nearest,
};
use serde::Serialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::home::manager_file::{self, ManagerFile};
use crate::home::{ClusterDir, Home, HomeError, Role, keystore};
use crate::os::fs::{self, display_path};
use crate::settings::{Settings, SettingsError};

/// Largest `machine.toml` that is read, in bytes: the content and its comment line.
pub(crate) const MAX_MACHINE_TOML: u64 = MAX_CONTENT as u64 + 4096;

/// How a cluster is, as far as its files tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// It can be served.
    Sound,
    /// This computer has its identity and no configuration yet.
    Waiting,
    /// `machine.toml` cannot be used. The daemon starts, denies everything in this cluster and fetches it again.
    Damaged,
    /// Something that only a person can mend. The daemon does not start.
    Broken,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Problem {
    /// At a place in a file.
    InFile(Diagnostic),
    /// With a file or folder as a whole.
    Whole {
        /// How bad it is.
        severity: Severity,
        /// What is wrong and what to do about it.
        message: String,
    },
}

impl Problem {
    fn error(message: impl fmt::Display) -> Problem {
        Problem::Whole {
            severity: Severity::Error,
            message: message.to_string(),
        }
    }

    /// In one line, for the log.
    pub fn brief(&self) -> String {
        match self {
            Problem::InFile(found) => format!(
                "{}:{}:{}: {}",
                escape(&found.file),
                found.line,
                found.column,
                escape(&found.message)
            ),
            Problem::Whole { message, .. } => escape(message),
        }
    }

    /// How bad it is.
    pub fn severity(&self) -> Severity {
        match self {
            Problem::InFile(diagnostic) => diagnostic.severity,
            Problem::Whole { severity, .. } => *severity,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::InFile(diagnostic) => diagnostic.fmt(f),
            Problem::Whole { severity, message } => write!(f, "{severity}: {}", escape(message)),
        }
    }
}

/// What the check of one cluster found.
#[derive(Debug, Clone, Serialize)]
pub struct ClusterReport {
    /// The folder's name, which is the alias where it can be one.
    pub alias: String,
    /// The folder.
    pub path: PathBuf,
    /// What this computer is in the cluster.
    pub role: Option<Role>,
    /// The cluster, by its manager's key.
    pub id: Option<ClusterId>,
    /// This computer's key in it.
    pub own_id: Option<MachineId>,
    /// How it is.
    pub condition: Condition,
    /// How many `[machine.*]` sections the configuration has, where they can be counted.
    pub machines: Option<usize>,
    /// The revision of `machine.toml`, where there is a sound one.
    pub revision: Option<u64>,
    /// Everything that is wrong.
    pub problems: Vec<Problem>,
    /// The configuration, where it is sound: `cluster.toml`'s or `machine.toml`'s.
    #[serde(skip)]
    pub cluster: Option<Cluster>,
}

impl ClusterReport {
    fn new(alias: &str, path: &Path) -> ClusterReport {
        ClusterReport {
            alias: alias.to_owned(),
            path: path.to_path_buf(),
            role: None,
            id: None,
            own_id: None,
            condition: Condition::Sound,
            machines: None,
            revision: None,
            problems: Vec::new(),
            cluster: None,
        }
    }

    /// Whether nothing keeps it from being served, now or once its first configuration has come.
    pub fn is_sound(&self) -> bool {
        matches!(self.condition, Condition::Sound | Condition::Waiting)
    }

    /// Whether a daemon refuses to start because of it.
    pub fn prevents_start(&self) -> bool {
        self.condition == Condition::Broken
    }

    /// How many problems of this severity there are.
    pub fn count(&self, severity: Severity) -> usize {
        let of_it = |problem: &&Problem| problem.severity() == severity;
        self.problems.iter().filter(of_it).count()
    }

    fn breaks(&mut self, problem: impl fmt::Display) {
        self.condition = Condition::Broken;
        self.problems.push(Problem::error(problem));
    }
}

/// Why a home cannot be checked.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// There is no cluster of the name that was asked for.
    #[error(
        "there is no cluster {} in {}; {}",
        escape(name),
        display_path(clusters),
        known_clusters(name, known)
    )]
    UnknownCluster {
        /// The name asked for.
        name: String,
        /// The folder that was looked in.
        clusters: PathBuf,
        /// The clusters there are.
        known: Vec<String>,
    },
    /// The home cannot be read.
    #[error(transparent)]
    Home(#[from] HomeError),
}

/// What is said of a name that no cluster has.
pub(crate) fn known_clusters(name: &str, known: &[String]) -> String {
    if known.is_empty() {
        return "there is none at all yet: `malai cluster init <alias>` makes one".to_owned();
    }
    let near = nearest(name, known.iter().map(String::as_str));
    let near = near.map(|near| format!("; did you mean {}?", escape(near)));
    let known: Vec<_> = known.iter().map(|name| escape(name)).collect();
    format!(
        "there are: {}{}",
        known.join(", "),
        near.unwrap_or_default()
    )
}

/// Checks every cluster of a home, or the one with this alias, in the order of their aliases.
///
/// Whoever wants to know whether a daemon could start asks each report's [`ClusterReport::prevents_start`],
/// and [`verify_settings`].
///
/// # Errors
///
/// When the home cannot be read, or there is no cluster of that name.
pub fn verify_home(home: &Home, only: Option<&str>) -> Result<Vec<ClusterReport>, VerifyError> {
    let survey = home.survey()?;
    let mut first_alias = BTreeMap::new();
    let mut known = Vec::new();
    let mut reports = Vec::new();
    for dir in &survey.dirs {
        known.push(dir.alias.to_string());
        // Found out for every folder, since the one that was asked for may be another's double.
        let identity = manager_file::identify(dir).ok().map(|(_, id)| id);
        let duplicate = identity.and_then(|id| match first_alias.get(&id) {
            Some(first) => Some(ClusterAlias::clone(first)),
            None => {
                first_alias.insert(id, dir.alias.clone());
                None
            }
        });
        if only.is_some_and(|only| only != dir.alias.as_str()) {
            continue;
        }
        let mut report = verify_cluster(dir);
        if let Some(duplicate) = duplicate {
            report.breaks(format_args!(
                "{} and {} are the same cluster, and a home is in a cluster once only; move one of the folders out of clusters/",
                dir.alias, duplicate
            ));
        }
        reports.push(report);
    }
    for (path, problem) in survey.problems {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if only.is_some_and(|only| only != name) {
            continue;
        }
        let mut report = ClusterReport::new(&name, &path);
        report.breaks(problem);
        reports.push(report);
    }
    match only {
        Some(name) if reports.is_empty() => Err(VerifyError::UnknownCluster {
            name: name.to_owned(),
            clusters: home.clusters(),
            known,
        }),
        _ => Ok(reports),
    }
}

/// Every problem in `malai.toml`, given what was found of the clusters; none where there is no such
/// file. What it accepts is held against those clusters that are sound.
pub fn verify_settings(home: &Home, clusters: &[ClusterReport]) -> Vec<Problem> {
    match Settings::load(home) {
        Ok(settings) => {
            let known = home.survey().map(|survey| {
                let aliases = survey.dirs.into_iter().map(|dir| dir.alias);
                aliases.collect::<Vec<_>>()
            });
            let accept = &settings.accept;
            // A home that cannot be looked at is reported where its clusters are.
            let mut found = known.map_or_else(|_| Vec::new(), |known| accept.check_aliases(&known));
            for report in clusters {
                if let (Ok(alias), Some(cluster)) =
                    (ClusterAlias::parse(&report.alias), &report.cluster)
                {
                    found.extend(accept.check_names(&alias, cluster));
                }
            }
            found.sort_by_key(|problem| (problem.severity, problem.line, problem.column));
            found.into_iter().map(Problem::InFile).collect()
        }
        Err(SettingsError::Invalid(diagnostics)) => {
            diagnostics.into_iter().map(Problem::InFile).collect()
        }
        Err(error) => vec![Problem::error(error)],
    }
}

/// Checks the files of one cluster.
pub(crate) fn verify_cluster(dir: &ClusterDir) -> ClusterReport {
    let mut report = ClusterReport::new(dir.alias.as_str(), &dir.path);
    match dir.role() {
        Ok(role) => {
            report.role = Some(role);
            match role {
                Role::Manager => verify_managed(dir, &mut report),
                Role::Machine => verify_machine(dir, &mut report),
            }
        }
        Err(error) => report.breaks(error),
    }
    report
}

fn verify_managed(dir: &ClusterDir, report: &mut ClusterReport) {
    match keystore::load(&dir.cluster_key()) {
        Ok(seed) => {
            report.own_id = Some(seed.id());
            report.id = Some(ClusterId::new(seed.id()));
        }
        Err(error) => report.breaks(error),
    }
    let path = dir.cluster_toml();
    let source = match fs::read_text(&path, MAX_CONTENT as u64) {
        Ok(Some(source)) => source,
        Ok(None) => return report.breaks(format_args!("{} is missing", display_path(&path))),
        Err(error) => return report.breaks(error),
    };
    let file = path.to_string_lossy();
    let checked = check(&file, &source);
    if checked.cluster.is_none() {
        report.condition = Condition::Broken;
    }
    let problems = checked.diagnostics.into_iter().map(Problem::InFile);
    report.problems.extend(problems);
    let (document, _) = DeTable::parse_recoverable(&source);
    report.machines = Some(count_machines(document.get_ref()));
    if let Some(problem) = foreign_id(&file, &source, document.get_ref(), report.own_id) {
        report.condition = Condition::Broken;
        report.problems.push(Problem::InFile(problem));
    }
    if report.condition == Condition::Sound {
        report.cluster = checked.cluster;
    }
}

fn verify_machine(dir: &ClusterDir, report: &mut ClusterReport) {
    match keystore::load(&dir.machine_key()) {
        Ok(seed) => report.own_id = Some(seed.id()),
        Err(error) => report.breaks(error),
    }
    let cluster = match ManagerFile::load(dir) {
        Ok(manager) => manager.cluster,
        Err(error) => return report.breaks(error),
    };
    report.id = Some(cluster);
    let path = dir.machine_toml();
    let snapshot = match fs::read_text(&path, MAX_MACHINE_TOML) {
        Ok(None) => {
            if report.condition == Condition::Sound {
                report.condition = Condition::Waiting;
            }
            return;
        }
        Ok(Some(text)) => Snapshot::from_file(&cluster, &text)
            .map_err(|error| format!("{}: {error}", display_path(&path))),
        Err(error) => Err(error.to_string()),
    };
    match snapshot {
        Ok(snapshot) => {
            report.revision = Some(snapshot.revision());
            report.machines = Some(snapshot.cluster().machines().count());
            report.cluster = Some(Cluster::clone(snapshot.cluster()));
        }
        Err(reason) => {
            if report.condition == Condition::Sound {
                report.condition = Condition::Damaged;
            }
            report.problems.push(Problem::error(format_args!(
                "{reason} (until it is fetched again, everything is denied in this cluster; `malai daemon` fetches it)"
            )));
        }
    }
}

/// How many `[machine.*]` sections there are, in a document that need not be valid otherwise.
fn count_machines(document: &DeTable<'_>) -> usize {
    document
        .get("machine")
        .and_then(|machines| machines.get_ref().as_table())
        .map_or(0, |machines| machines.len())
}

/// The problem of a `[cluster_manager]` that names another key than the one in the key file.
fn foreign_id(
    file: &str,
    source: &str,
    document: &DeTable<'_>,
    own_id: Option<MachineId>,
) -> Option<Diagnostic> {
    let own_id = own_id?;
    let manager = ["cluster_manager", "cluster-manager"]
        .iter()
        .find_map(|name| document.get(*name))?;
    let written: &Spanned<DeValue<'_>> = manager.get_ref().as_table()?.get("id52")?;
    // A text that is no id52 is the check's to report.
    let id = MachineId::parse(written.get_ref().as_str()?).ok()?;
    if id == own_id {
        return None;
    }
    Some(Diagnostic::at(
        Severity::Error,
        file,
        source,
        written.span(),
        "this is not the id52 of the key in cluster.private-key",
        Some(format!(
            "write \"{own_id}\" here, or restore the key file that belongs to this configuration"
        )),
    ))
}

#[cfg(test)]
mod tests;
