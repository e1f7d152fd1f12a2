//! Escapes in typed input, as in ssh: `~` at the start of a line and one more character. Pure.

use std::fmt;

/// The character that starts an escape; `None` if there are no escapes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EscapeChar(pub Option<u8>);

impl Default for EscapeChar {
    fn default() -> Self {
        Self(Some(b'~'))
    }
}

impl EscapeChar {
    /// Parses an escape character as ssh's `-e` takes it: one character, `^` and a letter for a control character, or
    /// `none`.
    pub fn parse(text: &[u8]) -> Option<Self> {
        match text {
            b"none" => Some(Self(None)),
            [b'^', letter] => Some(Self(Some(letter & 0x1f))),
            [character] => Some(Self(Some(*character))),
            _ => None,
        }
    }

    /// The text of the help escape; lines end as in raw mode.
    pub fn help(self) -> String {
        let mut help = "\r\nmalai's escapes, at the beginning of a line:\r\n".to_owned();
        for (key, what) in [
            (".", "end the session (what runs there is ended)"),
            ("^Z", "suspend; fg goes on"),
            ("?", "show this"),
        ] {
            help.push_str(&format!("  {:<5}{what}\r\n", format!("{self}{key}")));
        }
        let twice = format!("{self}{self}");
        match self.0 {
            Some(b'~') => help.push_str(&format!("  {twice:<5}send a tilde\r\n")),
            _ => help.push_str(&format!("  {twice:<5}send {self}\r\n")),
        }
        help
    }
}

impl fmt::Display for EscapeChar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => Ok(()),
            Some(control) if control < 0x20 => write!(f, "^{}", char::from(control + 0x40)),
            Some(other) => write!(f, "{}", other.escape_ascii()),
        }
    }
}

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
    escape: EscapeChar,
    line_begins: bool,
    pending: bool,
}

impl Escapes {
    /// At the start of all input.
    pub fn new(escape: EscapeChar) -> Self {
        Self {
            escape,
            line_begins: true,
            pending: false,
        }
    }

    /// Parses a piece of typed input.
    pub fn read(&mut self, typed: &[u8]) -> Vec<Input> {
        let mut found = Vec::new();
        let mut bytes = Vec::with_capacity(typed.len() + 1);
        let Some(start) = self.escape.0 else {
            bytes.extend(typed);
            flush(&mut bytes, &mut found);
            return found;
        };
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
                bytes.push(start);
                self.line_begins = false;
                if byte == start {
                    continue;
                }
            } else if self.line_begins && byte == start {
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
        match (std::mem::take(&mut self.pending), self.escape.0) {
            (true, Some(start)) => vec![start],
            _ => Vec::new(),
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
        let whole = Escapes::new(EscapeChar::default()).read(invocation.as_bytes());
        assert_eq!(shown(&whole), expected, "{invocation:?} at once");
        // The same however it is cut.
        for at in 0..=invocation.len() {
            let (mut escapes, bytes) = (Escapes::new(EscapeChar::default()), invocation.as_bytes());
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
    fn the_escape_character_is_ones_own_or_none() {
        for (text, typed, expected) in [
            ("%", "~.%.", "~.%."),
            ("%", "~.\r%.", "~.\r[End]"),
            ("^]", "\u{1d}\u{1d}.", "\u{1d}."),
            ("^]", "\u{1d}.", "[End]"),
            ("none", "~.\r~?", "~.\r~?"),
        ] {
            let escape = EscapeChar::parse(text.as_bytes()).unwrap();
            let found = Escapes::new(escape).read(typed.as_bytes());
            assert_eq!(shown(&found), expected, "{text} {typed:?}");
            assert_eq!(escape.to_string(), text.replace("none", ""));
        }
        assert_eq!(EscapeChar::parse(b"ab"), None);
        assert_eq!(EscapeChar::parse(b""), None);
        let help = EscapeChar(Some(b'%')).help();
        assert!(
            help.contains("  %^Z  suspend") && help.contains("  %%   send %\r\n"),
            "{help}"
        );
    }

    #[test]
    fn a_tilde_that_nothing_follows_is_sent_at_the_end() {
        let mut escapes = Escapes::new(EscapeChar::default());
        assert_eq!(escapes.read(b"a\r~"), [Input::Bytes(b"a\r".to_vec())]);
        assert_eq!(escapes.end(), b"~");
        assert_eq!(escapes.end(), b"");
    }
}
