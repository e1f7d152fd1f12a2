//! Messages between two peers: one file for each kind of stream.

pub mod connect;
pub mod exec;
pub mod hello;
pub mod probe;
pub mod sync;

/// The first byte of a bidirectional stream: the kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum RequestKind {
    /// A command's control stream ([`exec`]).
    Exec = 1,
    /// Fetch the configuration that the other side's header announced ([`sync`]).
    Fetch = 2,
    /// Compare headers ([`sync`]).
    Compare = 3,
    /// Ping: one byte back for each byte.
    Ping = 4,
    /// A connection to a service; its raw bytes follow on the same stream ([`connect`]).
    Connect = 5,
}

impl RequestKind {
    /// The kind with this first byte.
    pub fn from_byte(byte: u8) -> Option<Self> {
        [
            Self::Exec,
            Self::Fetch,
            Self::Compare,
            Self::Ping,
            Self::Connect,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }
}

/// The first byte of a unidirectional stream: what the stream carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum StreamKind {
    /// One [`hello::Hello`] frame; the first stream of each side.
    Hello = 16,
    /// A command's standard input, raw.
    Stdin = 17,
    /// A command's standard output, raw.
    Stdout = 18,
    /// A command's standard error, raw.
    Stderr = 19,
}

impl StreamKind {
    /// The kind with this first byte.
    pub fn from_byte(byte: u8) -> Option<Self> {
        [Self::Hello, Self::Stdin, Self::Stdout, Self::Stderr]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// Bytes before the payload of a raw stream: its kind and its session.
pub const RAW_HEAD: usize = 9;

/// The head of a raw stream: its kind, then its session (the QUIC id of its control stream, big-endian).
pub fn raw_head(kind: StreamKind, session: u64) -> [u8; RAW_HEAD] {
    let mut head = [kind as u8; RAW_HEAD];
    head[1..].copy_from_slice(&session.to_be_bytes());
    head
}
