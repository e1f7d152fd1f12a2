//! Files in the audit record: each one that a session read or changed, and how many were not named.

use serde::{Deserialize, Serialize};

use super::Request;
use crate::argument::Argument;

/// The most bytes of a file's name, as it is encoded.
const MAX_NAME: usize = 1000;

/// What was done to a file. Readers show a kind that they do not know as [`Change::Other`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// A file that was there was opened for writing.
    Opened,
    /// A file or folder was made.
    Created,
    /// A file that was opened for writing was closed.
    Written,
    /// A file was read and closed.
    Read,
    /// A file, link or folder was removed.
    Removed,
    /// A file, link or folder got another name.
    Renamed,
    /// A link was made.
    Linked,
    /// The owner, mode, times or size of a file was set.
    Changed,
    /// A change was refused: the folder is served for reading only.
    Refused,
    /// A kind of a newer malai.
    #[serde(other)]
    Other,
}

/// A file that was read or changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// Who asked, and for which session.
    #[serde(flatten)]
    pub request: Request,
    /// The user as whom.
    pub user: String,
    /// The number of the session in this run of malai.
    pub session: u64,
    /// What was done.
    pub change: Change,
    /// The file as the client named it; none where arguments are not recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<Argument>,
    /// Its new name, or what a link leads to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Argument>,
    /// How many bytes were read or written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// What a session did to files beyond those that are recorded one by one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnnamedFiles {
    /// Who asked, and for which session.
    #[serde(flatten)]
    pub request: Request,
    /// The user as whom.
    pub user: String,
    /// The number of the session in this run of malai.
    pub session: u64,
    /// How many records were left out.
    pub left_out: u64,
    /// Bytes that were read, by what was left out.
    pub bytes_read: u64,
    /// Bytes that were written, by what was left out.
    pub bytes_written: u64,
}

/// A name as it is recorded.
pub fn recorded_name(name: &[u8]) -> Argument {
    Argument::bounded(name, MAX_NAME)
}
