//! `malai <target> <command>…` and `malai exec`: a command on a target, and its exit code.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use malai_cluster::{NeedsShell, Targets, escape, quote, split_sole};
use malai_node::{Home, Settings};
use malai_wire::peer::exec::{Action, Terminal};

use crate::cli::{TargetOptions, TtyMode, instead};
use crate::commands::{exec_many, targets};
use crate::exec::route::Route;
use crate::exec::{direct, request, via_daemon};
use crate::output::Printer;
use crate::output::exit::Exit;
use crate::terminal;

/// Runs the command on the target.
pub fn run(
    home: &Home,
    words: &[OsString],
    on: &TargetOptions,
    printer: &Printer,
) -> anyhow::Result<Exit> {
    let Some((target, arguments)) = words.split_first() else {
        anyhow::bail!("no target given: malai exec <machine>.<cluster> <command>…");
    };
    if arguments.is_empty() {
        let shown = escape(&target.to_string_lossy());
        anyhow::bail!(
            "no command given: malai exec {shown} <command>…; for a shell: malai shell {shown}"
        );
    }
    run_on(home, target, arguments, on, printer)
}

/// Runs the command on the target, or opens a shell there if there is none.
pub(super) fn run_on(
    home: &Home,
    target: &OsStr,
    arguments: &[OsString],
    on: &TargetOptions,
    printer: &Printer,
) -> anyhow::Result<Exit> {
    let Some(target) = target.to_str() else {
        anyhow::bail!(
            "the target {} is not valid UTF-8; expected <machine>.<cluster>",
            escape(&target.to_string_lossy())
        );
    };
    if let Some(first) = arguments.first()
        && first.as_encoded_bytes().starts_with(b"-")
    {
        let typed: Vec<OsString> = std::env::args_os().skip(1).collect();
        anyhow::bail!(instead::option_after_target(
            before(&typed, arguments),
            target,
            arguments
        ));
    }
    let action = match argument_list(arguments) {
        Ok(_) if arguments.is_empty() => Action::Shell,
        Ok(argv) => Action::Exec(argv),
        Err(error) => {
            let line = arguments
                .first()
                .map(|line| line.to_string_lossy())
                .unwrap_or_default();
            anyhow::bail!(
                "{error}\n  to use a shell: malai {target} sh -c {}",
                quote(&line)
            );
        }
    };
    let (user, target) = match request::user_of(target) {
        // A word that is neither a target nor an alias gets its own answer.
        (Some(_), rest) if !rest.contains('.') && !is_alias(home, rest) => (None, target),
        taken_apart => taken_apart,
    };
    let env = on.env.iter().map(|text| request::variable(text));
    let env = env.collect::<Result<_, _>>().map_err(anyhow::Error::msg)?;
    let wanted = Wanted {
        action,
        user: user.map(str::to_owned),
        env,
    };
    run_request(home, target, wanted, on, printer)
}

/// The words before the target, of those typed.
fn before<'t>(typed: &'t [OsString], arguments: &[OsString]) -> &'t [OsString] {
    let typed = typed.strip_suffix(arguments).and_then(<[_]>::split_last);
    typed.map_or(&[], |(_target, before)| before)
}

/// A request for a target.
pub(super) struct Wanted {
    /// What to run.
    pub action: Action,
    /// The user to run as, if one was given.
    pub user: Option<String>,
    /// Environment variables to send.
    pub env: Vec<request::Variable>,
}

/// Runs the request.
pub(super) fn run_request(
    home: &Home,
    target: &str,
    wanted: Wanted,
    on: &TargetOptions,
    printer: &Printer,
) -> anyhow::Result<Exit> {
    let mut text = target.to_owned();
    for excluded in &on.exclude {
        text = Targets::without(&text, excluded)?;
    }
    let targets = targets::parse(home, &text)?;
    let target = match targets.plain() {
        Some(target) if !on.json => target.to_string(),
        _ => return run_on_several(home, &targets, wanted, on, printer),
    };
    let Wanted { action, user, env } = wanted;
    let terminal = terminal_for(&action, on, printer);
    if terminal.is_some() && on.timeout.is_some() {
        anyhow::bail!("--timeout works only without a terminal; use -T");
    }
    let request = request::of_this_process(action, user, env, terminal.is_some());
    let ending = match Route::of(home)? {
        Route::Daemon(control) => via_daemon::run(*control, &target, request, terminal, on)?,
        Route::Direct => direct::run(home, &target, request, terminal, on)?,
    };
    if let Some(message) = &ending.message {
        printer.say(message);
    }
    Ok(Exit(ending.code))
}

/// Whether `malai.toml` defines this alias.
fn is_alias(home: &Home, word: &str) -> bool {
    Settings::load(home).is_ok_and(|settings| settings.aliases.contains_key(word))
}

/// Runs it on all selected machines. A separate function, to keep its frame off the stack of a command on one target.
#[inline(never)]
fn run_on_several(
    home: &Home,
    targets: &Targets,
    wanted: Wanted,
    on: &TargetOptions,
    printer: &Printer,
) -> anyhow::Result<Exit> {
    if matches!(
        wanted.action,
        Action::Shell | Action::Subsystem(_) | Action::Folder { .. }
    ) {
        anyhow::bail!("no command given for {targets}: a shell works on one machine at a time");
    }
    if matches!(on.terminal.tty_mode(), TtyMode::Request | TtyMode::Force) {
        anyhow::bail!("a terminal works on one machine at a time: omit -t");
    }
    let Wanted { action, user, env } = wanted;
    let request = request::of_many(action, user, env);
    exec_many::run(home, targets, request, on, printer)
}

/// The terminal for the command, if it gets one.
fn terminal_for(action: &Action, on: &TargetOptions, printer: &Printer) -> Option<Terminal> {
    let given = match on.terminal.tty_mode() {
        TtyMode::Auto => *action == Action::Shell && terminal::is_here() && !on.no_input,
        TtyMode::Request if !terminal::is_here() => {
            printer.say(
                "standard input is not a terminal, so none is allocated there; use -tt to force it",
            );
            false
        }
        TtyMode::Request | TtyMode::Force => true,
        TtyMode::Never => false,
    };
    given.then(terminal::like_here)
}

/// The argument list to send: as typed, except for a single argument with spaces in it.
pub(super) fn argument_list(arguments: &[OsString]) -> Result<Vec<Vec<u8>>, NeedsShell> {
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
