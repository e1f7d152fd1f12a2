//! What can be said before a target: how its command is run, on one machine or on many.

use std::ffi::OsString;
use std::time::Duration;

use clap::ArgAction;

use crate::output::duration;

/// How a command on targets is run. Whatever stands after the target belongs to the command.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Before a target")]
pub struct TargetOptions {
    /// Whether it is given a terminal.
    #[command(flatten)]
    pub terminal: TerminalArgs,
    /// Several machines: at most so many at once [default: 64]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=512))]
    pub parallel: Option<u16>,
    /// Give a machine up after this time: 30s, 5m, 1.5h, 1d, or a number of seconds
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub timeout: Option<Duration>,
    /// Send an environment variable, if the machine accepts it: NAME=value, or NAME for its value here
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub env: Vec<OsString>,
    /// The command reads nothing: this command's standard input is left alone
    #[arg(short, long)]
    pub no_input: bool,
    /// One JSON object a machine, with its exit code and output
    #[arg(long)]
    pub json: bool,
    /// Several machines: all but these, written as targets
    #[arg(short = 'x', long, value_name = "TARGETS")]
    pub exclude: Vec<String>,
}

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

/// Whether a session gets a terminal, as ssh decides it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TtyMode {
    /// A shell that is opened from a terminal gets one, a command does not.
    #[default]
    Auto,
    /// `-t`: a terminal, if there is one here.
    Request,
    /// `-tt`: a terminal, even without one here.
    Force,
    /// `-T`: none.
    Never,
}

impl From<TtyMode> for TerminalArgs {
    fn from(mode: TtyMode) -> Self {
        Self {
            terminal: match mode {
                TtyMode::Auto | TtyMode::Never => 0,
                TtyMode::Request => 1,
                TtyMode::Force => 2,
            },
            without_terminal: mode == TtyMode::Never,
        }
    }
}

impl TerminalArgs {
    /// The mode that the options ask for.
    pub fn tty_mode(&self) -> TtyMode {
        match (self.without_terminal, self.terminal) {
            (true, _) => TtyMode::Never,
            (false, 0) => TtyMode::Auto,
            (false, 1) => TtyMode::Request,
            (false, _) => TtyMode::Force,
        }
    }
}
