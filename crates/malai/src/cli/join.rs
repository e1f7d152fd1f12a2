//! The arguments of `join`. The doc comments are the help text.

pub(super) const EXAMPLES: &str = "\
Examples:
  malai join malai1…
  malai join malai1… work --name web03
  malai join - <invitation.txt";

/// Options of `malai join`.
#[derive(Debug, clap::Args)]
#[command(before_help = EXAMPLES)]
pub struct JoinArgs {
    /// The invitation, as `malai cluster invite` printed it; - reads it from standard input
    pub invitation: String,
    /// The local name of the cluster [default: the one that its manager uses]
    pub alias: Option<String>,
    /// This machine's name in the cluster [default: the one that the invitation is for, else this computer's]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
}
