//! What follows `exec`.

use std::ffi::OsString;

use clap::Subcommand;

use super::OnTargets;

pub(super) const EXAMPLES: &str = "\
Examples:
  malai exec web01.company systemctl status nginx
  malai exec web01.company sh -c 'du -sh /var/* | sort -h'
  malai exec --parallel 10 --timeout 30s @web.company uptime";

/// What follows `exec`: how, then where and what.
#[derive(Debug, clap::Args)]
pub struct ExecArgs {
    /// How it is run.
    #[command(flatten)]
    pub on: OnTargets,
    /// Where, and what.
    #[command(subcommand)]
    pub command: ExecCommand,
}

/// What follows `exec`. Parsed as a subcommand, since clap touches nothing after an unknown one.
#[derive(Debug, Subcommand)]
pub enum ExecCommand {
    /// A target and what to run there.
    #[command(external_subcommand)]
    Target(Vec<OsString>),
}
