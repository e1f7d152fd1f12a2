//! Command line ⇄ daemon, over the socket in the home.
//!
//! Each side begins with [`preamble`]: a magic word and a version. A daemon that meets another
//! version answers with its own preamble and closes, so that both can say clearly what is wrong.
//! Then the client sends one [`Request`]; a command's descriptors travel with its first byte.

use serde::{Deserialize, Serialize};

use crate::peer::exec::{ExecRequest, Signal, Size, Terminal};

/// The version of what is said over the socket. The two programs are usually one binary; they differ
/// only while an upgrade is under way.
pub const VERSION: u16 = 1;

/// Bytes of a preamble.
pub const PREAMBLE: usize = 8;

/// The magic word and a version, big endian.
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

/// Runs a command through the daemon. Its descriptors 1 and 2, and 0 unless `stdin` is
/// [`Stdin::Streamed`], travel with the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    /// The target as typed, `<machine>.<cluster>`.
    pub target: String,
    /// What is to be run.
    pub request: ExecRequest,
    /// How standard input reaches the daemon.
    pub stdin: Stdin,
    /// The terminal that the command is to be given; without one it has pipes.
    pub terminal: Option<Terminal>,
}

/// How a command's standard input reaches the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stdin {
    /// As a descriptor.
    Fd,
    /// As [`ClientMessage::Input`], because a terminal stays with the command line (job control).
    Streamed,
    /// There is none: end of file at once.
    Empty,
}

/// Applies the configuration files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rescan {
    /// Only this cluster, by its alias; otherwise all.
    pub cluster: Option<String>,
    /// Whether a manager publishes its file although members have a newer revision. Only with `cluster`.
    pub publish_older: bool,
}

/// Asks one machine whether it is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ping {
    /// The target as typed, `<machine>.<cluster>`.
    pub target: String,
    /// How often; at most [`MOST_PINGS`] times.
    pub count: u16,
    /// How long an answer may take, in milliseconds; at most [`LONGEST_PING`].
    pub timeout_ms: u32,
}

/// The most often that one request may ask a machine.
pub const MOST_PINGS: u16 = 1000;

/// The longest that an answer may take, in milliseconds.
pub const LONGEST_PING: u32 = 60_000;

/// What a command line asks, one a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// How are things? Answered by [`Reply::Status`].
    Status,
    /// Apply the files. Answered by [`Reply::Rescanned`].
    Rescan(Rescan),
    /// Stop. Answered by [`Reply::Done`] when no new session is accepted any more; the end of
    /// the connection is the end of the daemon.
    Stop,
    /// Run a command.
    Exec(Exec),
    /// Which machines are meant by a list of targets, as typed? Answered by [`Reply::Resolved`].
    Resolve(String),
    /// What runs? Answered by [`Reply::Sessions`].
    Sessions,
    /// End the session of this number. Answered by [`Reply::Done`] when it is being ended.
    EndSession(u64),
    /// Is a machine there? Answered by [`Reply::Pinged`].
    Ping(Ping),
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
});

/// What the command line says while its command runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientMessage {
    /// Bytes for standard input; none is the end of file.
    Input(Vec<u8>),
    /// A signal for the command.
    Signal(Signal),
    /// The command line was stopped (Ctrl-Z): hold the output back.
    Pause,
    /// It goes on.
    Resume,
    /// The terminal has another size now.
    Resize(Size),
}

crate::tagged!(ClientMessage {
    1 => Input(Vec<u8>),
    2 => Signal(Signal),
    3 => Pause,
    4 => Resume,
    5 => Resize(Size),
});

/// What became of one cluster in a rescan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RescanReport {
    /// The cluster's alias here.
    pub alias: String,
    /// What happened, in lines for people.
    pub lines: Vec<String>,
    /// Whether the cluster is in order.
    pub ok: bool,
}

/// What the daemon answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The state of the daemon, as JSON that this version's command line shows.
    Status(String),
    /// What became of each cluster.
    Rescanned(Vec<RescanReport>),
    /// Done.
    Done,
    /// It was not done, and why. Ends the connection.
    Failed(String),
    /// The daemon is ready for more of [`ClientMessage::Input`].
    More,
    /// The remote side has accepted the command.
    Started,
    /// The command has ended: the code to exit with, and what malai itself has to say, if anything.
    Exited(Exited),
    /// The machines that are meant.
    Resolved(Resolved),
    /// What runs, as JSON of [`crate::sessions::SessionsFacts`].
    Sessions(String),
    /// What came of asking a machine, as JSON of [`crate::ping::Pinged`].
    Pinged(String),
}

/// The machines that a list of targets means.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolved {
    /// Each once, in the order of the list.
    pub machines: Vec<Named>,
    /// What was left out of groups and why, in words for people.
    pub notes: Vec<String>,
}

/// A machine by its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// The machine's name in the cluster.
    pub machine: String,
    /// The cluster's alias here.
    pub cluster: String,
}

/// The end of a command, as the command line passes it on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exited {
    /// The code to exit with.
    pub code: u8,
    /// malai's own message for standard error.
    pub message: Option<String>,
    /// Why malai itself failed, for a summary of many machines.
    pub reason: Option<Reason>,
}

/// Why malai failed to run a command, without the machine's name: the same for all machines that have the same
/// problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// What kind of failure.
    pub kind: ReasonKind,
    /// The reason, as part of a line.
    pub text: String,
}

/// A kind of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReasonKind {
    /// The machine was not reached; nothing was run.
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
});
