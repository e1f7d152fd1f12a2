//! What follows `why`.

use std::ffi::OsString;

/// Who may do what where?
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  malai why laptop web01.company restart-nginx
  malai why admins web01.company")]
pub struct WhyArgs {
    /// As JSON
    #[arg(long)]
    pub json: bool,
    /// A machine, an id52 or a group
    pub who: String,
    /// The machine that is asked
    pub target: String,
    /// What would be run there; a shell without it
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<OsString>,
}
