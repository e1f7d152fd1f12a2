//! `malai shell`: a shell on a target.

use malai_node::Home;

use crate::cli::{ShellArgs, TargetOptions};
use crate::commands::exec;
use crate::output::Printer;
use crate::output::exit::Exit;

/// Opens a shell on the target.
pub fn run(home: &Home, args: &ShellArgs, printer: &Printer) -> anyhow::Result<Exit> {
    let on = TargetOptions {
        terminal: args.terminal,
        ..TargetOptions::default()
    };
    exec::run_on(home, &args.target, &[], &on, printer)
}
