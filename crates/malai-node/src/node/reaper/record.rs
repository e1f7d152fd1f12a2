//! The reaper's input: one fixed-size record per change, each written at once (far below PIPE_BUF).

/// The size of a record in bytes.
pub const SIZE: usize = 8;

/// What is registered under a process id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A process group: a command.
    Group,
    /// A session with all its process groups: a shell on its own terminal, and its jobs.
    Session,
}

/// A change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record {
    /// This process leads a group or session.
    Begun(Kind, u32),
    /// Its group or session has ended, or must not be ended any more.
    Ended(u32),
}

impl Record {
    /// Encodes the record.
    pub fn to_bytes(self) -> [u8; SIZE] {
        let (tag, id) = match self {
            Record::Begun(Kind::Group, id) => (1, id),
            Record::Begun(Kind::Session, id) => (2, id),
            Record::Ended(id) => (3, id),
        };
        let [a, b, c, d] = id.to_ne_bytes();
        [tag, 0, 0, 0, a, b, c, d]
    }

    /// Decodes a record; `None` if it is not valid.
    pub fn parse(bytes: [u8; SIZE]) -> Option<Self> {
        let [tag, 0, 0, 0, a, b, c, d] = bytes else {
            return None;
        };
        let id = u32::from_ne_bytes([a, b, c, d]);
        match tag {
            1 => Some(Record::Begun(Kind::Group, id)),
            2 => Some(Record::Begun(Kind::Session, id)),
            3 => Some(Record::Ended(id)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        for record in [
            Record::Begun(Kind::Group, 1),
            Record::Begun(Kind::Session, u32::MAX),
            Record::Ended(70_000),
        ] {
            assert_eq!(Record::parse(record.to_bytes()), Some(record));
        }
        assert_eq!(Record::parse([4, 0, 0, 0, 1, 0, 0, 0]), None);
        assert_eq!(Record::parse([1, 0, 9, 0, 1, 0, 0, 0]), None);
    }
}
