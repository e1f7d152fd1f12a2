//! What follows `exec`.

use std::ffi::OsString;

use clap::Subcommand;

use super::terminal::TerminalArgs;

pub(super) const EXAMPLES: &str = "\
Examples:
  malai exec web01.company systemctl status nginx
  malai exec -t web01.company htop
  malai exec web01.company sh -c 'du -sh /var/* | sort -h'";

/// What follows `exec`. The target is parsed as a subcommand, since clap touches nothing after an
/// unknown one.
#[derive(Debug, clap::Args)]
#[command(
    before_help = EXAMPLES,
    override_usage = "malai exec [-t|-T] <TARGET> <COMMAND ON IT>...",
    disable_help_subcommand = true
)]
pub struct ExecArgs {
    #[command(flatten)]
    pub terminal: TerminalArgs,
    #[command(subcommand)]
    pub command: ExecCommand,
}

/// A target and what to run there.
#[derive(Debug, Subcommand)]
pub enum ExecCommand {
    /// A target and what to run there.
    #[command(external_subcommand)]
    Target(Vec<OsString>),
}
