//! `malai daemon`.

use malai_node::home::Home;

use crate::exit::Exit;
use crate::printer::Printer;

/// Not built yet.
pub fn run(_home: &Home, _foreground: bool, _printer: &Printer) -> anyhow::Result<Exit> {
    anyhow::bail!("malai daemon is not built yet")
}
