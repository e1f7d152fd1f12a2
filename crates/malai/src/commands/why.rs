//! `malai why <who> <target> [command…]`: whether it is allowed, by which rule, and where that stands.

use malai_node::home::Home;
use malai_node::why::why;

use super::exec::argument_list;
use crate::args::WhyArgs;
use crate::exit::Exit;
use crate::printer::Printer;
use crate::render;

/// Prints the answer; succeeds if it is allowed.
pub fn run(home: &Home, args: &WhyArgs, printer: &Printer) -> anyhow::Result<Exit> {
    let argv = match argument_list(&args.command) {
        Ok(argv) => (!argv.is_empty()).then_some(argv),
        Err(error) => anyhow::bail!("{error}"),
    };
    let answer = why(home, &args.who, &args.target, argv.as_deref()).map_err(anyhow::Error::msg)?;
    if args.json {
        let text = serde_json::to_string_pretty(&answer)?;
        printer.out(&format!("{text}\n"));
    } else {
        printer.out(&render::why::render(&answer));
    }
    Ok(if answer.allowed {
        Exit::OK
    } else {
        Exit::FAILED
    })
}
