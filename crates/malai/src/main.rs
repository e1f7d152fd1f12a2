//! malai: run commands on your own machines, from your own machines. This file only parses, runs and reports.

mod cli;
mod commands;
mod demo;
mod exec;
mod fanout;
mod logging;
mod output;
mod signals;
mod terminal;

use std::process::ExitCode;

use clap::error::ErrorKind;

use output::Printer;

use crate::output::exit::Exit;

fn main() -> ExitCode {
    malai_node::keep_descriptors();
    malai_node::surroundings::hear_signals();
    let printer = Printer::default();
    let exit = match cli::parse() {
        Ok(invocation) => {
            let failure = invocation.command.failure();
            commands::run(invocation, &printer).unwrap_or_else(|error| {
                printer.say(&output::error::text(&error));
                failure
            })
        }
        // Without a verb the help is shown, and the exit code tells a script that nothing was done.
        Err(answer) if answer.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            printer.out(&answer.to_string());
            Exit::USAGE
        }
        Err(answer) if answer.use_stderr() => {
            let typed: Vec<_> = std::env::args_os().skip(1).collect();
            let text = answer.to_string();
            let text = text.strip_prefix("error: ").unwrap_or(&text).trim_end();
            printer.say(&cli::instead::of(&answer, &typed).unwrap_or_else(|| text.to_owned()));
            Exit::USAGE
        }
        // Help and version are answers, not errors.
        Err(answer) => {
            printer.out(&answer.to_string());
            Exit::OK
        }
    };
    printer.finish(exit).into()
}
