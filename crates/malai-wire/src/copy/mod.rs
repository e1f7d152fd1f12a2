//! `malai cp`'s conversation, between the caller and `malai cp-server` on a machine. PROTOCOL.md describes it in prose.
//!
//! The caller opens with what is to be copied. Then one of both sends files and the other receives them, whichever way
//! they go: the sender offers entries without waiting, the receiver says which files it wants and from which byte on,
//! the sender sends these. So no file waits for a turn of its own, and a transfer that broke off goes on.

use malai_cluster::escape;
use serde::{Deserialize, Serialize};

use crate::frame::{FrameError, HEAD, Tagged, parse_head};

/// The version of this conversation.
pub const VERSION: u32 = 1;

/// The most bytes of a file in one frame.
pub const MAX_DATA: usize = 256 * 1024;

/// The largest frame, in bytes, its length left out: an entry with its extended attributes.
pub const MAX_FRAME: usize = 1024 * 1024;

/// The longest path below a source, in bytes.
pub const MAX_PATH: usize = 64 * 1024;

/// The most entries that a sender offers before they are settled.
pub const WINDOW: usize = 4096;

/// The tag of a frame whose body is bytes of a file, as they are. No message has it.
pub const DATA: u8 = 3;

/// What the caller asks for, first of all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening {
    /// Files of the machine.
    Get(Get),
    /// Files for the machine.
    Put(Put),
}

crate::tagged!(Opening {
    1 => Get(Get),
    2 => Put(Put),
});

/// Files of the machine that the caller wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Get {
    /// [`VERSION`].
    pub version: u32,
    /// Their paths there.
    pub sources: Vec<Vec<u8>>,
    /// How they are copied.
    pub options: Options,
}

/// Files that the caller has for the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Put {
    /// [`VERSION`].
    pub version: u32,
    /// Where to, as a path there.
    pub target: Vec<u8>,
    /// The name of each source; an empty one stands for the content of a folder.
    pub names: Vec<Vec<u8>>,
    /// How they are copied.
    pub options: Options,
}

/// How files are copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// Folders, with all that is in them.
    pub recursive: bool,
    /// Times and modes are kept.
    pub preserve: bool,
    /// Owners, links, extended attributes and special files are kept as well.
    pub archive: bool,
    /// What is there already stays as it is.
    pub no_clobber: bool,
}

/// The machine's answer to an [`Opening`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// It can begin.
    Ready,
    /// It cannot, and why.
    Failed(String),
}

crate::tagged!(Opened {
    1 => Ready,
    2 => Failed(String),
});

/// What the side says that has the files. Their bytes are frames of tag [`DATA`] between [`Begin`] and [`End`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromSender {
    /// An entry that can be copied.
    Offer(Offer),
    /// The bytes of a file follow.
    Begin(Begin),
    /// So many zero bytes of the file, which need no room.
    Hole(u64),
    /// The file is at its end.
    End(End),
    /// An entry that was offered cannot be read, or not to its end.
    Withdrawn(Withdrawn),
    /// Something that could not be read, so that it was not offered.
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

/// What the side says that gets the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromReceiver {
    /// This file's bytes are to be sent.
    Want(Want),
    /// An entry is done with.
    Settled(Settled),
    /// So many bytes were read to verify what is there.
    Verified(u64),
    /// Everything is settled.
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
    /// Which one it is, in what follows.
    pub id: u64,
    /// The source that it belongs to, counted from 0.
    pub source: u32,
    /// Its path below the source, with `/` between names; empty for the source itself.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Its permissions, without its type.
    pub mode: u32,
    /// When it was changed.
    pub modified: Time,
    /// When it was read.
    pub accessed: Time,
    /// Whose it is, where that is kept.
    pub owner: Option<Owner>,
    /// Its extended attributes, where these are kept: names and values.
    pub attributes: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A file, with its size in bytes where it is known.
    File(Option<u64>),
    /// A folder.
    Folder,
    /// A symbolic link, with where it leads.
    Symlink(Vec<u8>),
    /// Another name of a file that was offered before: its source, and its path below that.
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

/// Whose an entry is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Owner {
    /// The user's number, and its name if it has one.
    pub user: (u32, Vec<u8>),
    /// The group's number, and its name if it has one.
    pub group: (u32, Vec<u8>),
}

/// The bytes of a file follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begin {
    /// Of which offer.
    pub id: u64,
    /// From which byte on: where the [`Base`] ends, or 0.
    pub offset: u64,
}

/// A file is at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// BLAKE3 of all its bytes.
    pub hash: [u8; 32],
}

/// An entry cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withdrawn {
    /// Of which offer.
    pub id: u64,
    /// Why.
    pub why: String,
}

/// Something could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The source that it belongs to.
    pub source: u32,
    /// Its path below the source.
    pub path: Vec<u8>,
    /// Why.
    pub why: String,
}

/// A file's bytes are to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Want {
    /// Of which offer.
    pub id: u64,
    /// What is there already.
    pub base: Option<Base>,
}

/// The beginning of a file that the receiver has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// How many bytes.
    pub length: u64,
    /// BLAKE3 of these.
    pub hash: [u8; 32],
}

/// An entry is done with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// Of which offer.
    pub id: u64,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It stands under its name.
    Stored,
    /// It stood there already, the same.
    Unchanged,
    /// It was left out, as was asked for.
    LeftOut,
    /// It could not be written, and why.
    Failed(String),
}

/// A frame's head: its tag, and the length of its body.
///
/// # Errors
///
/// It is longer than any, or has no tag.
pub fn head(bytes: [u8; HEAD]) -> Result<(u8, usize), FrameError> {
    parse_head(bytes, MAX_FRAME)
}

/// The head of a frame of file bytes.
pub fn data_head(length: usize) -> [u8; HEAD] {
    let [a, b, c, d] = u32::try_from(length + 1).unwrap_or(u32::MAX).to_be_bytes();
    [a, b, c, d, DATA]
}

/// The message of a frame other than [`DATA`]. Here no tag may be skipped.
///
/// # Errors
///
/// It is none that is known.
pub fn decode<T: Tagged>(tag: u8, body: &[u8]) -> Result<T, FrameError> {
    T::decode(tag, body)?.ok_or(FrameError::Tag(tag))
}

/// The names of a path below a source.
///
/// # Errors
///
/// It is one that could lead elsewhere: absolute, with `..`, `.`, an empty name or a NUL in it; or too long.
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

/// The name that a source gets at its target: the last of its path, or none where its content is meant (`.`, `..`, `/`
/// and `~`).
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
