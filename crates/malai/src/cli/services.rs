//! What follows `whois` and `browse`.

/// Options of `malai whois`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  malai whois 127.0.0.1:40614
  malai whois --json '[::1]:40614'")]
pub struct WhoisArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// The address that the service sees as its client's, with the port
    #[arg(value_name = "ADDRESS:PORT")]
    pub address: String,
}

/// Options of `malai browse`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  malai browse grafana.company
  malai browse --print grafana.company    only the link: it works once, within a minute")]
pub struct BrowseArgs {
    /// Print the link, and open nothing
    #[arg(long)]
    pub print: bool,
    /// The service, as <name>.<cluster>
    pub service: String,
}
