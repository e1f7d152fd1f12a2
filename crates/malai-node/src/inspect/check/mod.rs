//! Checks a whole home without a daemon: for `malai rescan --check`, `malai status` and the start of a daemon.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use malai_cluster::{Cluster, ClusterAlias, ClusterId, MachineId, Severity, Snapshot};
use serde::Serialize;

use crate::home::cluster_files::LoadedCluster;
use crate::home::no_such_cluster::no_such_cluster;
use crate::home::{ClusterDir, Home, HomeError, Role, manager_file};
use crate::inspect::unpublished::changes_in;
use crate::settings::{Settings, SettingsError};

pub use crate::home::cluster_files::Condition;
pub use crate::home::problem::Problem;

/// The result of checking one cluster.
#[derive(Debug, Serialize)]
pub struct ClusterReport {
    /// The folder's name, which is the alias if it is valid.
    pub alias: String,
    /// The folder.
    pub path: PathBuf,
    /// This computer's role in the cluster.
    pub role: Option<Role>,
    /// The cluster, by its manager's key.
    pub id: Option<ClusterId>,
    /// This computer's key in it.
    pub own_id: Option<MachineId>,
    /// Its condition.
    pub condition: Condition,
    /// Whether a daemon can serve it.
    pub servable: bool,
    /// How many `[machine.*]` sections the configuration has, if they can be counted.
    pub machines: Option<usize>,
    /// The revision published or received last, if it is valid.
    pub revision: Option<u64>,
    /// Every problem.
    pub problems: Vec<Problem>,
    /// The files that were read. `None` for something that is not a cluster's folder.
    #[serde(skip)]
    pub(crate) files: Option<LoadedCluster>,
}

impl ClusterReport {
    /// Whether `cluster.toml` has changes that are not published yet, as far as is known.
    pub(crate) fn has_unpublished(&self) -> bool {
        let changes = self.files.as_ref().and_then(changes_in);
        changes.is_some_and(|changes| !changes.is_empty())
    }
}

impl From<LoadedCluster> for ClusterReport {
    fn from(files: LoadedCluster) -> Self {
        Self {
            alias: files.dir.alias.to_string(),
            path: files.dir.path.clone(),
            role: files.role,
            id: files.id,
            own_id: files.own_id(),
            condition: files.condition,
            servable: files.is_servable(),
            machines: files.machines,
            revision: files.snapshot.as_ref().map(Snapshot::revision),
            problems: files.problems.clone(),
            files: Some(files),
        }
    }
}

impl ClusterReport {
    /// The report on something in `clusters/` that is not a cluster's folder.
    fn unusable(path: &Path, error: &HomeError) -> Self {
        let is_stray = error.is_stray();
        let name = path.file_name().unwrap_or_default();
        Self {
            alias: name.to_string_lossy().into_owned(),
            path: path.to_path_buf(),
            role: None,
            id: None,
            own_id: None,
            condition: if is_stray {
                Condition::Stray
            } else {
                Condition::Broken
            },
            servable: false,
            machines: None,
            revision: None,
            problems: vec![if is_stray {
                Problem::warning(error)
            } else {
                Problem::error(error)
            }],
            files: None,
        }
    }

    /// Whether nothing has to be fixed: it can be served, now or once its first configuration has arrived, or it is not a
    /// cluster at all.
    pub fn is_sound(&self) -> bool {
        matches!(
            self.condition,
            Condition::Sound | Condition::Waiting | Condition::Stray
        )
    }

    /// The configuration, if it is valid: that of `cluster.toml` or `machine.toml`.
    pub fn cluster(&self) -> Option<&Cluster> {
        self.files.as_ref()?.configuration()
    }

    /// The configuration that commands use: the revision published or received last; on a manager that has published nothing,
    /// its file.
    pub fn in_force(&self) -> Option<&Cluster> {
        let files = self.files.as_ref()?;
        let revision = files.snapshot.as_ref();
        revision
            .map(|revision| &**revision.cluster())
            .or_else(|| files.configuration())
    }

    /// The number of machines: those of the file if it is valid, else those of the configuration in force, else the sections
    /// that can be counted in the file.
    pub fn count_machines(&self) -> Option<usize> {
        let known = self.cluster().or_else(|| self.in_force());
        known.map_or(self.machines, |cluster| Some(cluster.machines().count()))
    }

    /// Whether the folder belongs to a cluster that another folder of the home is served for.
    pub(crate) fn is_double(&self) -> bool {
        self.files.as_ref().is_some_and(|files| files.is_double)
    }

    /// Everything that has to be fixed.
    pub fn errors(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter().filter(|problem| problem.is_error())
    }

    /// The number of problems with this severity.
    pub fn count(&self, severity: Severity) -> usize {
        let of_it = |problem: &&Problem| problem.severity() == severity;
        self.problems.iter().filter(of_it).count()
    }
}

/// Why a home cannot be checked.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// There is no cluster with the given name.
    #[error(
        "{}",
        no_such_cluster(name, clusters, known.iter().map(String::as_str))
    )]
    UnknownCluster {
        /// The name asked for.
        name: String,
        /// The folder that was searched.
        clusters: PathBuf,
        /// The existing clusters.
        known: Vec<String>,
    },
    /// The home cannot be read.
    #[error(transparent)]
    Home(#[from] HomeError),
}

/// Checks every cluster of a home, or the one with this alias, in the order of their aliases.
///
/// Two folders can belong to the same cluster, for instance after a copy. Only one of them can be served: one in
/// `served`, else the one with the newest revision, else the first.
///
/// # Errors
///
/// The home cannot be read, or there is no cluster with that name.
pub(crate) fn verify_home_serving(
    home: &Home,
    only: Option<&str>,
    served: &[ClusterAlias],
) -> Result<Vec<ClusterReport>, VerifyError> {
    let survey = home.survey()?;
    let is_wanted = |name: &str| only.is_none_or(|only| only == name);
    let mut known = Vec::new();
    // Every folder is examined, because the requested one may duplicate another.
    let mut folders: BTreeMap<ClusterId, Vec<&ClusterDir>> = BTreeMap::new();
    for dir in &survey.dirs {
        known.push(dir.alias.to_string());
        if let Ok((_, id)) = manager_file::identify(dir) {
            folders.entry(id).or_default().push(dir);
        }
    }
    let mut reports = Vec::new();
    for dir in survey
        .dirs
        .iter()
        .filter(|dir| is_wanted(dir.alias.as_str()))
    {
        let mut files = LoadedCluster::load(dir);
        if let Some(id) = files.id
            && let Some(chosen) = chosen(&folders[&id], served)
            && chosen.alias != dir.alias
        {
            // What else is wrong with its files has no effect.
            files.problems.clear();
            files.breaks(format_args!(
                "{} and {} are the same cluster, and a home can be in a cluster only once; {0} is not served: move it out of clusters/",
                dir.alias, chosen.alias
            ));
            files.is_double = true;
        }
        reports.push(files.into());
    }
    for (path, error) in &survey.problems {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if is_wanted(&name) {
            reports.push(ClusterReport::unusable(path, error));
        }
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

/// As [`verify_home_serving`], for a home without a daemon that serves any of them.
///
/// # Errors
///
/// As there.
pub fn verify_home(home: &Home, only: Option<&str>) -> Result<Vec<ClusterReport>, VerifyError> {
    verify_home_serving(home, only, &[])
}

/// Which of several folders of one cluster is served. There is at least one.
fn chosen<'a>(dirs: &[&'a ClusterDir], served: &[ClusterAlias]) -> Option<&'a ClusterDir> {
    if let [only] = dirs {
        return Some(only);
    }
    let rank = |dir: &ClusterDir| {
        let snapshot = LoadedCluster::load_in_force(dir).snapshot;
        let revision = snapshot.as_ref().map(Snapshot::revision);
        (
            served.contains(&dir.alias),
            revision,
            Reverse(dir.alias.clone()),
        )
    };
    dirs.iter().copied().max_by_key(|dir| rank(dir))
}

/// Every problem in `malai.toml`; none if there is no such file. What it accepts is compared with those clusters whose
/// configuration is valid.
pub fn verify_settings(home: &Home, clusters: &[ClusterReport]) -> Vec<Problem> {
    match Settings::load(home) {
        Ok(settings) => {
            let known = home.survey().map(|survey| {
                let aliases = survey.dirs.into_iter().map(|dir| dir.alias);
                aliases.collect::<Vec<_>>()
            });
            let accept = &settings.accept;
            // A home that cannot be read is reported with its clusters.
            let mut found = known.map_or_else(|_| Vec::new(), |known| accept.check_aliases(&known));
            for report in clusters {
                if let (Ok(alias), Some(cluster)) =
                    (ClusterAlias::parse(&report.alias), report.cluster())
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

#[cfg(test)]
mod tests;
