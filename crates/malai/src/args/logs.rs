//! What follows `logs`.

/// What to show of the log.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  malai logs -n 50
  malai logs -f
  malai logs --since 30m")]
pub struct LogsArgs {
    /// Stay, and show what comes (after the last 10 lines, unless -n says otherwise)
    #[arg(short, long)]
    pub follow: bool,
    /// Only the last so many lines
    #[arg(short = 'n', long)]
    pub lines: Option<usize>,
    /// Only from then on: 30m, 12h, 7d (ago), 2026-11-23 or 2026-11-23T07:22:48Z (times are UTC)
    #[arg(long)]
    pub since: Option<String>,
}
