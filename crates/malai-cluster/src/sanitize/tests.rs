//! Escaping.

use proptest::prelude::*;

use super::*;

#[test]
fn escaping() {
    for (text, safe) in [
        ("plain – ümläut 日本 \\ ok", "plain – ümläut 日本 \\ ok"),
        ("\u{1b}[31mred", "\\x1b[31mred"),
        ("a\nmalai: forged", "a\\nmalai: forged"),
        ("\u{9b}2J\u{7f}\r\t\0", "\\u009b2J\\x7f\\r\\t\\x00"),
        (
            "\u{202e}\u{2066}\u{200b}\u{feff}\u{2028}",
            "\\u202e\\u2066\\u200b\\ufeff\\u2028",
        ),
    ] {
        assert_eq!(escape(text), safe);
        assert_eq!(escape_bytes(text.as_bytes()), safe);
    }
    assert_eq!(escape_bytes(b"a\xff\xc3b\x1b"), "a\\xff\\xc3b\\x1b");
}

proptest! {
    #[test]
    fn nothing_escaped_can_hurt(bytes: Vec<u8>) {
        let safe = escape_bytes(&bytes);
        prop_assert!(!safe.chars().any(char::is_control));
        prop_assert_eq!(escape(&safe), safe);
    }
}

#[test]
fn lines_of_output_keep_tabs_and_their_text_and_lose_their_escape_sequences() {
    for (line, expected) in [
        (&b"a\tb"[..], "a\tb"),
        (b"\xc3\xbc\t\xc3\xbc", "ü\tü"),
        (b"red \x1b[31mhat\x1b[0m", "red \\x1b[31mhat\\x1b[0m"),
        (b"50%\r60%\r", "50%\\r60%\r"),
        (b"\x00\x7f\xff\xe2\x80\xae", "\\x00\\x7f\\xff\\u202e"),
        (b"", ""),
    ] {
        let mut safe = b"web01: ".to_vec();
        escape_line(line, &mut safe);
        assert_eq!(
            String::from_utf8(safe).unwrap(),
            format!("web01: {expected}")
        );
    }
}

#[test]
fn numbers_of_errors_are_left_out() {
    for (message, expected) in [
        ("a: no such file (os error 2)", "a: no such file"),
        ("a (os error 2): b (os error 13); c", "a: b; c"),
        ("a (os error x)", "a (os error x)"),
        ("a", "a"),
    ] {
        assert_eq!(without_error_numbers(message), expected);
    }
}
