//! Makes any text safe for terminals and logs.

use std::fmt::Write;

/// Makes text safe for a terminal and for a single line of a log.
///
/// Control characters (including newlines and escape sequences) and invisible characters that reorder or hide their
/// neighbors are written as in a C string: `\n`, `\x1b`, `\u202e`. All other characters stay.
pub fn escape(text: &str) -> String {
    if !text.contains(is_unsafe) {
        return text.to_owned();
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        push_escaped(&mut safe, character);
    }
    safe
}

/// Like [`escape`], with `\xNN` for each byte that is not UTF-8.
pub fn escape_bytes(bytes: &[u8]) -> String {
    let mut safe = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            push_escaped(&mut safe, character);
        }
        for byte in chunk.invalid() {
            let _ = write!(safe, "\\x{byte:02x}");
        }
    }
    safe
}

/// Appends a line of a command's output to `safe`, escaped as by [`escape_bytes`]. Tabs stay, and so does a carriage
/// return at the end.
pub fn escape_line(line: &[u8], safe: &mut Vec<u8>) {
    let (line, end) = match line {
        [line @ .., b'\r'] => (line, &b"\r"[..]),
        line => (line, &b""[..]),
    };
    // Most lines are plain, and need not be checked character by character.
    if line.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~')) {
        safe.extend_from_slice(line);
    } else {
        let mut parts = line.split(|byte| *byte == b'\t');
        safe.extend(parts.next().map(escape_bytes).unwrap_or_default().bytes());
        for part in parts {
            safe.push(b'\t');
            safe.extend(escape_bytes(part).bytes());
        }
    }
    safe.extend_from_slice(end);
}

/// A message without the numbers that Rust appends to system errors: `(os error 2)`.
pub fn without_error_numbers(message: &str) -> String {
    let mut text = String::with_capacity(message.len());
    let mut rest = message;
    while let Some((before, after)) = rest.split_once(" (os error ") {
        let digits = after.trim_start_matches(|c: char| c.is_ascii_digit());
        text.push_str(before);
        rest = match digits.strip_prefix(')') {
            Some(after) => after,
            _ => {
                text.push_str(" (os error ");
                after
            }
        };
    }
    text + rest
}

/// Appends a character, escaped if it is unsafe.
pub(crate) fn push_escaped(safe: &mut String, character: char) {
    if !is_unsafe(character) {
        safe.push(character);
        return;
    }
    // Writing to a String cannot fail.
    let _ = match u32::from(character) {
        0x09 => write!(safe, "\\t"),
        0x0a => write!(safe, "\\n"),
        0x0d => write!(safe, "\\r"),
        // Bytes that are not UTF-8 are written as \x80 to \xff, so only ASCII characters are written like this.
        code @ ..0x80 => write!(safe, "\\x{code:02x}"),
        code @ ..0x1_0000 => write!(safe, "\\u{code:04x}"),
        code => write!(safe, "\\U{code:08x}"),
    };
}

/// Whether a terminal would act on the character, or it moves or hides other characters.
#[inline]
pub fn is_unsafe(character: char) -> bool {
    // A fast path for nearly all characters: this runs over every record.
    !matches!(character, ' '..='~') && is_unsafe_of_the_rest(character)
}

fn is_unsafe_of_the_rest(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            // Soft hyphen, Arabic letter mark, Mongolian vowel separator.
            '\u{ad}' | '\u{61c}' | '\u{180e}'
            // Zero-width characters and direction marks.
            | '\u{200b}'..='\u{200f}'
            // Line and paragraph separators, bidi embeddings and overrides.
            | '\u{2028}'..='\u{202e}'
            // Invisible operators, bidi isolates, deprecated format characters.
            | '\u{2060}'..='\u{206f}'
            // Byte order mark, interlinear annotations, tags.
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests;
