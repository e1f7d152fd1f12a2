//! The two ways of a command: through the daemon, or direct. Both end in `malai_node::execute`.

pub mod daemon;
pub mod direct;
pub mod ignored;
mod interactive;
mod started;

use crate::args::OnTargets;
use crate::many::summary::shown;

/// What is said of a command that was given up after its time.
fn timed_out(target: &str, on: &OnTargets) -> String {
    format!(
        "{target} timed out after {}; the command was ended",
        shown(on.timeout.unwrap_or_default())
    )
}
