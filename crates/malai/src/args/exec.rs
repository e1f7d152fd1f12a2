//! What follows `exec`.

use std::ffi::OsString;

use clap::Subcommand;

use super::OnTargets;

pub(super) const EXAMPLES: &str = "\
Examples:
  malai exec web01.company systemctl status nginx
  malai exec -t web01.company htop
  malai exec web01.company sh -c 'du -sh /var/* | sort -h'
  malai exec --parallel 10 --timeout 30s @web.company uptime";

/// What follows `exec`. The target is parsed as a subcommand, since clap touches nothing after an
/// unknown one.
#[derive(Debug, clap::Args)]
#[command(
    before_help = EXAMPLES,
    override_usage = "malai exec [OPTIONS] <TARGET> <COMMAND ON IT>...",
    disable_help_subcommand = true
)]
pub struct ExecArgs {
    #[command(flatten)]
    pub on: OnTargets,
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
