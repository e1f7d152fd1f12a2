//! What follows `exec`.

use std::ffi::OsString;

use clap::Subcommand;

pub(super) const EXAMPLES: &str = "\
Examples:
  malai exec web01.company systemctl status nginx
  malai exec web01.company sh -c 'du -sh /var/* | sort -h'";

/// What follows `exec`. Parsed as a subcommand, since clap touches nothing after an unknown one.
#[derive(Debug, Subcommand)]
pub enum ExecCommand {
    /// A target and what to run there.
    #[command(external_subcommand)]
    Target(Vec<OsString>),
}
