//! malai's exit codes.

use std::process::ExitCode;

/// An exit code. A command on a target passes on its remote code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit(pub u8);

impl Exit {
    /// Success.
    pub const OK: Exit = Exit(0);
    /// Failure, or something is wrong.
    pub const FAILED: Exit = Exit(1);
    /// Invalid command line.
    pub const USAGE: Exit = Exit(2);
    /// malai itself failed or refused, where any other code would be the remote command's (as in ssh).
    pub const MALAI: Exit = Exit(255);
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.0)
    }
}
