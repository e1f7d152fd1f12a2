//! `malai stop`.

use malai_node::home::Home;

use crate::exit::Exit;
use crate::printer::Printer;

/// Not built yet.
pub fn run(_home: &Home, _printer: &Printer) -> anyhow::Result<Exit> {
    anyhow::bail!("malai stop is not built yet")
}
