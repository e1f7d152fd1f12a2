//! What follows `rescan`.

/// What to apply or check.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  malai rescan company
  malai rescan --check")]
pub struct RescanArgs {
    /// Only check; needs no daemon
    #[arg(long)]
    pub check: bool,
    /// The findings as JSON
    #[arg(long, requires = "check")]
    pub json: bool,
    /// Only this cluster, by its alias
    pub cluster: Option<String>,
}
