//! `malai rescan`.

use malai_node::home::Home;

use crate::exit::Exit;
use crate::printer::Printer;

/// Not built yet.
pub fn run(_home: &Home, _cluster: Option<&str>, _printer: &Printer) -> anyhow::Result<Exit> {
    anyhow::bail!("malai rescan is not built yet")
}
