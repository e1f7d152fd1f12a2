//! What an invited machine changes in cluster.toml: checked as a whole before its use is recorded, and written afterwards.
//! Nothing else that is in the file is published with it.

use malai_cluster::{
    Cluster, ClusterId, MachineChange, MachineId, MachineName, NoName, Severity, Snapshot,
    add_machine, change_machine, choose_name, remove_machine,
};

use super::ClusterDir;
use super::cluster_files::{check_cluster_toml, says};
use super::edit::{self, EditFailure};
use super::invitations::{Invited, Use};

/// A checked change that has not been made.
#[derive(Debug)]
pub(crate) struct Admission {
    /// The name that the machine gets.
    pub(crate) name: MachineName,
    /// The configuration with it.
    pub(crate) cluster: Cluster,
    before: String,
    after: String,
}

/// Why a machine is not admitted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotAdmitted {
    /// It gets no name.
    #[error(transparent)]
    Name(#[from] NoName),
    /// Not as long as the file is as it is; a sentence.
    #[error("{0}")]
    Later(String),
}

impl From<EditFailure> for NotAdmitted {
    fn from(failure: EditFailure) -> Self {
        // It names paths of this computer, which are not for others.
        tracing::error!("a machine with an invitation cannot be added: {failure}");
        NotAdmitted::Later(
            "the manager cannot change its cluster.toml; its log says why".to_owned(),
        )
    }
}

/// A machine that asks.
#[derive(Debug, Clone)]
pub(crate) struct Newcomer {
    /// Its key.
    pub(crate) id: MachineId,
    /// The name that it insists on.
    pub(crate) insisted: Option<MachineName>,
    /// The computer's own name.
    pub(crate) host: MachineName,
}

impl Admission {
    /// Plans the change. `begun` is the machine's own use of the invitation, if it has begun one.
    ///
    /// # Errors
    ///
    /// Why the machine is not admitted. Nothing has changed then.
    pub(crate) fn plan(
        dir: &ClusterDir,
        in_force: &Snapshot,
        invited: &Invited,
        begun: Option<&Use>,
        newcomer: &Newcomer,
    ) -> Result<Self, NotAdmitted> {
        let alias = &dir.alias;
        let path = dir.cluster_toml();
        let cluster_id = in_force.cluster().id();
        let before = edit::read(&path).map_err(EditFailure::from)?;
        let Some(draft) = checked(dir, &before, &cluster_id) else {
            return Err(NotAdmitted::Later(format!(
                "the manager's cluster.toml has errors: malai rescan --check {alias} there shows them"
            )));
        };
        let unpublished = || {
            NotAdmitted::Later(format!(
                "the manager's cluster.toml has changes that are not published: malai rescan {alias} there publishes them"
            ))
        };
        if let (Some(machine), Some(_)) = (draft.machine(&newcomer.id), begun) {
            // The file was written, and then it was not published.
            let name = machine.name().clone();
            let without = remove_machine(&before, &name).ok();
            let without = without.and_then(|text| checked(dir, &text, &cluster_id));
            if !without.is_some_and(|without| says(&without, in_force)) {
                return Err(unpublished());
            }
            return Ok(Self {
                name,
                cluster: draft,
                after: before.clone(),
                before,
            });
        }
        if !says(&draft, in_force) {
            return Err(unpublished());
        }
        let missing = invited
            .groups
            .iter()
            .find(|group| draft.group_named(group.as_str()).is_none());
        if let Some(group) = missing {
            return Err(NotAdmitted::Later(format!(
                "the invitation is for the group {group}, which the manager's cluster.toml no longer has"
            )));
        }
        let is_taken = |name: &MachineName| draft.machine_named(name.as_str()).is_some();
        let insisted = newcomer.insisted.as_ref();
        let name = choose_name(&invited.names, insisted, &newcomer.host, is_taken)?;
        let edited =
            add_machine(&before, &name, &newcomer.id, &invited.allow_from).and_then(|text| {
                match invited.groups.is_empty() {
                    true => Ok(text),
                    false => {
                        let change = MachineChange {
                            add_to: invited.groups.clone(),
                            ..MachineChange::default()
                        };
                        change_machine(&text, &name, &change)
                    }
                }
            });
        let after = edited.map_err(|source| EditFailure::Edit {
            path: path.clone(),
            source,
        })?;
        let result = check_cluster_toml(&path, &after, Some(cluster_id.manager()));
        let Some(cluster) = result.cluster else {
            let mut problems = result.problems.into_iter();
            let error = problems.find(|problem| problem.severity == Severity::Error);
            let error = error.map_or_else(String::new, |error| error.message);
            return Err(NotAdmitted::Later(format!(
                "the manager's cluster.toml would not be valid with {name} in it: {error}"
            )));
        };
        Ok(Self {
            name,
            cluster,
            before,
            after,
        })
    }

    /// Writes the file. Returns whether it was as planned; otherwise nothing was written.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub(crate) fn write(&self, dir: &ClusterDir) -> Result<bool, EditFailure> {
        edit::replace(dir, &self.before, &self.after)
    }
}

fn checked(dir: &ClusterDir, text: &str, cluster: &ClusterId) -> Option<Cluster> {
    check_cluster_toml(&dir.cluster_toml(), text, Some(cluster.manager())).cluster
}
