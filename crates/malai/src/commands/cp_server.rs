//! `malai cp-server`: what a machine starts for `malai cp`. It speaks on its standard streams.

use malai_node::copy::{self, CopyError};
use malai_node::sftp::Served;

use crate::cli::SftpServerArgs;
use crate::output::exit::Exit;

/// Serves until the client goes.
pub fn run(args: SftpServerArgs) -> anyhow::Result<Exit> {
    let served = Served {
        folder: args.folder,
        read_only: args.read_only,
        reports: args.reports,
    };
    match copy::serve(std::io::stdin(), std::io::stdout().lock(), served) {
        // The caller has gone, and says itself what that means.
        Err(CopyError::Lost(_)) => return Ok(Exit::FAILED),
        served => served?,
    }
    Ok(Exit::OK)
}
