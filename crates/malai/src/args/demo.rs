//! What follows `demo`.

/// What becomes of the demo.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  malai demo
  malai demo --keep")]
pub struct DemoArgs {
    /// Leave it running, and say how to go on by hand and how to end it
    #[arg(long)]
    pub keep: bool,
}
