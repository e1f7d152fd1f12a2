//! JSON that any tool can show safely, and its length.

use malai_cluster::is_unsafe;
use serde::Serialize;

/// The encoded length of a text in bytes, including its quotes.
pub(crate) fn encoded_length(text: &str) -> usize {
    encode(text).len()
}

/// Compact JSON that also escapes the terminal control characters that JSON allows, because people look at
/// the file with any tool. Such characters occur only within strings.
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    // Everything recorded consists of plain values, which JSON can always represent.
    let plain = serde_json::to_string(value).unwrap_or_default();
    if !plain.contains(is_unsafe) {
        return plain.into_bytes();
    }
    let mut safe = String::with_capacity(plain.len() + 64);
    for character in plain.chars() {
        let mut units = [0; 2];
        if is_unsafe(character) {
            for unit in character.encode_utf16(&mut units) {
                safe.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            safe.push(character);
        }
    }
    safe.into_bytes()
}

/// The longest start of a text that fits into `room` bytes when encoded.
pub(crate) fn start_of(text: &str, room: usize) -> &str {
    let mut end = text.len().min(room);
    loop {
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let start = &text[..end];
        let over = encoded_length(start).saturating_sub(room.max(2));
        if over == 0 {
            return start;
        }
        // An encoded byte takes at most 6 bytes, so this cuts too little rather than too much.
        end -= over.div_ceil(6).min(end);
    }
}
