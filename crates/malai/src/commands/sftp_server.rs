//! `malai sftp-server`: what a machine starts for the sftp subsystem. It speaks on its standard streams.

use std::path::PathBuf;

use malai_node::sftp;

use crate::output::exit::Exit;

/// Serves until the client goes.
pub fn run(folder: Option<PathBuf>) -> anyhow::Result<Exit> {
    sftp::serve(std::io::stdin().lock(), std::io::stdout(), folder)?;
    Ok(Exit::OK)
}
