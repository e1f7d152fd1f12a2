//! Asking others.

pub(crate) mod exec;
