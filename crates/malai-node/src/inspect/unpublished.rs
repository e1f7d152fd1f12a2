//! The unpublished changes in a manager's cluster.toml.

use malai_cluster::{Change, ClusterAlias, changes};

use crate::home::Home;
use crate::home::cluster_files::LoadedCluster;

/// What publishing the file would change. `None` if that is unknown: the cluster is not managed here, its file is not
/// valid, or nothing was published yet.
pub fn unpublished_changes(home: &Home, alias: &ClusterAlias) -> Option<Vec<Change>> {
    changes_in(&LoadedCluster::load(&home.cluster_dir(alias)))
}

/// The same for files that were loaded before.
pub(crate) fn changes_in(files: &LoadedCluster) -> Option<Vec<Change>> {
    let wanted = files.draft.as_ref()?;
    Some(changes(files.snapshot.as_ref()?.cluster(), wanted))
}
