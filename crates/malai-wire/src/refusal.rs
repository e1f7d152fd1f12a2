//! Refusals: stable codes, in frames and as QUIC close codes.

use serde::{Deserialize, Deserializer, Serialize};

/// A refusal or failure: a stable code and a message for people.
///
/// The message is the peer's text: escape it before showing it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The code; a number never changes its meaning.
    pub code: u16,
    /// One sentence that says what was refused and by which rule. Only the first [`MAX_MESSAGE`] bytes are read.
    #[serde(deserialize_with = "beginning")]
    pub message: String,
}

/// How many bytes of a peer's message are kept: it is shown, logged and recorded.
pub const MAX_MESSAGE: usize = 1024;

fn beginning<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let mut message = String::deserialize(deserializer)?;
    message.truncate(message.floor_char_boundary(MAX_MESSAGE));
    Ok(message)
}

impl Refusal {
    /// A refusal with a code and a message.
    pub fn new(code: RefusalCode, message: impl Into<String>) -> Self {
        Self {
            code: code as u16,
            message: message.into(),
        }
    }

    /// The code, if this version knows it.
    pub fn known_code(&self) -> Option<RefusalCode> {
        RefusalCode::ALL
            .iter()
            .copied()
            .find(|code| *code as u16 == self.code)
    }
}

/// The stable refusal codes. A number is never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum RefusalCode {
    /// The connection ended normally.
    Done = 0,
    /// The key is not in the cluster's configuration.
    NotAMember = 1,
    /// The policy does not allow the request.
    NotAllowed = 2,
    /// This machine has no valid configuration of the cluster yet.
    NoConfiguration = 3,
    /// The two sides support no common version.
    Version = 4,
    /// A frame that is malformed, too large, or not allowed at this point.
    Protocol = 5,
    /// A limit of this machine is reached; a later attempt may succeed.
    Busy = 6,
    /// The daemon is shutting down.
    Stopping = 7,
    /// This side only dials; it serves no requests.
    NotServing = 8,
    /// A snapshot was refused: its signature, its cluster, or a fork.
    Snapshot = 9,
    /// The machine could not do what it was allowed to do (no such user, cannot start processes).
    Failed = 10,
    /// The connection was idle for too long.
    Idle = 11,
    /// The machine's administrator ended the session.
    Ended = 12,
    /// The invitation does not admit this machine, and never will.
    NotInvited = 13,
    /// The invitation is good, but the manager cannot add the machine now; a later attempt may succeed.
    JoinLater = 14,
}

impl RefusalCode {
    /// All codes.
    pub const ALL: [RefusalCode; 15] = [
        RefusalCode::Done,
        RefusalCode::NotAMember,
        RefusalCode::NotAllowed,
        RefusalCode::NoConfiguration,
        RefusalCode::Version,
        RefusalCode::Protocol,
        RefusalCode::Busy,
        RefusalCode::Stopping,
        RefusalCode::NotServing,
        RefusalCode::Snapshot,
        RefusalCode::Failed,
        RefusalCode::Idle,
        RefusalCode::Ended,
        RefusalCode::NotInvited,
        RefusalCode::JoinLater,
    ];
}

#[cfg(test)]
mod tests {
    use super::{Refusal, RefusalCode};

    #[test]
    fn codes_are_stable_and_known() {
        for (number, code) in RefusalCode::ALL.iter().enumerate() {
            assert_eq!(*code as usize, number);
            assert_eq!(Refusal::new(*code, "x").known_code(), Some(*code));
        }
        assert_eq!(
            Refusal {
                code: 999,
                message: String::new()
            }
            .known_code(),
            None
        );
    }
}
