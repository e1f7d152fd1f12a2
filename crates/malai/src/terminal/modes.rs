//! The terminal modes that a session has set and not reset, read from its output, so that they can be reset if the session ends
//! before the program there does it. Pure.
//!
//! A program that is cut off leaves a terminal that reports mouse movements, hides the cursor, or shows the alternate screen. Only
//! modes that were seen to be set are reset, because some resets, such as leaving the alternate screen, move the cursor
//! if the mode was not set.

use std::collections::BTreeSet;

/// DEC private modes (`CSI ? n h` and `l`) that are off in a terminal at rest: cursor keys 1, reverse video 5,
/// origin 6, mouse 9 and 1000 to 1016, alternate screens 47, 1047 and 1049, keypad 66, margins 69, focus 1004, paste
/// 2004, synchronized output 2026, reports 2031 and 2048, Windows' keys 9001.
const OFF_AT_REST: [u16; 23] = [
    1, 5, 6, 9, 47, 66, 69, 1000, 1001, 1002, 1003, 1004, 1005, 1006, 1015, 1016, 1047, 1049, 2004,
    2026, 2031, 2048, 9001,
];

/// Those that are on: wrapping 7, the cursor 25.
const ON_AT_REST: [u16; 2] = [7, 25];

/// The alternate screens.
const SCREENS: [u16; 3] = [47, 1047, 1049];

/// The maximum length of a parsed sequence; programs do not write longer ones that matter here.
const LONGEST: usize = 64;

/// The differences from a terminal at rest.
#[derive(Debug, Default)]
pub struct Modes {
    state: State,
    /// The current sequence, without its introducer.
    sequence: Vec<u8>,
    /// Private modes that differ from those at rest.
    changed: BTreeSet<u16>,
    /// Kitty's keyboard protocol: how often flags were pushed, on the main screen and on the alternate one.
    pushed: [u16; 2],
    /// Kitty's flags that were set without a push, on each screen.
    flags: [bool; 2],
    /// xterm's resources for modified keys that were set, by number.
    keys: BTreeSet<u16>,
    /// Insert mode.
    insert: bool,
    /// The keypad sends its own sequences (`ESC =`).
    keypad: bool,
    /// A changed cursor shape.
    shape: bool,
    /// A scroll region.
    region: bool,
    /// Colors and other attributes.
    style: bool,
    /// Line drawing instead of letters.
    charset: bool,
}

/// The position within a sequence.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    /// After ESC.
    Escape,
    /// After ESC and an intermediate character.
    Intermediate,
    /// After `ESC [`.
    Control,
    /// In a string, such as a title, until its end.
    String,
    /// After an ESC in a string.
    StringEscape,
}

const ESC: u8 = 0x1b;

impl Modes {
    /// Parses a piece of output.
    pub fn read(&mut self, output: &[u8]) {
        let mut rest = output;
        while let Some((&byte, after)) = rest.split_first() {
            // Most output is text.
            if self.state == State::Text {
                let next = rest
                    .iter()
                    .position(|byte| matches!(*byte, ESC | 0x0e | 0x0f));
                let Some(next) = next else { return };
                if next > 0 {
                    rest = &rest[next..];
                    continue;
                }
            }
            self.byte(byte);
            rest = after;
        }
    }

    fn byte(&mut self, byte: u8) {
        use State::{Control, Escape, Intermediate, String, StringEscape, Text};
        self.state = match (self.state, byte) {
            // CAN and SUB end every sequence.
            (_, 0x18 | 0x1a) => Text,
            (String, ESC) => StringEscape,
            (String, 0x07) => Text,
            (String, _) => String,
            (StringEscape, b'\\') => Text,
            (_, ESC) => Escape,
            (Text, 0x0e) => {
                self.charset = true;
                Text
            }
            (Text, 0x0f) => {
                self.charset = false;
                Text
            }
            (Text, _) => Text,
            (Escape | StringEscape, byte) => self.escape(byte),
            (Intermediate, byte) => {
                match (self.sequence.first(), byte) {
                    (Some(b'('), b'B') => self.charset = false,
                    (Some(b'('), _) => self.charset = true,
                    _ => {}
                }
                Text
            }
            (Control, b'@'..=b'~') => {
                self.control(byte);
                Text
            }
            (Control, byte) => {
                if self.sequence.len() < LONGEST {
                    self.sequence.push(byte);
                }
                Control
            }
        };
    }

    fn escape(&mut self, byte: u8) -> State {
        self.sequence.clear();
        match byte {
            b'[' => return State::Control,
            b']' | b'P' | b'_' | b'^' | b'X' => return State::String,
            b' '..=b'/' => {
                self.sequence.push(byte);
                return State::Intermediate;
            }
            b'=' => self.keypad = true,
            b'>' => self.keypad = false,
            // A full reset.
            b'c' => *self = Self::default(),
            _ => {}
        }
        State::Text
    }

    /// The end of a control sequence.
    fn control(&mut self, end: u8) {
        let sequence = std::mem::take(&mut self.sequence);
        let (private, rest) = match sequence.split_first() {
            Some((&private @ b'<'..=b'?', rest)) => (Some(private), rest),
            _ => (None, &sequence[..]),
        };
        let intermediate = rest.iter().position(|byte| matches!(byte, b' '..=b'/'));
        let (numbers, intermediate) = rest.split_at(intermediate.unwrap_or(rest.len()));
        let mut numbers = numbers.split(|byte| *byte == b';').map(number);
        let screen = usize::from(self.is_alternate());
        match (private, intermediate, end) {
            (Some(b'?'), b"", b'h') => numbers.for_each(|mode| self.set(mode, true)),
            (Some(b'?'), b"", b'l') => numbers.for_each(|mode| self.set(mode, false)),
            (Some(b'>'), b"", b'u') => {
                self.pushed[screen] = self.pushed[screen].saturating_add(1);
            }
            (Some(b'<'), b"", b'u') => {
                let count = numbers.next().unwrap_or(0).max(1);
                self.pushed[screen] = self.pushed[screen].saturating_sub(count);
            }
            (Some(b'='), b"", b'u') => self.flags[screen] = numbers.next() != Some(0),
            (Some(b'>'), b"", b'm') => {
                let resource = numbers.next().unwrap_or(0);
                match numbers.next() {
                    Some(value) if value != 0 => drop(self.keys.insert(resource)),
                    _ => drop(self.keys.remove(&resource)),
                }
            }
            (None, b"", b'h') => self.insert |= numbers.any(|mode| mode == 4),
            (None, b"", b'l') => self.insert &= !numbers.any(|mode| mode == 4),
            (None, b" ", b'q') => self.shape = numbers.next() != Some(0),
            (None, b"", b'r') => self.region = !rest.is_empty(),
            (None, b"", b'm') => self.style = numbers.next_back() != Some(0),
            // A soft reset.
            (None, b"!", b'p') => {
                let screens = self.changed.iter().filter(|mode| SCREENS.contains(mode));
                self.changed = screens.copied().collect();
                (self.insert, self.keypad, self.region) = (false, false, false);
                (self.style, self.charset) = (false, false);
            }
            _ => {}
        }
    }

    fn set(&mut self, mode: u16, on: bool) {
        let differs = match (OFF_AT_REST.contains(&mode), ON_AT_REST.contains(&mode)) {
            (true, _) => on,
            (_, true) => !on,
            _ => return,
        };
        if differs {
            self.changed.insert(mode);
        } else {
            self.changed.remove(&mode);
        }
    }

    fn is_alternate(&self) -> bool {
        SCREENS.iter().any(|mode| self.changed.contains(mode))
    }

    /// The sequences that restore the terminal; empty if nothing differs.
    pub fn undo(&self) -> Vec<u8> {
        let mut undo = Vec::new();
        if self.state != State::Text {
            // Ends a sequence that was cut off.
            undo.push(0x18);
        }
        let keyboard = |undo: &mut Vec<u8>, screen: usize| {
            if self.flags[screen] {
                undo.extend(b"\x1b[=0u");
            }
            if self.pushed[screen] > 0 {
                undo.extend(format!("\x1b[<{}u", self.pushed[screen]).into_bytes());
            }
        };
        for mode in self.changed.iter().filter(|mode| !SCREENS.contains(mode)) {
            let end = if ON_AT_REST.contains(mode) { 'h' } else { 'l' };
            undo.extend(format!("\x1b[?{mode}{end}").into_bytes());
        }
        for resource in &self.keys {
            undo.extend(format!("\x1b[>{resource}m").into_bytes());
        }
        for (on, off) in [
            (self.insert, &b"\x1b[4l"[..]),
            (self.keypad, b"\x1b>"),
            (self.shape, b"\x1b[0 q"),
            // Between saving and restoring the cursor, because it moves the cursor.
            (self.region, b"\x1b7\x1b[r\x1b8"),
            (self.style, b"\x1b[m"),
            (self.charset, b"\x0f\x1b(B"),
        ] {
            if on {
                undo.extend(off);
            }
        }
        // Each screen has its own keyboard state.
        keyboard(&mut undo, 1);
        for mode in self.changed.iter().filter(|mode| SCREENS.contains(mode)) {
            undo.extend(format!("\x1b[?{mode}l").into_bytes());
        }
        keyboard(&mut undo, 0);
        undo
    }
}

fn number(digits: &[u8]) -> u16 {
    let text = std::str::from_utf8(digits).unwrap_or_default();
    // Digits after a colon are sub-parameters.
    let text = text.split(':').next().unwrap_or_default();
    text.parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is to be undone after this output, however it is cut into pieces.
    #[track_caller]
    fn check(output: &str, expected: &str) {
        for at in 0..=output.len() {
            let mut modes = Modes::default();
            modes.read(&output.as_bytes()[..at]);
            modes.read(&output.as_bytes()[at..]);
            let undo = modes.undo();
            let undo = String::from_utf8_lossy(&undo);
            assert_eq!(undo, expected, "{output:?}, cut at {at}");
        }
    }

    #[test]
    fn what_was_switched_on_and_not_off_is_undone() {
        check("plain text, \u{e9}\r\n", "");
        check("\x1b[?2004h$ ", "\x1b[?2004l");
        check("\x1b[?2004h$ \x1b[?2004l\r\n", "");
        check("\x1b[?1000;1006h", "\x1b[?1000l\x1b[?1006l");
        check("\x1b[?25l", "\x1b[?25h");
        check("\x1b[?25l\x1b[?25h", "");
        check("\x1b[?1049h\x1b[?1h\x1b=", "\x1b[?1l\x1b>\x1b[?1049l");
        check("\x1b[2;5r", "\x1b7\x1b[r\x1b8");
        check("\x1b[2;5r\x1b[r", "");
        check("\x1b[31;1mred", "\x1b[m");
        check("\x1b[31mred\x1b[0m\x1b[1mx\x1b[m", "");
        check("\x1b(0qq\x1b(B", "");
        check("\x1b(0qq", "\x0f\x1b(B");
        check("\x1b[4 q", "\x1b[0 q");
        check("\x1b[>4;2m", "\x1b[>4m");
        check("\x1b[>4;2m\x1b[>4m", "");
        check("\x1b[?1049h\x1b[?25l\x1bc", "");
        check("\x1b[?1049h\x1b[?25l\x1b[!p", "\x1b[?1049l");
        check("\x1b[4h", "\x1b[4l");
        check("\x1b[?1034h\x1b[?12h\x1b[20h", "");
    }

    #[test]
    fn each_screen_has_a_keyboard_of_its_own() {
        check("\x1b[>1u\x1b[>5u", "\x1b[<2u");
        check("\x1b[>1u\x1b[>5u\x1b[<u", "\x1b[<1u");
        check("\x1b[>1u\x1b[?1049h\x1b[>5u", "\x1b[<1u\x1b[?1049l\x1b[<1u");
        check("\x1b[=5;1u", "\x1b[=0u");
    }

    #[test]
    fn what_was_cut_off_in_the_middle_is_ended_first() {
        check("\x1b]0;a title [?1000h", "\x18");
        check("\x1b]0;a title [?1000h\x07", "");
        check("\x1b]0;a title [?1000h\x1b\\", "");
        // As in terminals: it ends the title, too.
        check("\x1b]0;a title \x1b[?1000h", "\x1b[?1000l");
        check("\x1b[?1000", "\x18");
        check("\x1bP\x1b", "\x18");
    }

    #[test]
    fn a_terminal_is_at_rest_afterwards() {
        let mut screen = vt100::Parser::new(24, 80, 0);
        let mut modes = Modes::default();
        let output =
            b"before\r\n\x1b[?1049h\x1b[?1002h\x1b[?1006h\x1b[?2004h\x1b[?25l\x1b[?1h\x1b=x\x1b[?1";
        screen.process(output);
        modes.read(output);
        screen.process(&modes.undo());
        let screen = screen.screen();
        assert!(!screen.alternate_screen() && !screen.hide_cursor());
        assert!(!screen.bracketed_paste() && !screen.application_cursor());
        assert!(!screen.application_keypad());
        assert_eq!(screen.mouse_protocol_mode(), vt100::MouseProtocolMode::None);
        assert_eq!(screen.contents().trim(), "before");
    }
}
