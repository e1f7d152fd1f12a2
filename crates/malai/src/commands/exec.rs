//! `malai exec`.

use std::ffi::OsString;

use malai_node::home::Home;

use crate::exit::Exit;
use crate::printer::Printer;

/// Not built yet.
pub fn run(_home: &Home, _words: &[OsString], _printer: &Printer) -> anyhow::Result<Exit> {
    anyhow::bail!("malai exec is not built yet")
}
