//! malai: run commands on your own machines, from your own machines. Parse, run, report; nothing else is here.

mod args;
mod commands;
mod complete;
mod escape;
mod exit;
mod log;
mod many;
mod printer;
mod render;
mod route;
mod terminal;
mod through;

use std::process::ExitCode;

use exit::Exit;
use printer::Printer;

fn main() -> ExitCode {
    malai_node::process::keep_descriptors();
    let printer = Printer::default();
    let exit = match args::parse() {
        Ok(typed) => {
            let failure = typed.command.failure();
            commands::run(typed, &printer).unwrap_or_else(|error| {
                printer.say(&format!("{error:#}"));
                failure
            })
        }
        Err(answer) if answer.use_stderr() => {
            let text = answer.to_string();
            printer.say(text.strip_prefix("error: ").unwrap_or(&text).trim_end());
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
