//! What follows `cluster`.

use clap::Subcommand;

pub(super) const EXAMPLES: &str = "\
Examples:
  malai cluster init company
  malai cluster add company web01 <id52> --allow-from admins
  malai cluster remove company web01";

/// What can be done with clusters.
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Create a cluster; this computer becomes its manager
    #[command(before_help = "Example:\n  malai cluster init company")]
    Init {
        /// Its local name: lower-case letters, digits and -
        alias: String,
    },
    /// Add a machine to a cluster that is managed here, and publish that
    #[command(
        before_help = "Example:\n  malai cluster add company web01 <id52> --allow-from admins,laptop"
    )]
    Add {
        /// The cluster's local name
        alias: String,
        /// The machine's new name: lower-case letters, digits and -
        name: String,
        /// The machine's id52, as `malai machine init` has printed it there
        id52: String,
        /// Who may run commands on it: machines, id52s, groups, or "*" for every member
        #[arg(long, value_name = "LIST")]
        allow_from: Vec<String>,
    },
    /// Remove a machine from a cluster that is managed here: it is cut off everywhere
    #[command(before_help = "Example:\n  malai cluster remove company web01")]
    Remove {
        /// The cluster's local name
        alias: String,
        /// The machine's name
        name: String,
    },
}
