//! `malai why <who> <target> [command…]`: whether it is allowed, by which rule, and where the rule is.

use malai_node::{Home, why};
use malai_wire::control::ForwardTo;

use crate::cli::WhyArgs;
use crate::commands::exec::argument_list;
use crate::commands::targets;
use crate::exec::request;
use crate::output::exit::Exit;
use crate::output::{self, Printer};

/// Prints the answer; succeeds if it is allowed.
pub fn run(home: &Home, args: &WhyArgs, printer: &Printer) -> anyhow::Result<Exit> {
    let argv = match argument_list(&args.command) {
        Ok(argv) => (!argv.is_empty()).then_some(argv),
        Err(error) => anyhow::bail!("{error}"),
    };
    let (user, target) = request::user_of(&args.target);
    let (target, to) = targets::with_destination(home, target)?;
    let reached = match &to {
        ForwardTo::Through(destination) => Some(destination),
        ForwardTo::Service | ForwardTo::Socks => None,
    };
    let answer = why(home, &args.who, &target, user, argv.as_deref(), reached);
    let answer = answer.map_err(anyhow::Error::msg)?;
    if args.json {
        let text = serde_json::to_string_pretty(&answer)?;
        printer.out(&format!("{text}\n"));
    } else {
        printer.out(&output::explain::render(&answer));
    }
    Ok(if answer.allowed {
        Exit::OK
    } else {
        Exit::FAILED
    })
}
