//! What follows `status`.

/// How to show how things are.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  malai status
  malai status --json")]
pub struct StatusArgs {
    /// As JSON
    #[arg(long)]
    pub json: bool,
}
