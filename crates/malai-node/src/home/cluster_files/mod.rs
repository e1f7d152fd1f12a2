//! The one loader of a cluster's files: the content of its folder and every problem, as data. Callers decide what to report
//! and what to serve.

use std::fmt;
use std::path::Path;

use malai_cluster::{
    Cluster, ClusterId, Diagnostic, MAX_CONTENT, MachineId, SecretSeed, Severity, Snapshot,
    changes, check,
};
use serde::Serialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keystore::{self, quoted};
use super::manager_file::ManagerFile;
use super::problem::Problem;
use super::{ClusterDir, Role};
use crate::os::fs::{self, display_path};

/// The maximum size of a snapshot file in bytes: the content and its comment line.
pub(crate) const MAX_SNAPSHOT_FILE: u64 = MAX_CONTENT as u64 + 4096;

/// The name of the copy of a cluster.toml that a member's revision replaces.
const OLD: &str = "cluster.toml.old";

/// How many differences between two configurations are listed.
const MAX_CHANGES: usize = 40;

/// The condition of a cluster, judging by its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// It can be served.
    Sound,
    /// This computer has its identity but no configuration yet.
    Waiting,
    /// Members have a newer revision than this manager, which was probably restored from an old backup. It serves its own
    /// revision and publishes nothing by itself.
    Behind,
    /// `machine.toml` cannot be used. The daemon denies everything in this cluster and fetches it again.
    Damaged,
    /// A person has to fix it. A manager serves its last published revision, if there is one.
    Broken,
    /// The folder does not belong to a cluster: its name cannot be an alias, or it has none of a cluster's files.
    Stray,
}

/// The content of one cluster's files.
#[derive(Debug)]
pub struct LoadedCluster {
    /// The folder.
    pub dir: ClusterDir,
    /// This computer's role in the cluster; `None` if the files do not show it.
    pub role: Option<Role>,
    /// The cluster, by its manager's key.
    pub id: Option<ClusterId>,
    /// This computer's key in the cluster.
    pub seed: Option<SecretSeed>,
    /// The snapshot in force: on a manager the last one published, on a machine the last one received.
    pub snapshot: Option<Snapshot>,
    /// Whether there is a snapshot that cannot be used.
    pub snapshot_is_damaged: bool,
    /// On a manager: the content of `cluster.toml`, if it has no errors and matches the key.
    pub draft: Option<Cluster>,
    /// The text of `cluster.toml` or `machine.toml`, if it can be read.
    pub source: Option<String>,
    /// On a manager: a snapshot from a member with a higher revision than its own.
    pub newer: Option<Snapshot>,
    /// How many `[machine.*]` sections the configuration has, if they can be counted.
    pub machines: Option<usize>,
    /// Whether another folder of the same cluster is served instead.
    pub is_double: bool,
    /// Its condition.
    pub condition: Condition,
    /// Every problem.
    pub problems: Vec<Problem>,
}

/// Which files to read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// All of them.
    All,
    /// Without `cluster.toml` on a manager that has published.
    InForce,
}

impl LoadedCluster {
    /// Reads all files of a cluster.
    pub fn load(dir: &ClusterDir) -> Self {
        Self::read(dir, Scope::All)
    }

    /// Reads the configuration in force: like [`LoadedCluster::load`], but without `cluster.toml` if a revision was published.
    /// That file can be large, and a command without a daemon does not need it.
    pub fn load_in_force(dir: &ClusterDir) -> Self {
        Self::read(dir, Scope::InForce)
    }

    fn read(dir: &ClusterDir, scope: Scope) -> Self {
        let mut loaded = Self {
            dir: dir.clone(),
            role: None,
            id: None,
            seed: None,
            snapshot: None,
            snapshot_is_damaged: false,
            draft: None,
            source: None,
            newer: None,
            machines: None,
            is_double: false,
            condition: Condition::Sound,
            problems: Vec::new(),
        };
        match dir.role() {
            Ok(role) => {
                loaded.role = Some(role);
                match role {
                    Role::Manager => loaded.read_manager(scope),
                    Role::Machine => loaded.read_machine(),
                }
            }
            Err(error) if error.is_stray() => {
                loaded.condition = Condition::Stray;
                loaded.problems.push(Problem::warning(error));
            }
            Err(error) => loaded.breaks(error),
        }
        loaded
    }

    /// This computer's id in the cluster.
    pub fn own_id(&self) -> Option<MachineId> {
        self.seed.as_ref().map(SecretSeed::id)
    }

    /// Whether a daemon can serve it: the identity is known, and on a manager something was published or can be.
    pub fn is_servable(&self) -> bool {
        let can_decide = match self.role {
            Some(Role::Manager) => self.snapshot.is_some() || self.draft.is_some(),
            Some(Role::Machine) => true,
            None => false,
        };
        can_decide && !self.is_double && self.id.is_some() && self.seed.is_some()
    }

    /// The configuration to look at: that of `cluster.toml` on a manager, of `machine.toml` on a machine.
    pub fn configuration(&self) -> Option<&Cluster> {
        match self.role? {
            Role::Manager => self.draft.as_ref(),
            Role::Machine => Some(&**self.snapshot.as_ref()?.cluster()),
        }
    }

    /// All problems as text.
    pub(crate) fn all_problems(&self) -> String {
        let problems = self.problems.iter().map(ToString::to_string);
        problems.collect::<Vec<_>>().join("\n")
    }

    /// All errors as text.
    pub(crate) fn all_errors(&self) -> String {
        let errors = self.problems.iter().filter(|problem| problem.is_error());
        errors
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// Adds an error that a person has to fix.
    pub(crate) fn breaks(&mut self, problem: impl fmt::Display) {
        self.condition = Condition::Broken;
        self.problems.push(Problem::error(problem));
    }

    fn read_manager(&mut self, scope: Scope) {
        match keystore::load(&self.dir.cluster_key()) {
            Ok(seed) => {
                self.id = Some(ClusterId::new(seed.id()));
                self.seed = Some(seed);
            }
            Err(error) => self.breaks(error),
        }
        if let Some(id) = self.id {
            self.read_published(&id);
        }
        if scope == Scope::All || self.snapshot.is_none() {
            self.read_cluster_toml();
        }
        if scope == Scope::All {
            self.compare_with_newer();
        }
    }

    fn read_published(&mut self, id: &ClusterId) {
        match read_snapshot(&self.dir.published(), id) {
            Ok(found) => self.snapshot = found.map(|(snapshot, _)| snapshot),
            Err(reason) => {
                self.snapshot_is_damaged = true;
                let alias = &self.dir.alias;
                self.problems.push(Problem::warning(format_args!(
                    "{reason}; publish cluster.toml again with `malai rescan {alias}`"
                )));
            }
        }
        match read_snapshot(&self.dir.newer(), id) {
            Ok(found) => {
                let published = self.snapshot.as_ref().map(Snapshot::revision);
                let newer = found.map(|(newer, _)| newer);
                self.newer = newer.filter(|newer| Some(newer.revision()) > published);
            }
            Err(reason) => self.problems.push(Problem::warning(reason)),
        }
    }

    fn read_cluster_toml(&mut self) {
        let path = self.dir.cluster_toml();
        let source = match fs::read_text(&path, MAX_CONTENT as u64) {
            Ok(Some(source)) => source,
            Ok(None) => {
                let shown = display_path(&path);
                return self.breaks(format_args!(
                    "{shown} is missing; restore it, or move the folder out of clusters/ to give up the cluster"
                ));
            }
            Err(error) => return self.breaks(error),
        };
        let checked = check_cluster_toml(&path, &source, self.own_id());
        if checked.cluster.is_none() {
            self.condition = Condition::Broken;
        }
        self.draft = checked.cluster;
        self.machines = Some(checked.machines);
        let problems = checked.problems.into_iter().map(Problem::InFile);
        self.problems.extend(problems);
        self.source = Some(source);
    }

    /// A file with the same content as the newer revision does no harm.
    fn compare_with_newer(&mut self) {
        let Some(newer) = &self.newer else { return };
        if let Some(draft) = &self.draft
            && says(draft, newer)
        {
            return;
        }
        if self.condition == Condition::Sound {
            self.condition = Condition::Behind;
        }
        let message = behind(&self.dir, newer, self.draft.as_ref());
        self.problems.push(Problem::error(message));
    }

    fn read_machine(&mut self) {
        match keystore::load(&self.dir.machine_key()) {
            Ok(seed) => self.seed = Some(seed),
            Err(error) => self.breaks(error),
        }
        let id = match ManagerFile::load(&self.dir) {
            Ok(manager) => manager.cluster,
            Err(error) => return self.breaks(error),
        };
        self.id = Some(id);
        let mut condition = Condition::Sound;
        match read_snapshot(&self.dir.machine_toml(), &id) {
            Ok(None) => condition = Condition::Waiting,
            Ok(Some((snapshot, source))) => {
                self.machines = Some(snapshot.cluster().machines().count());
                self.snapshot = Some(snapshot);
                self.source = Some(source);
            }
            Err(reason) => {
                condition = Condition::Damaged;
                self.snapshot_is_damaged = true;
                self.problems.push(Problem::error(format_args!(
                    "{reason}; this computer denies everything in this cluster until its daemon has fetched the file again, which it does by itself, from the manager or another machine"
                )));
            }
        }
        if self.condition == Condition::Sound {
            self.condition = condition;
        }
    }
}

/// Whether publishing this file would not change the snapshot's content.
pub(crate) fn says(draft: &Cluster, snapshot: &Snapshot) -> bool {
    draft.render() == snapshot.content()
}

/// The message for a manager whose members have a higher revision: the first line says what is wrong, the others what
/// publishing its file would change and what to do.
pub(crate) fn behind(dir: &ClusterDir, newer: &Snapshot, draft: Option<&Cluster>) -> String {
    let (alias, revision) = (&dir.alias, newer.revision());
    let file = dir.cluster_toml();
    let mut lines = vec![format!(
        "{}; publishing it would undo later changes, so nothing is published",
        behind_in_short(revision)
    )];
    if let Some(draft) = draft {
        let changes = changes(newer.cluster(), draft);
        lines.push(format!("publishing {} would change:", display_path(&file)));
        for change in changes.iter().take(MAX_CHANGES) {
            lines.extend(change.to_string().lines().map(|line| format!("  {line}")));
        }
        if let Some(more @ 1..) = changes.len().checked_sub(MAX_CHANGES) {
            lines.push(format!("  … and {more} more"));
        }
    }
    let old = dir.path.join(OLD);
    lines.push(format!(
        "to keep revision {revision}: cp {file} {old} && tail -n +2 {newer} > {file} && malai rescan {alias}",
        file = quoted(&file),
        old = quoted(&old),
        newer = quoted(&dir.newer()),
    ));
    lines.push(
        "  (what members have contains no comments: yours are then in the copy of the old file)"
            .to_owned(),
    );
    lines.push(format!(
        "to publish this file anyway: malai rescan {alias} --publish-older"
    ));
    lines.join("\n")
}

/// The same as one sentence.
pub(crate) fn behind_in_short(revision: u64) -> String {
    format!(
        "members have revision {revision}, newer than any that this manager remembers publishing: its cluster.toml may come from an old backup"
    )
}

/// A snapshot and the text of its file; `None` if there is no such file.
fn read_snapshot(path: &Path, id: &ClusterId) -> Result<Option<(Snapshot, String)>, String> {
    let text = fs::read_text(path, MAX_SNAPSHOT_FILE).map_err(|error| error.to_string())?;
    let Some(text) = text else { return Ok(None) };
    match Snapshot::from_file(id, &text) {
        Ok(snapshot) => Ok(Some((snapshot, text))),
        Err(error) => Err(format!("{} cannot be used: {error}", display_path(path))),
    }
}

/// The result of checking the text of a `cluster.toml`.
#[derive(Debug)]
pub(crate) struct CheckedFile {
    /// The cluster, if there are no errors and the file matches the key.
    pub(crate) cluster: Option<Cluster>,
    /// How many `[machine.*]` sections there are, even if the document is not valid.
    pub(crate) machines: usize,
    /// Errors, then warnings.
    pub(crate) problems: Vec<Diagnostic>,
}

/// Checks the text of a `cluster.toml`, and that it matches the key beside it, if that is known.
pub(crate) fn check_cluster_toml(path: &Path, source: &str, key: Option<MachineId>) -> CheckedFile {
    let file = path.to_string_lossy();
    let checked = check(&file, source);
    let (document, _) = DeTable::parse_recoverable(source);
    let document = document.get_ref();
    let machines = document
        .get("machine")
        .and_then(|machines| machines.get_ref().as_table())
        .map_or(0, |machines| machines.len());
    let mut result = CheckedFile {
        cluster: checked.cluster,
        machines,
        problems: checked.diagnostics,
    };
    if let Some(problem) = foreign_id(&file, source, document, key) {
        result.cluster = None;
        result.problems.insert(0, problem);
    }
    result
}

/// The problem of a `[cluster_manager]` whose id52 is not that of the key file.
fn foreign_id(
    file: &str,
    source: &str,
    document: &DeTable<'_>,
    key: Option<MachineId>,
) -> Option<Diagnostic> {
    let key = key?;
    let manager = ["cluster_manager", "cluster-manager"]
        .iter()
        .find_map(|name| document.get(*name))?;
    let written: &Spanned<DeValue<'_>> = manager.get_ref().as_table()?.get("id52")?;
    // `check` reports a text that is not an id52.
    let id = MachineId::parse(written.get_ref().as_str()?).ok()?;
    (id != key).then(|| {
        Diagnostic::at(
            Severity::Error,
            file,
            source,
            written.span(),
            "the id52 does not match the key in cluster.private-key",
            Some(format!(
                "if this line was edited by mistake, write \"{key}\"; if the key file was replaced, restore it: the machines trust only the key that they joined with"
            )),
        )
    })
}

#[cfg(test)]
mod tests;
