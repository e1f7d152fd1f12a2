//! What follows `completions`.

use std::ffi::OsString;

use clap::ValueEnum;

/// For which shell.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  malai completions bash   > ~/.local/share/bash-completion/completions/malai
  malai completions zsh    > \"${fpath[1]}/_malai\"
  malai completions fish   > ~/.config/fish/completions/malai.fish")]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum, required_unless_present = "candidates")]
    pub shell: Option<Shell>,
    /// What can stand where the cursor is, for those scripts
    #[arg(long, hide = true)]
    pub candidates: bool,
    /// The words after `malai` up to the cursor
    #[arg(last = true, hide = true, requires = "candidates")]
    pub words: Vec<OsString>,
}

/// A shell that is completed for.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Shell {
    /// Source the script, or put it where bash-completion looks
    Bash,
    /// Put it on the fpath as _malai
    Zsh,
    /// Put it into ~/.config/fish/completions
    Fish,
}
