//! `malai shell`: a shell on a target.

use malai_node::home::Home;

use super::exec;
use crate::args::{OnTargets, ShellArgs};
use crate::exit::Exit;
use crate::printer::Printer;

/// Opens a shell on the target.
pub fn run(home: &Home, args: &ShellArgs, printer: &Printer) -> anyhow::Result<Exit> {
    let on = OnTargets {
        terminal: args.terminal,
        ..OnTargets::default()
    };
    exec::run_on(home, &args.target, &[], &on, printer)
}
