//! What follows `machine`.

use clap::Subcommand;

pub(super) const EXAMPLES: &str = "\
Examples:
  malai machine init <manager-id52> company
  malai machine init --replace <new-manager-id52> company";

/// What can be done with this computer as a machine.
#[derive(Debug, Subcommand)]
pub enum MachineCommand {
    /// Create this computer's identity in a cluster
    #[command(before_help = EXAMPLES)]
    Init {
        /// Follow another manager under an alias that is taken: the old one's key is lost or stolen. Makes a
        /// new identity; the old folder is kept in $MALAI_HOME/replaced
        #[arg(long)]
        replace: bool,
        /// The cluster manager's id52, as its `malai status` shows it
        manager_id52: String,
        /// The local name of the cluster: lower-case letters, digits and -
        alias: String,
    },
}
