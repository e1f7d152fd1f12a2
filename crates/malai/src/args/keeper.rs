//! What follows `keeper`, which nobody types.

/// How the keeper was started.
#[derive(Debug, clap::Args)]
pub struct KeeperArgs {
    /// What it has to say goes to malai.log
    #[arg(long)]
    pub in_background: bool,
}
