//! A child process and its bytes.

pub(crate) mod child;
mod file_reports;
pub(crate) mod io;
pub(crate) mod kill;
pub(crate) mod pipes;
pub(crate) mod process;
pub(crate) mod spawn;
pub(crate) mod ssh_env;
pub(crate) mod stdio;
pub mod surroundings;
pub(crate) mod terminal;
