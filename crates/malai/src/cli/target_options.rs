//! Options before a target: how its command is run, on one machine or on many.

use std::ffi::OsString;
use std::time::Duration;

use clap::ArgAction;

use crate::cli::number;
use crate::output::duration;
use crate::terminal::tilde::EscapeChar;

/// How a command on targets is run. Everything after the target belongs to the command.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Before a target")]
pub struct TargetOptions {
    /// Whether the command gets a terminal.
    #[command(flatten)]
    pub terminal: TerminalArgs,
    /// Several machines: run on at most this many in parallel [default: 64]
    #[arg(long, value_name = "N", value_parser = number::within::<u16>(1..=512))]
    pub parallel: Option<u16>,
    /// Give up on a machine after this time: 30s, 5m, 1.5h, 1d, or a number of seconds
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub timeout: Option<Duration>,
    /// Send an environment variable, if the machine accepts it: NAME=value, or NAME for its value here
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub env: Vec<OsString>,
    /// Do not send standard input to the command
    #[arg(short, long)]
    pub no_input: bool,
    /// Print one JSON object per machine, with its exit code and output
    #[arg(long)]
    pub json: bool,
    /// Several machines: exclude these targets
    #[arg(short = 'x', long, value_name = "TARGETS")]
    pub exclude: Vec<String>,
    /// A line for the shell of this side, once the session has started: ssh's `LocalCommand`.
    #[arg(skip)]
    pub local_command: Option<OsString>,
    /// What starts an escape on a terminal: ssh's `-e`.
    #[arg(skip)]
    pub escape: EscapeChar,
    /// Whether this process goes to the background once the session has started: ssh's `-f`.
    #[arg(skip)]
    pub in_background: bool,
}

/// `-t` and `-T`, and how often they were given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::Args)]
pub struct TerminalArgs {
    /// Allocate a terminal; twice: even if standard input is not a terminal
    #[arg(short = 't', action = ArgAction::Count, overrides_with = "without_terminal")]
    terminal: u8,
    /// Do not allocate a terminal
    #[arg(short = 'T', overrides_with = "terminal")]
    without_terminal: bool,
}

/// Whether a session gets a terminal, with the rules of ssh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TtyMode {
    /// A shell opened from a terminal gets one, a command does not.
    #[default]
    Auto,
    /// `-t`: a terminal, if this side has one.
    Request,
    /// `-tt`: a terminal, even if this side has none.
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
