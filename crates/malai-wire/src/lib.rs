//! x
pub mod status;
