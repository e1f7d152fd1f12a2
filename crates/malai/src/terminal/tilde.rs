//! Escapes in typed input, as in ssh: `~` at the start of a line and one more character. Pure.

/// The text of `~?`; lines end as in raw mode.
pub const HELP: &str = "\r\n\
malai's escapes, at the beginning of a line:\r\n  \
~.   end the session (what runs there is ended)\r\n  \
~^Z  suspend; fg goes on\r\n  \
~?   show this\r\n  \
~~   send a tilde\r\n";

const ESCAPE: u8 = b'~';
const CONTROL_Z: u8 = 0x1a;

/// What to do about typed input, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Send it.
    Bytes(Vec<u8>),
    /// `~.`
    End,
    /// `~^Z`
    Suspend,
    /// `~?`
    Help,
}

/// The position within a line.
#[derive(Debug, Clone, Copy)]
pub struct Escapes {
    line_begins: bool,
    pending: bool,
}

impl Default for Escapes {
    fn default() -> Self {
        Self {
            line_begins: true,
            pending: false,
        }
    }
}

impl Escapes {
    /// Parses a piece of typed input.
    pub fn read(&mut self, typed: &[u8]) -> Vec<Input> {
        let mut found = Vec::new();
        let mut bytes = Vec::with_capacity(typed.len() + 1);
        for &byte in typed {
            if std::mem::take(&mut self.pending) {
                let escape = match byte {
                    b'.' => Some(Input::End),
                    CONTROL_Z => Some(Input::Suspend),
                    b'?' => Some(Input::Help),
                    _ => None,
                };
                if let Some(escape) = escape {
                    // The line has not started yet: another escape may follow.
                    flush(&mut bytes, &mut found);
                    found.push(escape);
                    continue;
                }
                bytes.push(ESCAPE);
                self.line_begins = false;
                if byte == ESCAPE {
                    continue;
                }
            } else if self.line_begins && byte == ESCAPE {
                self.pending = true;
                continue;
            }
            bytes.push(byte);
            self.line_begins = matches!(byte, b'\r' | b'\n');
        }
        flush(&mut bytes, &mut found);
        found
    }

    /// What was held back, at the end of all input.
    pub fn end(&mut self) -> Vec<u8> {
        match std::mem::take(&mut self.pending) {
            true => vec![ESCAPE],
            false => Vec::new(),
        }
    }
}

fn flush(bytes: &mut Vec<u8>, found: &mut Vec<Input>) {
    if !bytes.is_empty() {
        found.push(Input::Bytes(std::mem::take(bytes)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows bytes as they are and escapes in brackets.
    fn shown(found: &[Input]) -> String {
        let bytes: Vec<u8> = found
            .iter()
            .flat_map(|one| match one {
                Input::Bytes(bytes) => bytes.clone(),
                other => format!("[{other:?}]").into_bytes(),
            })
            .collect();
        String::from_utf8(bytes).unwrap()
    }

    #[track_caller]
    fn check(invocation: &str, expected: &str) {
        let whole = Escapes::default().read(invocation.as_bytes());
        assert_eq!(shown(&whole), expected, "{invocation:?} at once");
        // The same however it is cut.
        for at in 0..=invocation.len() {
            let (mut escapes, bytes) = (Escapes::default(), invocation.as_bytes());
            let mut found = escapes.read(&bytes[..at]);
            found.extend(escapes.read(&bytes[at..]));
            assert_eq!(shown(&found), expected, "{invocation:?} cut at {at}");
        }
    }

    #[test]
    fn escapes_are_found_at_the_beginning_of_a_line_and_nowhere_else() {
        check("ls\r", "ls\r");
        check("~.", "[End]");
        check("ls\r~.", "ls\r[End]");
        check("ls\n~.", "ls\n[End]");
        check("ls ~.", "ls ~.");
        check("a~.\r", "a~.\r");
        check("~~", "~");
        check("~~.", "~.");
        check("~~~.", "~~.");
        check("~a.", "~a.");
        check("~\r~.", "~\r[End]");
        check("~?", "[Help]");
        check("~?~.", "[Help][End]");
        check("~?x~.", "[Help]x~.");
        check("\r~\u{1a}", "\r[Suspend]");
        check("~\u{1a}~.", "[Suspend][End]");
        check("vi ~/x\r~/bin\r", "vi ~/x\r~/bin\r");
        check("é~.\r~é", "é~.\r~é");
    }

    #[test]
    fn a_tilde_that_nothing_follows_is_sent_at_the_end() {
        let mut escapes = Escapes::default();
        assert_eq!(escapes.read(b"a\r~"), [Input::Bytes(b"a\r".to_vec())]);
        assert_eq!(escapes.end(), b"~");
        assert_eq!(escapes.end(), b"");
    }
}
