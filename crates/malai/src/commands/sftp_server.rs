//! `malai sftp-server`: what a machine starts for the sftp subsystem. It speaks on its standard streams.

use malai_node::sftp::{self, Served};

use crate::cli::SftpServerArgs;
use crate::output::exit::Exit;

/// Serves until the client goes.
pub fn run(args: SftpServerArgs) -> anyhow::Result<Exit> {
    let served = Served {
        folder: args.folder,
        reports: args.reports,
    };
    sftp::serve(std::io::stdin().lock(), std::io::stdout(), served)?;
    Ok(Exit::OK)
}
