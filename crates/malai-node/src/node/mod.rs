//! What one process has once, for all its clusters.

pub(crate) mod accept;
pub(crate) mod limits;
pub mod reaper;
pub(crate) mod sessions;
