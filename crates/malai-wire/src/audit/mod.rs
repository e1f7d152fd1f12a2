//! The audit record, `audit.jsonl`: one JSON object per line, and how lines are read back.
//!
//! A line is one complete object and a newline, at most [`MAX_LINE`] bytes, so that a single system call writes
//! it. It always starts with [`START`], which cannot occur inside a JSON string: a reader finds a record even
//! after the remains of a torn one. Readers skip keys and events that they do not know.

mod files;

use malai_cluster::{ClusterId, MachineId};
use serde::{Deserialize, Serialize};

use crate::action::RecordedAction;
use crate::json::{self, encode, encoded_length};
use crate::time::Timestamp;

pub use files::{Change, FileRecord, UnnamedFiles, recorded_name};

/// The maximum length of a line in bytes, including its newline.
pub const MAX_LINE: usize = 4096;

/// The first bytes of every line.
pub const START: &[u8] = b"{\"time\":\"";

/// The maximum encoded size of a text that is not an argument, in bytes.
const MAX_TEXT: usize = 512;

/// One line of the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// When it happened. It has to come first: see [`START`].
    pub time: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
    /// The run of malai that wrote it: 32 hex digits. Session numbers count within a run.
    pub instance: String,
}

/// What is recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Event {
    /// A request was allowed or refused.
    Decision(Decision),
    /// A session is about to start its command.
    Start(Start),
    /// A session has ended.
    End(End),
    /// A session read or changed a file.
    File(FileRecord),
    /// A session read or changed more files than are recorded one by one.
    Files(UnnamedFiles),
    /// A machine asked to join with an invitation.
    Invitation(InvitationRecord),
    /// Connections of keys that are in no configuration were rejected; counts them.
    Strangers(Strangers),
    /// Records that could not be written.
    Lost(Lost),
    /// An event that only a newer malai knows.
    #[serde(other)]
    Other,
}

/// Who asked for what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The cluster's alias here.
    pub cluster: String,
    /// Which cluster.
    pub cluster_id: ClusterId,
    /// The revision that the decision is based on; `None` if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// Who asked: the key that the connection's handshake proved, or this machine's own.
    pub peer: MachineId,
    /// Its name in the cluster, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// The origin: an address, `relay`, or `here` for a command line on this computer.
    pub from: String,
    /// What was asked for.
    #[serde(flatten)]
    pub action: RecordedAction,
}

/// A decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Who asked for what.
    #[serde(flatten)]
    pub request: Request,
    /// Whether it was allowed.
    pub allowed: bool,
    /// The rule that allowed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Why it was refused, including the rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The user it runs as, if it was allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The session number, if it was allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<u64>,
}

/// The start of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// Who asked for what.
    #[serde(flatten)]
    pub request: Request,
    /// The user it runs as.
    pub user: String,
    /// The session number in this run of malai.
    pub session: u64,
}

/// The end of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Who asked for what.
    #[serde(flatten)]
    pub request: Request,
    /// The user it ran as.
    pub user: String,
    /// The session number in this run of malai.
    pub session: u64,
    /// The code it exited with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<u8>,
    /// The signal that terminated it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<u8>,
    /// Why it ended.
    pub why: String,
    /// Bytes of standard input that it received.
    pub bytes_in: u64,
    /// Bytes of standard output that were passed on.
    pub bytes_out: u64,
    /// Bytes of standard error that were passed on.
    pub bytes_err: u64,
    /// Its duration in milliseconds.
    pub duration_ms: u64,
}

/// A machine that asked to join with an invitation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvitationRecord {
    /// The cluster's alias here.
    pub cluster: String,
    /// Which cluster.
    pub cluster_id: ClusterId,
    /// Who asked: the key that the connection's handshake proved.
    pub peer: MachineId,
    /// The name that it gets, if it is admitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// The origin: an address, or `relay`.
    pub from: String,
    /// The short name of the invitation.
    pub invitation: String,
    /// Whether the machine is admitted.
    pub allowed: bool,
    /// Why it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Connections of keys that are in no configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Strangers {
    /// The cluster's alias here.
    pub cluster: String,
    /// Connections rejected since the last such record.
    pub refused: u64,
}

/// Missing records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// How many.
    pub records: u64,
    /// Since when.
    pub since: Timestamp,
    /// Why they could not be written.
    pub why: String,
}

impl Record {
    /// The line with its newline: at most [`MAX_LINE`] bytes, none of which is a terminal control character.
    pub fn to_line(&self) -> Vec<u8> {
        let mut line = encode(&self.bounded());
        line.push(b'\n');
        debug_assert!(line.len() <= MAX_LINE && line.starts_with(START));
        line
    }

    /// A copy in which every text except the arguments (bounded when they are made) is cut to its maximum size.
    fn bounded(&self) -> Record {
        let mut record = self.clone();
        match &mut record.event {
            Event::Decision(decision) => {
                for text in [&mut decision.rule, &mut decision.reason, &mut decision.user] {
                    text.iter_mut().for_each(bound);
                }
            }
            Event::Start(start) => bound(&mut start.user),
            Event::End(end) => {
                bound(&mut end.user);
                bound(&mut end.why);
            }
            Event::File(file) => {
                file.request.action = file.request.action.brief();
                bound(&mut file.user);
            }
            Event::Files(files) => {
                files.request.action = files.request.action.brief();
                bound(&mut files.user);
            }
            Event::Lost(lost) => bound(&mut lost.why),
            Event::Invitation(asked) => asked.reason.iter_mut().for_each(bound),
            Event::Strangers(_) | Event::Other => {}
        }
        record
    }

    /// Parses a line without its newline.
    ///
    /// # Errors
    ///
    /// [`Torn`] if the line is not a complete record.
    pub fn from_line(line: &[u8]) -> Result<Record, Torn> {
        serde_json::from_slice(line).map_err(|_| Torn)
    }

    /// The record in a line without its newline: the whole line, or what follows the remains of a torn record, or
    /// `None`. Also whether there were such remains.
    pub fn recover(line: &[u8]) -> (Option<Record>, bool) {
        if let Ok(record) = Record::from_line(line) {
            return (Some(record), false);
        }
        let behind = line
            .windows(START.len())
            .rposition(|window| window == START)
            .filter(|at| *at > 0);
        (
            behind.and_then(|at| Record::from_line(&line[at..]).ok()),
            true,
        )
    }

    /// Who asked for what, if the event has a request.
    pub fn request(&self) -> Option<&Request> {
        match &self.event {
            Event::Decision(decision) => Some(&decision.request),
            Event::Start(start) => Some(&start.request),
            Event::End(end) => Some(&end.request),
            Event::File(file) => Some(&file.request),
            Event::Files(files) => Some(&files.request),
            Event::Invitation(_) | Event::Strangers(_) | Event::Lost(_) | Event::Other => None,
        }
    }

    /// The alias of the cluster, if the event belongs to one.
    pub fn cluster(&self) -> Option<&str> {
        match &self.event {
            Event::Strangers(strangers) => Some(&strangers.cluster),
            Event::Invitation(asked) => Some(&asked.cluster),
            _ => self.request().map(|request| request.cluster.as_str()),
        }
    }
}

/// A line that is not a complete record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the line is not a complete record")]
pub struct Torn;

/// Cuts a text to [`MAX_TEXT`] encoded bytes and marks the cut.
fn bound(text: &mut String) {
    if encoded_length(text) > MAX_TEXT {
        let mut cut = json::start_of(text, MAX_TEXT - 8).to_owned();
        cut.push('…');
        *text = cut;
    }
}

#[cfg(test)]
mod tests;
