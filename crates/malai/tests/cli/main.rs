//! The real binary on homes of its own: standard output, standard error and exit code in one picture.

mod administer;
mod check;
mod completions;
mod doctor;
mod habits;
#[path = "../common/harness.rs"]
#[allow(dead_code, reason = "shared with other test programs")]
mod harness;
mod init;
mod join;
mod logs;
mod man;
mod network;
mod status;
mod style;
mod troubleshooting;
mod why;
mod world;
