//! Whether what runs on a target is given a terminal, as ssh has it.

use clap::ArgAction;

/// The two options, and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::Args)]
pub struct TerminalArgs {
    /// Give it a terminal; twice: even where there is none here
    #[arg(short = 't', action = ArgAction::Count, overrides_with = "without_terminal")]
    terminal: u8,
    /// Give it no terminal
    #[arg(short = 'T', overrides_with = "terminal")]
    without_terminal: bool,
}

/// What was wished for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Nothing was said: a shell that is opened from a terminal gets one, a command does not.
    Usual,
    /// A terminal, if there is one here.
    Terminal,
    /// A terminal, whatever there is here.
    Insist,
    /// None.
    None,
}

impl TerminalArgs {
    /// What was wished for.
    pub fn wish(&self) -> Wish {
        match (self.without_terminal, self.terminal) {
            (true, _) => Wish::None,
            (false, 0) => Wish::Usual,
            (false, 1) => Wish::Terminal,
            (false, _) => Wish::Insist,
        }
    }
}
