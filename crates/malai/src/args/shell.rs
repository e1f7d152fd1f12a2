//! What follows `shell`.

use std::ffi::OsString;

use super::terminal::TerminalArgs;

const EXAMPLES: &str = "\
Examples:
  malai shell web01.company
  cat script.sh | malai shell web01.company

Escapes, where you type on a terminal, at the beginning of a line:
  ~.  end the session    ~^Z  suspend    ~?  list these    ~~  a tilde";

/// What follows `shell`.
#[derive(Debug, clap::Args)]
#[command(before_help = EXAMPLES)]
pub struct ShellArgs {
    #[command(flatten)]
    pub terminal: TerminalArgs,
    /// The machine
    pub target: OsString,
}
