//! Messages between the command line and its daemon, over the socket in the home.
//!
//! Each side starts with [`preamble`]: a magic word and a version. A daemon that receives another version answers
//! with its own preamble and closes, so that both sides can report the mismatch. Then the client sends one
//! [`Request`]; the descriptors of a command are sent with its first byte.

use serde::{Deserialize, Serialize};

use crate::peer::connect::Destination;
use crate::peer::exec::{ExecRequest, Signal, Size, Terminal};

/// The version of the messages on the socket. Both programs are usually the same binary; they differ only
/// during an upgrade.
pub const VERSION: u16 = 1;

/// The length of a preamble in bytes.
pub const PREAMBLE: usize = 8;

/// The magic word and a version, big-endian.
pub fn preamble(version: u16) -> [u8; PREAMBLE] {
    let [high, low] = version.to_be_bytes();
    [b'm', b'a', b'l', b'a', b'i', b'/', high, low]
}

/// The version in a preamble; `None` if it is not one.
pub fn parse_preamble(bytes: [u8; PREAMBLE]) -> Option<u16> {
    let [b'm', b'a', b'l', b'a', b'i', b'/', high, low] = bytes else {
        return None;
    };
    Some(u16::from_be_bytes([high, low]))
}

/// The largest frame on the socket, in bytes: a command's argument list, or a status of 10,000 machines.
pub const CAP: usize = 16 * 1024 * 1024;

/// Runs a command through the daemon. Descriptors 1 and 2, and 0 unless `stdin` is [`Stdin::Streamed`], are
/// sent with the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    /// The target, `<machine>.<cluster>`; the command line has replaced short names.
    pub target: String,
    /// What to run.
    pub request: ExecRequest,
    /// How standard input reaches the daemon.
    pub stdin: Stdin,
    /// The terminal for the command; `None` for pipes.
    pub terminal: Option<Terminal>,
}

/// How a command's standard input reaches the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stdin {
    /// As a descriptor.
    Fd,
    /// As [`ClientMessage::Input`], because a terminal stays with the command line (job control).
    Streamed,
    /// None: end of file at once.
    Empty,
}

/// Applies the configuration files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rescan {
    /// Only this cluster, by its alias; otherwise all.
    pub cluster: Option<String>,
    /// Whether a manager publishes its file even if members have a newer revision. Only with `cluster`.
    pub publish_older: bool,
}

/// Pings one machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ping {
    /// The target, `<machine>.<cluster>`; the command line has replaced short names.
    pub target: String,
    /// How many pings to send; at most [`MOST_PINGS`].
    pub count: u16,
    /// How long to wait for each answer, in milliseconds; at most [`LONGEST_PING`].
    pub timeout_ms: u32,
}

/// Passes connections on to a service. One descriptor is sent with the request: a listening socket, or a socket that
/// is connected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    /// The service as typed, `<service>.<cluster>`; or the machine through which it goes.
    pub target: String,
    /// What of the target is reached.
    pub to: ForwardTo,
    /// Whether the descriptor is a listening socket; otherwise it is the one connection.
    pub listens: bool,
}

/// What connections are passed on to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ForwardTo {
    /// The target is a service.
    Service,
    /// The target is a machine, and this is what it reaches.
    Through(Destination),
    /// The target is a machine, and each connection says by SOCKS what it is to reach.
    Socks,
}

/// Makes a link that opens a service in a browser.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Browse {
    /// The service as typed, `<service>.<cluster>`.
    pub target: String,
    /// The user of this computer whose browser may use it.
    pub user: u32,
}

/// What has become of the connections that are being passed on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forwarded {
    /// How many are open now.
    pub open: u32,
    /// How many there were, including these.
    pub total: u64,
    /// What went wrong with one of them, as text.
    pub problem: Option<String>,
}

/// The maximum number of pings in one request.
pub const MOST_PINGS: u16 = 1000;

/// The maximum time to wait for an answer, in milliseconds.
pub const LONGEST_PING: u32 = 60_000;

/// A request of a command line. A connection carries exactly one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Reports the state of the daemon. Answered by [`Reply::Status`].
    Status,
    /// Applies the files. Answered by [`Reply::Rescanned`].
    Rescan(Rescan),
    /// Stops the daemon. Answered by [`Reply::Done`] once no new session is accepted; the connection ends when
    /// the daemon exits.
    Stop,
    /// Runs a command.
    Exec(Exec),
    /// Resolves a list of targets, without short names. Answered by [`Reply::Resolved`].
    Resolve(String),
    /// Lists the sessions. Answered by [`Reply::Sessions`].
    Sessions,
    /// Ends the session with this number. Answered by [`Reply::Done`] once it is being ended.
    EndSession(u64),
    /// Pings a machine. Answered by [`Reply::Pinged`].
    Ping(Ping),
    /// Passes connections on to a service, until the command line has gone. Answered by [`Reply::Forwarded`] once the
    /// target is known, and again at each change; for a single connection by [`Reply::Exited`] at its end.
    Forward(Forward),
    /// Asks who is behind a connection to a service of this machine, by the address that the service sees. Answered by
    /// [`Reply::Whois`].
    Whois(String),
    /// Asks for a link that opens a service in a browser. Answered by [`Reply::Browsing`].
    Browse(Browse),
}

crate::tagged!(Request {
    1 => Status,
    2 => Rescan(Rescan),
    3 => Stop,
    4 => Exec(Exec),
    5 => Resolve(String),
    6 => Sessions,
    7 => EndSession(u64),
    8 => Ping(Ping),
    9 => Forward(Forward),
    10 => Whois(String),
    11 => Browse(Browse),
});

/// A message of the command line while its command runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientMessage {
    /// Bytes for standard input; no bytes mean end of file.
    Input(Vec<u8>),
    /// A signal for the command.
    Signal(Signal),
    /// The command line was stopped (Ctrl-Z): hold the output back.
    Pause,
    /// The command line continues.
    Resume,
    /// The size of the terminal has changed.
    Resize(Size),
}

crate::tagged!(ClientMessage {
    1 => Input(Vec<u8>),
    2 => Signal(Signal),
    3 => Pause,
    4 => Resume,
    5 => Resize(Size),
});

/// The result of a rescan for one cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RescanReport {
    /// The cluster's alias here.
    pub alias: String,
    /// What happened, as lines of text.
    pub lines: Vec<String>,
    /// Whether the cluster has no problems.
    pub ok: bool,
}

/// An answer of the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The state of the daemon, as JSON that this version's command line can show.
    Status(String),
    /// The result for each cluster.
    Rescanned(Vec<RescanReport>),
    /// Done.
    Done,
    /// Failed, with the reason. Ends the connection.
    Failed(String),
    /// The daemon is ready for more [`ClientMessage::Input`].
    More,
    /// The remote machine has accepted the command.
    Started,
    /// The command has ended: the code to exit with, and malai's own message, if any.
    Exited(Exited),
    /// The resolved machines.
    Resolved(Resolved),
    /// The sessions, as JSON of [`crate::sessions::SessionsFacts`].
    Sessions(String),
    /// The result of the pings, as JSON of [`crate::ping::Pinged`].
    Pinged(String),
    /// The state of the connections that are being passed on.
    Forwarded(Forwarded),
    /// The clients, as JSON of [`crate::whois::WhoisFacts`].
    Whois(String),
    /// The link, which works once.
    Browsing(String),
}

/// The machines that a list of targets resolves to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolved {
    /// Each once, in the order of the list.
    pub machines: Vec<Named>,
    /// What was left out of groups and why, as text.
    pub notes: Vec<String>,
}

/// A machine, by its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// The machine's name in the cluster.
    pub machine: String,
    /// The cluster's alias here.
    pub cluster: String,
}

/// malai's own failures and refusals exit with this, as ssh's do.
pub const EXIT_MALAI_FAILURE: u8 = 255;

/// The end of a command, as reported to the command line.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exited {
    /// The code to exit with.
    pub code: u8,
    /// malai's own message for standard error.
    pub message: Option<String>,
    /// Why malai itself failed, for a summary of many machines.
    pub reason: Option<Reason>,
}

impl Exited {
    /// malai itself failed or refused.
    pub fn failed(message: impl Into<String>) -> Self {
        Self {
            code: EXIT_MALAI_FAILURE,
            message: Some(message.into()),
            reason: None,
        }
    }

    /// An exit with this code, without a message.
    pub fn exit(code: u8) -> Self {
        Self {
            code,
            message: None,
            reason: None,
        }
    }
}

/// Why malai failed to run a command, without the machine's name, so that machines with the same problem have
/// the same reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// The kind of failure.
    pub kind: ReasonKind,
    /// The reason, as part of a line.
    pub text: String,
}

/// The kind of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReasonKind {
    /// The machine could not be reached; nothing was run.
    Unreachable,
    /// The machine refused.
    Refused,
    /// Anything else.
    Other,
}

crate::tagged!(Reply {
    1 => Status(String),
    2 => Rescanned(Vec<RescanReport>),
    3 => Done,
    4 => Failed(String),
    5 => More,
    6 => Started,
    7 => Exited(Exited),
    8 => Resolved(Resolved),
    9 => Sessions(String),
    10 => Pinged(String),
    11 => Forwarded(Forwarded),
    12 => Whois(String),
    13 => Browsing(String),
});
