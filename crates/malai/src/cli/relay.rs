//! The arguments of `relay`. The doc comments are the help text.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;

use malai_cluster::RelayAddress;

/// Arguments of `malai relay`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  malai relay 203.0.113.5:7843
  malai relay relay.example --certificate fullchain.pem --private-key privkey.pem
  malai relay 203.0.113.5:7843 --show-address")]
pub struct RelayArgs {
    /// Where members reach this relay: a host name or IPv4 address, and a TCP port other than 443
    #[arg(value_name = "HOST[:PORT]", value_parser = address)]
    pub address: RelayAddress,
    /// Listen for TLS (TCP) at this address and port [default: all interfaces, at the port above]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// Listen for QUIC address discovery (UDP) at this address and port [default: as --listen, port 7842]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub quic: Option<SocketAddr>,
    /// Use this certificate chain (PEM) instead of the relay's own; a renewed one is read within an hour
    #[arg(long, value_name = "FILE", requires = "private_key")]
    pub certificate: Option<PathBuf>,
    /// The certificate's private key (PEM)
    #[arg(long, value_name = "FILE", requires = "certificate")]
    pub private_key: Option<PathBuf>,
    /// Take at most this many bytes a second from each client [default: no limit]
    #[arg(long, value_name = "BYTES")]
    pub client_rate: Option<NonZeroU32>,
    /// Serve metrics (OpenMetrics over HTTP) at this loopback address and port
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub metrics: Option<SocketAddr>,
    /// Print the relay's address for cluster.toml, and exit
    #[arg(long)]
    pub show_address: bool,
}

fn address(text: &str) -> Result<RelayAddress, String> {
    let url = match text.starts_with("https://") {
        true => text.to_owned(),
        false => format!("https://{text}"),
    };
    let address: Result<RelayAddress, _> = url.parse();
    address.map_err(|problem| format!("it {problem}"))
}
