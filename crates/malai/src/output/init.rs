//! The output of `cluster init` and `machine init`.

use std::path::Path;

use malai_cluster::{MachineName, machine_section};
use malai_node::{NewCluster, NewMachine, display_path};

/// The new cluster's identity, where its files are, and what to do next. A daemon that runs does not have to be started.
pub fn new_cluster(made: &NewCluster, daemon_runs: bool) -> String {
    let alias = &made.dir.alias;
    let join = format!(
        "On each machine that is to join:\n   malai machine init {} {alias}",
        made.id
    );
    let publish = format!(
        "Add the section that it prints to the config above, then:\n   malai rescan {alias}"
    );
    let mut steps = vec![join, publish];
    if !daemon_runs {
        steps.insert(0, "Start the daemon here:\n   malai daemon".to_owned());
    }
    format!(
        "Cluster created with ID: {id}
📄 Config: {config}
🔑 Private key: {key} (keep it secure, and back it up)
📋 Next steps:
{steps}",
        id = made.id,
        steps = numbered(&steps),
        config = display_path(&made.dir.cluster_toml()),
        key = display_path(&made.dir.cluster_key()),
    )
}

/// The new machine's identity, the section to add on the manager, and what to do next.
/// The first lines are exactly the tutorial's. A daemon that runs does not have to be started.
pub fn new_machine(made: &NewMachine, name: &MachineName, daemon_runs: bool) -> String {
    let section: String = machine_section(name, &made.id)
        .lines()
        .map(|line| format!("   {line}\n"))
        .collect();
    let mut steps = vec![
        format!(
            "Cluster admin should add this machine to cluster config:\n{}",
            section.trim_end()
        ),
        "Cluster admin should then update the running daemon there:\n   malai rescan".to_owned(),
    ];
    if !daemon_runs {
        steps.push("Start the daemon on this machine:\n   malai daemon".to_owned());
    }
    format!(
        "Machine created with ID: {id}
📋 Next steps:
{steps}",
        id = made.id,
        steps = numbered(&steps),
    )
}

fn numbered(steps: &[String]) -> String {
    let lines = steps.iter().zip(1..);
    lines
        .map(|(step, number)| format!("{number}. {step}\n"))
        .collect()
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
