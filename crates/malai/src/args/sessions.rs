//! What follows `sessions`.

use clap::Subcommand;

/// What to show of the live sessions, or what to do with one.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    before_help = "\
Examples:
  malai sessions
  malai sessions --json
  malai sessions end 17"
)]
pub struct SessionsArgs {
    /// As JSON
    #[arg(long)]
    pub json: bool,
    #[command(subcommand)]
    pub command: Option<SessionsCommand>,
}

/// What can be done with a live session.
#[derive(Debug, Subcommand)]
pub enum SessionsCommand {
    /// End a session: its command gets SIGHUP, then SIGKILL, and its client is told
    #[command(before_help = "Example:\n  malai sessions end 17")]
    End {
        /// Its number, as `malai sessions` lists it
        id: u64,
    },
}
