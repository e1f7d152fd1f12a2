//! The codes malai exits with.

use std::process::ExitCode;

/// An exit code. A command on a target hands its remote code through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit(pub u8);

impl Exit {
    /// Done.
    pub const OK: Exit = Exit(0);
    /// Not done, or something is wrong.
    pub const FAILED: Exit = Exit(1);
    /// Typed wrongly.
    pub const USAGE: Exit = Exit(2);
    /// malai itself failed or refused where the code would otherwise be a remote command's (as ssh has it).
    pub const MALAI: Exit = Exit(255);
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.0)
    }
}
