//! What follows `man`.

use std::path::PathBuf;

/// Which page, or where to.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  malai man
  malai man cluster add
  malai man --out /usr/local/share/man/man1")]
pub struct ManArgs {
    /// Write all pages into this folder
    #[arg(long, value_name = "FOLDER", conflicts_with = "verb")]
    pub out: Option<PathBuf>,
    /// The command that the page is about
    pub verb: Vec<String>,
}
