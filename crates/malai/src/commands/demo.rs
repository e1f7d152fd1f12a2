//! `malai demo`.

use crate::exit::Exit;
use crate::printer::Printer;

/// Not built yet.
pub fn run(_keep: bool, _printer: &Printer) -> anyhow::Result<Exit> {
    anyhow::bail!("malai demo is not built yet")
}
