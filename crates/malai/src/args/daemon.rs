//! What follows `daemon`.

/// How to serve.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  malai daemon
  RUST_LOG=malai=debug malai daemon --foreground")]
pub struct DaemonArgs {
    /// Stay in the foreground and show everything
    #[arg(long)]
    pub foreground: bool,
    /// Started by `malai daemon`, which waits at the other end of standard input
    #[arg(long, hide = true, requires = "foreground")]
    pub in_background: bool,
}
