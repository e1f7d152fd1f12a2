//! Asking others.

pub mod exec;
