//! JSON that is safe to look at with any tool, and its length.

use malai_cluster::is_unsafe;
use serde::Serialize;

/// The bytes of a text in a line, with its quotes.
pub(crate) fn encoded_length(text: &str) -> usize {
    encode(text).len()
}

/// Compact JSON in which also those characters are escaped that a terminal obeys and JSON allows: the
/// file may be looked at with any tool. Such characters occur within strings only.
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    // Everything recorded is made of plain values, which JSON always has a form for.
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

/// As much of the beginning of a text as has room when it is encoded.
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
        // A byte takes at most 6 when it is encoded, so that this cuts too little rather than too much.
        end -= over.div_ceil(6).min(end);
    }
}
