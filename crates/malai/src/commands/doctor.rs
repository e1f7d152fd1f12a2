//! `malai doctor`: what is wrong here, why it matters, and the command that fixes it. Changes nothing.

use anyhow::Context;
use malai_node::{Home, examine};

use crate::cli::DoctorArgs;
use crate::output::exit::Exit;
use crate::output::{self, Printer};

/// Prints the findings; fails if there is an error. Warnings do not count.
pub fn run(home: &Home, args: &DoctorArgs, printer: &Printer) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    let diagnosis = runtime.block_on(examine(home));
    runtime.shutdown_background();
    let text = if args.json {
        serde_json::to_string_pretty(&diagnosis)? + "\n"
    } else {
        output::doctor::render(&diagnosis)
    };
    printer.out(&text);
    Ok(if diagnosis.ok { Exit::OK } else { Exit::FAILED })
}
