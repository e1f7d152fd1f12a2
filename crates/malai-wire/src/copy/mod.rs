//! The protocol of `malai cp`, between the caller and `malai cp-server` on a machine. PROTOCOL.md describes it in prose.
//!
//! The caller first says what to copy. Then one side sends files and the other receives them: the sender offers entries
//! without waiting, the receiver says which files it wants and from which byte, and the sender sends them. So no file
//! costs a round trip of its own, and an interrupted transfer can resume.

use malai_cluster::escape;
use serde::{Deserialize, Serialize};

use crate::frame::{FrameError, HEAD, Tagged, parse_head};

/// The version of this protocol.
pub const VERSION: u32 = 1;

/// The most bytes of a file in one frame.
pub const MAX_DATA: usize = 256 * 1024;

/// The largest frame, in bytes, without its length: an entry with its extended attributes.
pub const MAX_FRAME: usize = 1024 * 1024;

/// The longest path below a source, in bytes.
pub const MAX_PATH: usize = 64 * 1024;

/// The most entries that may be offered and not yet settled.
pub const WINDOW: usize = 4096;

/// The tag of a frame whose body is raw bytes of a file. No message has it.
pub const DATA: u8 = 3;

/// The caller's first message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening {
    /// Copy files from the machine.
    Get(Get),
    /// Copy files to the machine.
    Put(Put),
}

crate::tagged!(Opening {
    1 => Get(Get),
    2 => Put(Put),
});

/// A request for files of the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Get {
    /// [`VERSION`].
    pub version: u32,
    /// Their paths on the machine.
    pub sources: Vec<Vec<u8>>,
    /// How they are copied.
    pub options: Options,
}

/// A request to store files on the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Put {
    /// [`VERSION`].
    pub version: u32,
    /// The destination path on the machine.
    pub target: Vec<u8>,
    /// The name of each source; an empty name means the content of a folder.
    pub names: Vec<Vec<u8>>,
    /// How they are copied.
    pub options: Options,
}

/// How files are copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// Copies folders with everything in them.
    pub recursive: bool,
    /// Preserves times and modes.
    pub preserve: bool,
    /// Also preserves owners, links, extended attributes and special files.
    pub archive: bool,
    /// Keeps existing files as they are.
    pub no_clobber: bool,
}

/// The machine's answer to an [`Opening`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// Copying can begin.
    Ready,
    /// Copying cannot begin, for this reason.
    Failed(String),
}

crate::tagged!(Opened {
    1 => Ready,
    2 => Failed(String),
});

/// A message from the sender. File bytes are frames of tag [`DATA`] between [`Begin`] and [`End`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromSender {
    /// An entry that can be copied.
    Offer(Offer),
    /// The bytes of a file follow.
    Begin(Begin),
    /// This many zero bytes of the file, a hole that takes no space.
    Hole(u64),
    /// The end of the file.
    End(End),
    /// An offered entry cannot be read, or not to its end.
    Withdrawn(Withdrawn),
    /// Something could not be read, so it was not offered.
    Problem(Problem),
    /// Everything has been offered.
    Offered,
}

crate::tagged!(FromSender {
    1 => Offer(Offer),
    2 => Begin(Begin),
    4 => Hole(u64),
    5 => End(End),
    6 => Withdrawn(Withdrawn),
    7 => Problem(Problem),
    8 => Offered,
});

/// A message from the receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromReceiver {
    /// Asks for this file's bytes.
    Want(Want),
    /// The receiver is done with an entry.
    Settled(Settled),
    /// This many existing bytes were read to verify them.
    Verified(u64),
    /// All entries are settled.
    Finished,
}

crate::tagged!(FromReceiver {
    1 => Want(Want),
    2 => Settled(Settled),
    5 => Verified(u64),
    6 => Finished,
});

/// An entry that can be copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Identifies the entry in later messages.
    pub id: u64,
    /// The source that it belongs to, counting from 0.
    pub source: u32,
    /// Its path below the source, with `/` between names; empty for the source itself.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Its permission bits, without its type.
    pub mode: u32,
    /// When it was last modified.
    pub modified: Time,
    /// When it was last accessed.
    pub accessed: Time,
    /// Its owner, if that is preserved.
    pub owner: Option<Owner>,
    /// Its extended attributes, if those are preserved: names and values.
    pub attributes: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A file, with its size in bytes if known.
    File(Option<u64>),
    /// A folder.
    Folder,
    /// A symbolic link, with its target.
    Symlink(Vec<u8>),
    /// Another name of a file that was offered before, given by its source and its path below that.
    HardLink(u32, Vec<u8>),
    /// A FIFO.
    Fifo,
}

/// A time since 1970.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Time {
    /// Seconds.
    pub seconds: i64,
    /// Nanoseconds, below 10⁹.
    pub nanoseconds: u32,
}

/// An entry's owner.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Owner {
    /// The user's id, and their name if there is one.
    pub user: (u32, Vec<u8>),
    /// The group's id, and its name if there is one.
    pub group: (u32, Vec<u8>),
}

/// The bytes of a file follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begin {
    /// The id of the offer.
    pub id: u64,
    /// The first byte that follows: where the [`Base`] ends, or 0.
    pub offset: u64,
}

/// The end of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// The BLAKE3 hash of all its bytes.
    pub hash: [u8; 32],
}

/// An offered entry cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withdrawn {
    /// The id of the offer.
    pub id: u64,
    /// The reason.
    pub why: String,
}

/// Something could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The source that it belongs to.
    pub source: u32,
    /// Its path below the source.
    pub path: Vec<u8>,
    /// The reason.
    pub why: String,
}

/// Asks for a file's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Want {
    /// The id of the offer.
    pub id: u64,
    /// What the receiver already has.
    pub base: Option<Base>,
}

/// The beginning of a file, which the receiver already has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// Its length in bytes.
    pub length: u64,
    /// The BLAKE3 hash of these bytes.
    pub hash: [u8; 32],
}

/// The receiver is done with an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// The id of the offer.
    pub id: u64,
    /// Its outcome.
    pub outcome: Outcome,
}

/// The outcome of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It is in place under its name.
    Stored,
    /// It was already there, unchanged.
    Unchanged,
    /// It was left out, as requested.
    LeftOut,
    /// It could not be written, for this reason.
    Failed(String),
}

/// Decodes a frame's head: its tag, and the length of its body.
///
/// # Errors
///
/// The frame is too long, or has no tag.
pub fn head(bytes: [u8; HEAD]) -> Result<(u8, usize), FrameError> {
    parse_head(bytes, MAX_FRAME)
}

/// The head of a frame of file bytes.
pub fn data_head(length: usize) -> [u8; HEAD] {
    let [a, b, c, d] = u32::try_from(length + 1).unwrap_or(u32::MAX).to_be_bytes();
    [a, b, c, d, DATA]
}

/// Decodes the message of a frame other than [`DATA`]. In this protocol no tag may be skipped.
///
/// # Errors
///
/// The message is unknown or malformed.
pub fn decode<T: Tagged>(tag: u8, body: &[u8]) -> Result<T, FrameError> {
    T::decode(tag, body)?.ok_or(FrameError::Tag(tag))
}

/// Splits a path below a source into its names.
///
/// # Errors
///
/// The path is too long or could lead elsewhere: it is absolute, or contains `..`, `.`, an empty name or a NUL.
pub fn names_of(path: &[u8]) -> Result<Vec<&[u8]>, String> {
    if path.is_empty() {
        return Ok(Vec::new());
    }
    let names: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    let wrong = |name: &&[u8]| matches!(*name, b"" | b"." | b"..") || name.contains(&0);
    if path.len() > MAX_PATH || names.iter().any(wrong) {
        let shown: String = escape(&String::from_utf8_lossy(path))
            .chars()
            .take(200)
            .collect();
        return Err(format!(
            "the other side sent a path that is not allowed: {shown}"
        ));
    }
    Ok(names)
}

/// The name that a source gets at its target: the last name of its path, or none if its content is meant (`.`, `..`,
/// `/` and `~`).
pub fn name_of(source: &[u8]) -> Option<&[u8]> {
    let end = source.iter().rposition(|byte| *byte != b'/')? + 1;
    let source = &source[..end];
    let begin = source
        .iter()
        .rposition(|byte| *byte == b'/')
        .map_or(0, |at| at + 1);
    match &source[begin..] {
        b"." | b".." | b"~" => None,
        name => Some(name),
    }
}

#[cfg(test)]
mod tests;
