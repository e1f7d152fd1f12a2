//! Making any text safe for a terminal and for a log.

/// Makes text safe for a terminal and for one line of a log.
///
/// Control characters (newlines and escape sequences among them) and the invisible characters
/// that reorder or hide what stands beside them become `\u{…}`; everything else stays.
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

/// As [`escape`], with `\xNN` for each byte that is not UTF-8.
pub fn escape_bytes(bytes: &[u8]) -> String {
    let mut safe = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            push_escaped(&mut safe, character);
        }
        for byte in chunk.invalid() {
            safe.push_str(&format!("\\x{byte:02x}"));
        }
    }
    safe
}

/// Adds a line of somebody's output to `safe`: as [`escape_bytes`], but tabs stay, and a carriage return
/// at its end.
pub fn escape_line(line: &[u8], safe: &mut Vec<u8>) {
    let (line, end) = match line {
        [line @ .., b'\r'] => (line, &b"\r"[..]),
        line => (line, &b""[..]),
    };
    // Most lines are plain, and are not looked at character by character.
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

fn push_escaped(safe: &mut String, character: char) {
    if is_unsafe(character) {
        safe.extend(character.escape_unicode());
    } else {
        safe.push(character);
    }
}

/// Whether a terminal would obey the character, or show others in another place or not at all.
#[inline]
pub fn is_unsafe(character: char) -> bool {
    // Nearly every character there is: this runs over each of every record.
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
