//! What a manager's cluster.toml says that is not published yet.

use malai_cluster::{Change, ClusterAlias, ClusterId, MAX_CONTENT, Snapshot, changes, check};

use crate::home::{Home, keystore};
use crate::inspect::check::MAX_MACHINE_TOML;
use crate::os::fs;

/// What publishing the file would change. `None` where that cannot be told: the cluster is not managed here, its
/// file is not valid, or nothing was published yet.
pub fn unpublished_changes(home: &Home, alias: &ClusterAlias) -> Option<Vec<Change>> {
    let dir = home.cluster_dir(alias);
    let id = ClusterId::new(keystore::load(&dir.cluster_key()).ok()?.id());
    let path = dir.cluster_toml();
    let source = fs::read_text(&path, MAX_CONTENT as u64).ok()??;
    let wanted = check(&path.to_string_lossy(), &source).cluster?;
    let published = fs::read_text(&dir.published(), MAX_MACHINE_TOML).ok()??;
    let published = Snapshot::from_file(&id, &published).ok()?;
    Some(changes(published.cluster(), &wanted))
}
