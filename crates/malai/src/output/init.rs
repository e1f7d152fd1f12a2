//! The output of `cluster init` and `machine init`.

use std::path::Path;

use malai_cluster::{MachineName, machine_section};
use malai_node::{NewCluster, NewMachine, display_path};

/// The new cluster's identity, where its files are, and what to do next.
pub fn new_cluster(made: &NewCluster) -> String {
    let alias = &made.dir.alias;
    format!(
        "Cluster created with ID: {id}
📄 Config: {config}
🔑 Private key: {key} (keep it secure, and back it up)
📋 Next steps:
1. Start the daemon here:
   malai daemon
2. On each machine that is to join:
   malai machine init {id} {alias}
3. Add the section that it prints to the config above, then:
   malai rescan {alias}
",
        id = made.id,
        config = display_path(&made.dir.cluster_toml()),
        key = display_path(&made.dir.cluster_key()),
    )
}

/// The new machine's identity, the section to add on the manager, and what to do next.
/// The first lines are exactly the tutorial's.
/// The first lines are the tutorial's, to the letter.
pub fn new_machine(made: &NewMachine, name: &MachineName) -> String {
    let section: String = machine_section(name, &made.id)
        .lines()
        .map(|line| format!("   {line}\n"))
        .collect();
    format!(
        "Machine created with ID: {id}
📋 Next steps:
1. Cluster admin should add this machine to cluster config:
{section}2. Cluster admin should then update the running daemon there:
   malai rescan
3. Start the daemon on this machine:
   malai daemon
",
        id = made.id,
    )
}

/// What happened to the identity that was replaced.
pub fn replaced(aside: &Path) -> String {
    format!(
        "📦 The old identity is kept in {}; nothing uses it any more, and it can be deleted
   The owner of the old manager's key commands this computer no longer
",
        display_path(aside)
    )
}
