//! An argument in the audit record: as text if it is UTF-8, otherwise in hex; cut if it is long.

use malai_cluster::{quote, quote_bytes};
use serde::{Deserialize, Serialize};

use crate::json::{encode, encoded_length, start_of};

/// The maximum size of a record's encoded arguments, in bytes.
const MAX_ARGUMENTS: usize = 2048;

/// One argument.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Argument {
    /// All of it.
    Text(String),
    /// An argument that is not UTF-8: two hex digits per byte.
    Bytes {
        /// The digits.
        hex: String,
        /// If the argument was cut: its length in bytes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        of: Option<u64>,
    },
    /// The start of a long argument.
    Cut {
        /// The start.
        text: String,
        /// The length of the argument in bytes.
        of: u64,
    },
}

impl Argument {
    /// The arguments that fit into a record, and the number of those that do not. Without `arguments`, only the
    /// name of the command.
    pub fn list(argv: &[Vec<u8>], arguments: bool) -> (Vec<Argument>, u64) {
        let mut room = MAX_ARGUMENTS;
        let mut list = Vec::new();
        for argument in &argv[..if arguments {
            argv.len()
        } else {
            argv.len().min(1)
        }] {
            // Brackets, quotes, keys and a count.
            const AROUND: usize = 48;
            if room < AROUND {
                break;
            }
            let argument = Argument::new(argument, room - AROUND);
            room = room.saturating_sub(encode(&argument).len() + 1);
            list.push(argument);
        }
        let left_out = (argv.len() - list.len()) as u64;
        (list, left_out)
    }

    /// One argument, cut to this many bytes as it is encoded; what stands around it is at most 48 more.
    pub fn bounded(bytes: &[u8], room: usize) -> Argument {
        Argument::new(bytes, room)
    }

    fn new(bytes: &[u8], room: usize) -> Argument {
        let of = bytes.len() as u64;
        match std::str::from_utf8(bytes) {
            // The encoded form is never shorter than the text, so long arguments need not be encoded at all.
            Ok(text) if text.len() <= room && encoded_length(text) <= room => {
                Argument::Text(text.to_owned())
            }
            Ok(text) => Argument::Cut {
                text: start_of(text, room).to_owned(),
                of,
            },
            Err(_) => {
                let shown = &bytes[..bytes.len().min(room / 2)];
                Argument::Bytes {
                    hex: shown.iter().map(|byte| format!("{byte:02x}")).collect(),
                    of: (shown.len() < bytes.len()).then_some(of),
                }
            }
        }
    }

    /// The argument as text: quoted for a shell, and safe for a terminal.
    pub fn shown(&self) -> String {
        let (quoted, of) = match self {
            Argument::Text(text) => (quote(text), None),
            Argument::Cut { text, of } => (quote(text), Some(of)),
            Argument::Bytes { hex, of } => {
                let digits = hex.as_bytes().chunks(2);
                let byte = |digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
                let bytes: Vec<u8> = digits.filter_map(byte).collect();
                (quote_bytes(&bytes), of.as_ref())
            }
        };
        match of {
            Some(of) => format!("{quoted}…({of} bytes)"),
            None => quoted,
        }
    }
}
