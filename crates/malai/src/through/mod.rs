//! The two ways of a command: through the daemon, or direct. Both end in `malai_node::execute`.

pub mod daemon;
pub mod direct;
mod ignored;
mod interactive;
mod started;
