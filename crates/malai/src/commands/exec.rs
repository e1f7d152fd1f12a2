//! `malai <target> <command>…` and `malai exec`: a command on a target, and its exit code.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use malai_cluster::{NotPlain, Target, Targets, escape, split_sole};
use malai_node::home::Home;
use malai_node::settings::Settings;

use malai_wire::peer::exec::Action;

use super::many;
use crate::args::OnTargets;
use crate::exit::Exit;
use crate::printer::Printer;
use crate::route::Route;
use crate::through::{daemon, direct};

/// Runs the command on the target.
pub fn run(
    home: &Home,
    words: &[OsString],
    on: &OnTargets,
    printer: &Printer,
) -> anyhow::Result<Exit> {
    let Some((target, arguments)) = words.split_first() else {
        anyhow::bail!("which target? malai exec <machine>.<cluster> <command>…");
    };
    let Some(target) = target.to_str() else {
        anyhow::bail!(
            "the target {} is no text; a target is <machine>.<cluster>",
            escape(&target.to_string_lossy())
        );
    };
    let action = match argument_list(arguments) {
        Ok(_) if arguments.is_empty() => Action::Shell,
        Ok(argv) => Action::Exec(argv),
        Err(error) => {
            let line = arguments
                .first()
                .map(|line| line.to_string_lossy())
                .unwrap_or_default();
            anyhow::bail!(
                "{error}\n  if you want one: malai {target} sh -c {}",
                quoted(&line)
            );
        }
    };
    if !is_plain(home, target, on)? {
        let Action::Exec(argv) = action else {
            anyhow::bail!(
                "what is to be run on {}? A shell is for one machine at a time",
                escape(target)
            );
        };
        let mut targets = target.to_owned();
        for excluded in &on.exclude {
            targets = Targets::without(&targets, excluded)?;
        }
        return many::run(home, &targets, argv, on, printer);
    }
    let ending = match Route::of(home)? {
        Route::Daemon(control) => daemon::run(*control, target, action, on)?,
        Route::Direct => direct::run(home, target, action, on)?,
    };
    if let Some(message) = &ending.message {
        printer.say(message);
    }
    Ok(Exit(ending.code))
}

/// Whether nothing but one machine is meant, so that its streams are passed on as they are.
fn is_plain(home: &Home, target: &str, on: &OnTargets) -> anyhow::Result<bool> {
    if on.json || !on.exclude.is_empty() {
        return Ok(false);
    }
    if Target::parse(target).is_ok() {
        return Ok(true);
    }
    let aliases = Settings::load(home)?.aliases;
    let targets = Targets::parse(target, |alias| aliases.get(alias).cloned())?;
    Ok(targets.plain().is_some())
}

/// The argument list as it travels: as typed, but for a sole argument with blanks in it.
pub(super) fn argument_list(arguments: &[OsString]) -> Result<Vec<Vec<u8>>, NotPlain> {
    if let [sole] = arguments
        && let Some(line) = sole.to_str()
        && line.contains([' ', '\t', '\n'])
    {
        return Ok(split_sole(line)?
            .into_iter()
            .map(String::into_bytes)
            .collect());
    }
    Ok(arguments
        .iter()
        .map(|argument| argument.as_bytes().to_vec())
        .collect())
}

fn quoted(line: &str) -> String {
    format!("'{}'", escape(line).replace('\'', r"'\''"))
}
