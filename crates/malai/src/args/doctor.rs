//! What follows `doctor`.

/// How to show what was found.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  malai doctor
  sudo -u malai env MALAI_HOME=/opt/malai malai doctor
  malai doctor --json")]
pub struct DoctorArgs {
    /// As JSON
    #[arg(long)]
    pub json: bool,
}
