//! `malai cp-server`: what a machine starts for `malai cp`. It speaks on its standard streams.

use std::path::PathBuf;

use malai_node::copy;

use crate::output::exit::Exit;

/// Serves one copy.
pub fn run(folder: Option<PathBuf>) -> anyhow::Result<Exit> {
    copy::serve(std::io::stdin(), std::io::stdout().lock(), folder)?;
    Ok(Exit::OK)
}
