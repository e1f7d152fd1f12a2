//! `malai sftp-server`: started by a machine for the sftp subsystem; serves its standard streams.

use malai_node::sftp::{self, Served};

use crate::cli::SftpServerArgs;
use crate::output::exit::Exit;

/// Serves until the client disconnects.
pub fn run(args: SftpServerArgs) -> anyhow::Result<Exit> {
    let served = Served {
        folder: args.folder,
        read_only: args.read_only,
        reports: args.reports,
    };
    sftp::serve(std::io::stdin().lock(), std::io::stdout(), served)?;
    Ok(Exit::OK)
}
