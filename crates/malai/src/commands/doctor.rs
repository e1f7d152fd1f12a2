//! `malai doctor`: what is wrong here, why it matters, and the command that mends it. Changes nothing.

use anyhow::Context;
use malai_node::doctor::examine;
use malai_node::home::Home;

use crate::args::DoctorArgs;
use crate::exit::Exit;
use crate::printer::Printer;
use crate::render;

/// Prints what was found; fails if anything is wrong. Warnings are no failure.
pub fn run(home: &Home, args: &DoctorArgs, printer: &Printer) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    let diagnosis = runtime.block_on(examine(home));
    runtime.shutdown_background();
    if args.json {
        let text = serde_json::to_string_pretty(&diagnosis)?;
        printer.out(&format!("{text}\n"));
    } else {
        printer.out(&render::doctor::render(&diagnosis));
    }
    Ok(if diagnosis.ok { Exit::OK } else { Exit::FAILED })
}
