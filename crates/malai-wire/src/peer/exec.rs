//! A command's control stream. The payload has raw streams of its own, see [`super::StreamKind`].
//!
//! Legal, from the client: one `Open`, then any number of `Signal` and `Resize`. Its end before the
//! exit means that the client has gone. From the server: `Accepted` or `Refused`; after `Accepted` one `Exit`
//! or one `Refused`, then the end of the stream.

use serde::{Deserialize, Serialize};

use crate::refusal::Refusal;

/// What is to be run, and with which streams.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// What is to be run.
    pub request: ExecRequest,
    /// Whether a stream for standard input follows; without one the command reads end of file.
    pub stdin: bool,
    /// The terminal that it is to be given; without one it has pipes. With one there is no stream for
    /// standard error: a terminal has one output.
    pub terminal: Option<Terminal>,
}

/// What a caller asks to have run, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecRequest {
    /// What is to be run.
    pub action: Action,
    /// The user to run as, where the caller names one; else the machine's configuration says.
    pub user: Option<String>,
    /// Environment variables, of which the machine takes those that it accepts.
    pub env: Vec<(String, Vec<u8>)>,
    /// Whether standard output and standard error are one stream, because they are one open file at the caller.
    pub one_output: bool,
}

impl From<Action> for ExecRequest {
    /// The action with nothing else asked for.
    fn from(action: Action) -> Self {
        Self {
            action,
            user: None,
            env: Vec::new(),
            one_output: false,
        }
    }
}

/// What is to be run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// This argument list: any bytes but NUL. No shell is involved.
    Exec(Vec<Vec<u8>>),
    /// The login shell of the user whom things run as there.
    Shell,
    /// A line that was written for a shell, as ssh sends them: any bytes but NUL.
    Line(Vec<u8>),
    /// A subsystem by its name, as ssh has them: `sftp`.
    Subsystem(String),
}

impl Action {
    /// The same as the policy looks at it.
    pub fn asked(&self) -> malai_cluster::Action<'_> {
        match self {
            Action::Exec(argv) => malai_cluster::Action::Exec(argv),
            Action::Shell => malai_cluster::Action::Shell,
            Action::Line(line) => malai_cluster::Action::Line(line),
            Action::Subsystem(name) => malai_cluster::Action::Subsystem(name),
        }
    }

    /// The argument list; empty for anything but a command.
    pub fn argv(&self) -> &[Vec<u8>] {
        match self {
            Action::Exec(argv) => argv,
            Action::Shell | Action::Line(_) | Action::Subsystem(_) => &[],
        }
    }
}

/// A terminal that a command is to be given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminal {
    /// Its kind, as `TERM` says it.
    pub term: Term,
    /// How large it is at first.
    pub size: Size,
}

/// The kind of a terminal, as terminfo names it: 1 to 64 of `A-Z a-z 0-9 . _ + -`, the first a letter or
/// a digit. It becomes part of a path where terminals are looked up, and can be none by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Term(String);

/// What can be no terminal's kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not the name of a kind of terminal")]
pub struct NoTerm;

impl Term {
    /// The kind of this name.
    ///
    /// # Errors
    ///
    /// [`NoTerm`] if terminfo could not name one so.
    pub fn parse(name: &str) -> Result<Self, NoTerm> {
        Self::try_from(name.to_owned())
    }

    /// A terminal of which nothing is known.
    pub fn dumb() -> Self {
        Self("dumb".to_owned())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Term {
    type Error = NoTerm;

    fn try_from(name: String) -> Result<Self, NoTerm> {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte);
        let begins_well = name
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_alphanumeric());
        if begins_well && name.len() <= 64 && name.bytes().all(inner) {
            Ok(Self(name))
        } else {
            Err(NoTerm)
        }
    }
}

impl From<Term> for String {
    fn from(term: Term) -> String {
        term.0
    }
}

/// How large a terminal is. What is not known is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Size {
    /// Characters in a line.
    pub columns: u16,
    /// Lines.
    pub rows: u16,
    /// Pixels across.
    pub width_pixels: u16,
    /// Pixels down.
    pub height_pixels: u16,
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
    /// Send this signal to the command's process group; with a terminal, to the one in its foreground.
    Signal(Signal),
    /// The terminal has another size now. Nothing without one.
    Resize(Size),
}

crate::tagged!(FromClient { 1 => Open(Open), 2 => Signal(Signal), 3 => Resize(Size) });

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
