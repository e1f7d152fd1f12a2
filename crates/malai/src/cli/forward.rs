//! What follows `forward`: pairs of a place to listen and a service.

pub(super) const EXAMPLES: &str = "\
Examples:
  malai forward 5432 db.company                     psql -h localhost
  malai forward 127.0.0.2:80 grafana.company        another address of this computer
  malai forward ./redis.sock cache.company          a Unix socket
  malai forward 5432 db.company 6379 cache.company  several at once
  malai forward - db.company                        standard input and output";

/// What to listen on, and where to pass connections on to.
#[derive(Debug, clap::Args)]
#[command(override_usage = "malai forward <LISTEN> <SERVICE> [<LISTEN> <SERVICE>]...")]
pub struct ForwardArgs {
    /// A port, an address and a port, the path of a Unix socket (with a slash), or - ; then a service, as <name>.<cluster>
    #[arg(required = true, num_args = 2.., value_name = "LISTEN> <SERVICE", allow_hyphen_values = true)]
    pub pairs: Vec<String>,
}
