//! The two routes of a command: through the daemon, or direct. Both end in `malai_node::dispatch`.

pub mod background;
pub mod direct;
pub mod forwarding;
pub mod interactive;
pub mod reaper;
pub mod request;
pub mod route;
pub mod standard_streams;
pub mod via_daemon;

use std::path::Path;

use malai_node::CommandResult;
use signal_hook::consts::SIGINT;

use crate::cli::TargetOptions;
use crate::output::duration;

/// The result of a command that continued after SIGINT, when a second one arrives: a user who types Ctrl-C twice does not want
/// to wait.
fn interrupted_twice(target: &str) -> CommandResult {
    let target = malai_cluster::escape(target);
    CommandResult {
        code: 128 + SIGINT as u8,
        message: Some(format!(
            "{target} was interrupted twice; the command was ended"
        )),
        reason: None,
    }
}

/// The message about a command that has timed out.
fn timed_out(target: &str, on: &TargetOptions) -> String {
    format!(
        "{target} timed out after {}; the command was ended",
        duration::format(on.timeout.unwrap_or_default())
    )
}

/// What this side does once a session has started.
fn session_started(on: &TargetOptions) {
    run_local_command(on);
    if on.in_background {
        background::started(true);
    }
}

/// Runs what this side is to run once a session has started, and waits for it, as ssh does with its `LocalCommand`. Its
/// exit code has no meaning.
pub fn run_local_command(on: &TargetOptions) {
    let Some(line) = &on.local_command else {
        return;
    };
    let shell = std::env::var_os("SHELL").filter(|shell| !shell.is_empty());
    let shell = shell.unwrap_or_else(|| "/bin/sh".into());
    let ended = std::process::Command::new(&shell)
        .arg("-c")
        .arg(line)
        .stdin(background::input(on.in_background))
        .status();
    if let Err(error) = ended {
        tracing::warn!(
            "LocalCommand: cannot run {}: {error}",
            malai_node::display_path(Path::new(&shell))
        );
    }
}
