//! What follows `audit`.

/// What to show of the audit record.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  malai audit --since 24h --refused
  malai audit -f --cluster company")]
pub struct AuditArgs {
    /// Stay, and show what comes (after the last 10 lines, unless -n says otherwise)
    #[arg(short, long)]
    pub follow: bool,
    /// Only of this cluster: its alias or id52
    #[arg(long)]
    pub cluster: Option<String>,
    /// Only what this machine asked for: its name or id52
    #[arg(long, visible_alias = "machine")]
    pub from: Option<String>,
    /// Only what was refused
    #[arg(long)]
    pub refused: bool,
    /// Only from then on: 30m, 12h, 7d (ago), 2026-11-23 or 2026-11-23T07:22:48Z (times are UTC)
    #[arg(long)]
    pub since: Option<String>,
    /// The records as they are in the file, one JSON object a line
    #[arg(long)]
    pub json: bool,
    /// Only the last so many lines
    #[arg(short = 'n', long)]
    pub lines: Option<usize>,
}
