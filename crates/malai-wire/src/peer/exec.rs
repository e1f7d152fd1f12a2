//! A command's control stream. Its raw data travels on separate streams, see [`super::StreamKind`].
//!
//! Allowed from the client: one `Open`, then any number of `Signal` and `Resize`. If the stream ends before the
//! exit, the client has gone. Allowed from the server: `Accepted` or `Refused`; after `Accepted` one `Exit` or one
//! `Refused`, then the end of the stream.

use serde::{Deserialize, Serialize};

use crate::refusal::Refusal;

/// Opens a session: what to run, and with which streams.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// What to run.
    pub request: ExecRequest,
    /// Whether a stream for standard input follows; without one the command reads end of file.
    pub stdin: bool,
    /// The terminal for the command; `None` for pipes. With a terminal there is no stream for standard error, because
    /// a terminal has a single output.
    pub terminal: Option<Terminal>,
}

/// What a caller asks to run, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecRequest {
    /// What to run.
    pub action: Action,
    /// The user to run as, if the caller names one; otherwise the machine's configuration decides.
    pub user: Option<String>,
    /// Environment variables; the machine takes those that it accepts.
    pub env: Vec<(String, Vec<u8>)>,
    /// Whether standard output and standard error are one stream, because the caller's are the same open file.
    pub one_output: bool,
}

impl From<Action> for ExecRequest {
    /// The action without any options.
    fn from(action: Action) -> Self {
        Self {
            action,
            user: None,
            env: Vec::new(),
            one_output: false,
        }
    }
}

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// This argument list: any bytes except NUL. No shell is involved.
    Exec(Vec<Vec<u8>>),
    /// The login shell of the user that commands run as there.
    Shell,
    /// A line written for a shell, as ssh sends it: any bytes except NUL.
    Line(Vec<u8>),
    /// A subsystem by name, as in ssh: `sftp`.
    Subsystem(String),
    /// A subsystem that serves the files of a folder, and nothing else of its machine.
    Folder {
        /// The folder's name in the cluster.
        folder: String,
        /// The subsystem's name.
        subsystem: String,
    },
}

impl Action {
    /// The action as the policy sees it.
    pub fn asked(&self) -> malai_cluster::Action<'_> {
        match self {
            Action::Exec(argv) => malai_cluster::Action::Exec(argv),
            Action::Shell => malai_cluster::Action::Shell,
            Action::Line(line) => malai_cluster::Action::Line(line),
            Action::Subsystem(name) => malai_cluster::Action::Subsystem(name),
            Action::Folder { folder, subsystem } => {
                malai_cluster::Action::Folder { folder, subsystem }
            }
        }
    }

    /// The size of the argument list, or of the line, as encoded: each part with the bytes of its length.
    pub fn argument_bytes(&self) -> usize {
        // Seven bits of a length in each byte.
        let with_length = |bytes: &Vec<u8>| {
            let bits = usize::BITS - bytes.len().leading_zeros();
            bytes.len() + bits.div_ceil(7).max(1) as usize
        };
        match self {
            Action::Exec(argv) => argv.iter().map(with_length).sum(),
            Action::Line(line) => with_length(line),
            Action::Shell | Action::Subsystem(_) | Action::Folder { .. } => 0,
        }
    }

    /// The argument list; empty unless the action is a command.
    pub fn argv(&self) -> &[Vec<u8>] {
        match self {
            Action::Exec(argv) => argv,
            Action::Shell | Action::Line(_) | Action::Subsystem(_) | Action::Folder { .. } => &[],
        }
    }
}

/// A terminal for a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminal {
    /// Its kind: the value of `TERM`.
    pub term: Term,
    /// Its initial size.
    pub size: Size,
}

/// The kind of a terminal, as terminfo names it: 1 to 64 of `A-Z a-z 0-9 . _ + -`, the first a letter or a digit.
/// Programs build a path from it to look the terminal up, so it must not be able to leave that folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Term(String);

/// A text that cannot be the kind of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a valid terminal name (TERM)")]
pub struct NoTerm;

impl Term {
    /// Parses a kind.
    ///
    /// # Errors
    ///
    /// [`NoTerm`] if it is not a valid terminfo name.
    pub fn parse(name: &str) -> Result<Self, NoTerm> {
        Self::try_from(name.to_owned())
    }

    /// A terminal without any known capabilities.
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

/// The size of a terminal. Unknown values are 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Size {
    /// Columns.
    pub columns: u16,
    /// Rows.
    pub rows: u16,
    /// Width in pixels.
    pub width_pixels: u16,
    /// Height in pixels.
    pub height_pixels: u16,
}

/// A signal. It is sent by name, because numbers differ between systems.
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
    /// It was terminated by this signal, by its Linux number.
    Signal(u8),
}

impl Status {
    /// The exit code as a shell reports it: the code itself, or 128 plus the signal's number.
    pub fn exit_code(self) -> u8 {
        match self {
            Status::Code(code) => code,
            Status::Signal(number) => 128u8.saturating_add(number),
        }
    }
}

/// The end of a command and how much it wrote. A client that received less has not seen everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// How it ended.
    pub status: Status,
    /// Bytes sent on the stream for standard output; 0 means that there is no such stream.
    pub stdout: u64,
    /// Bytes sent on the stream for standard error; 0 means that there is no such stream.
    pub stderr: u64,
}

/// A message from the machine that asks, on the stream of its request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromClient {
    /// Run this command: the first message, sent once.
    Open(Open),
    /// Send this signal to the command's process group; with a terminal, to its foreground process group.
    Signal(Signal),
    /// The size of the terminal has changed. Ignored without a terminal.
    Resize(Size),
}

crate::tagged!(FromClient { 1 => Open(Open), 2 => Signal(Signal), 3 => Resize(Size) });

/// A message from the machine that runs the command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromServer {
    /// The policy allows it; the command is being started.
    Accepted,
    /// The request was refused, or the server ended the command, with the reason.
    Refused(Refusal),
    /// The command has exited and all its output was sent.
    Exit(Exit),
    /// The client is to send at most this many bytes of the input, counted from its beginning, until it is told a larger
    /// number. Without this message there is no such bound.
    Input(u64),
}

crate::tagged!(FromServer { 1 => Accepted, 2 => Refused(Refusal), 3 => Exit(Exit), 0x81 => Input(u64) });
