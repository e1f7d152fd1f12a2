//! The two ways of a command: through the daemon, or direct. Both end in `malai_node::dispatch`.

pub mod direct;
pub mod interactive;
pub mod reaper;
pub mod request;
pub mod route;
pub mod via_daemon;

use crate::cli::TargetOptions;
use crate::output::duration;

/// What is said of a command that was given up after its time.
fn timed_out(target: &str, on: &TargetOptions) -> String {
    format!(
        "{target} timed out after {}; the command was ended",
        duration::format(on.timeout.unwrap_or_default())
    )
}
