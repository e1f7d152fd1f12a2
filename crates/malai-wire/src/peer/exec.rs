//! A command's control stream. The payload has raw streams of its own, see [`super::Uni`].
//!
//! Legal, from the client: one `Open`, then any number of `Signal`. Its end before the exit means
//! that the client has gone. From the server: `Accepted` or `Refused`; after `Accepted` one `Exit`
//! or one `Refused`, then the end of the stream.

use serde::{Deserialize, Serialize};

use crate::refusal::Refusal;

/// What is to be run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// The argument list: any bytes but NUL. No shell is involved.
    pub argv: Vec<Vec<u8>>,
    /// Whether a stream for standard input follows; without one the command reads end of file.
    pub stdin: bool,
}

/// A signal that travels by its name, since numbers differ between systems.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Signal {
    /// SIGHUP
    Hup,
    /// SIGINT
    Int,
    /// SIGQUIT
    Quit,
    /// SIGTERM
    Term,
    /// SIGUSR1
    Usr1,
    /// SIGUSR2
    Usr2,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// It exited with this code, 0 to 255.
    Code(u8),
    /// It was ended by this signal, numbered as Linux numbers it.
    Signal(u8),
}

impl Status {
    /// The exit code as a shell shows it: the code itself, or 128 and the signal's number.
    pub fn exit_code(self) -> u8 {
        match self {
            Status::Code(code) => code,
            Status::Signal(number) => 128u8.saturating_add(number),
        }
    }
}

/// The end of a command and how much it wrote: whoever received less has not seen all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// How it ended.
    pub status: Status,
    /// Bytes sent on the stream for standard output; 0 means that there is no such stream.
    pub stdout: u64,
    /// Bytes sent on the stream for standard error; 0 means that there is no such stream.
    pub stderr: u64,
}

/// From the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromClient {
    /// Run this.
    Open(Open),
    /// Send this signal to the command's process group.
    Signal(Signal),
}

crate::tagged!(FromClient { 1 => Open(Open), 2 => Signal(Signal) });

/// From the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromServer {
    /// The policy allows it; the command is being started.
    Accepted,
    /// It was refused, or ended by the server, and why.
    Refused(Refusal),
    /// The command has ended and all its output was sent.
    Exit(Exit),
}

crate::tagged!(FromServer { 1 => Accepted, 2 => Refused(Refusal), 3 => Exit(Exit) });
