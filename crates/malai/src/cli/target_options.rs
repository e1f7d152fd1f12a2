//! What can be said before a target: how its command is run, on one machine or on many.

use std::time::Duration;

use clap::ArgAction;

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
    /// Give a machine up after this long: 30s, 5m, 2h, or seconds
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub timeout: Option<Duration>,
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

/// What was wished for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TtyMode {
    /// Nothing was said: a shell that is opened from a terminal gets one, a command does not.
    Auto,
    /// A terminal, if there is one here.
    Terminal,
    /// A terminal, whatever there is here.
    Force,
    /// None.
    None,
}

impl TerminalArgs {
    /// What was wished for.
    pub fn tty_mode(&self) -> TtyMode {
        match (self.without_terminal, self.terminal) {
            (true, _) => TtyMode::None,
            (false, 0) => TtyMode::Auto,
            (false, 1) => TtyMode::Terminal,
            (false, _) => TtyMode::Force,
        }
    }
}

/// A length of time as people type it.
fn time(text: &str) -> Result<Duration, String> {
    let stem = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[stem.len()..] {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => 0.0,
    };
    let plain = stem.len() <= 9 && stem.chars().all(|c| c.is_ascii_digit() || c == '.');
    // A number that is none and a unit that is none are no time to wait.
    let number = stem.parse().ok().filter(|_| plain).unwrap_or(0.0);
    match Duration::try_from_secs_f64(number * unit) {
        Ok(time) if time >= Duration::from_millis(1) => Ok(time),
        _ => Err("write it as in 30s, 1.5s, 500ms, 5m or 2h".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time() {
        for (text, milliseconds) in [
            ("30", 30_000),
            ("30s", 30_000),
            ("1.5s", 1_500),
            ("500ms", 500),
            ("5m", 300_000),
            ("2h", 7_200_000),
        ] {
            assert_eq!(
                time(text),
                Ok(Duration::from_millis(milliseconds)),
                "{text}"
            );
        }
        for text in [
            "",
            "s",
            "0",
            "-1",
            "1d",
            "inf",
            "NaN",
            "1e9h",
            "5 m",
            "9999999999",
        ] {
            assert!(time(text).is_err(), "{text}");
        }
    }
}
