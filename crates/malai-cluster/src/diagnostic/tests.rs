//! How a problem is shown.

use expect_test::{Expect, expect};

use super::*;

#[test]
fn places() {
    shown(
        "a\nbcd\n",
        3..5,
        expect![[r#"
        error: it is\x1b so
          --> f\x07:2:2
           |
         2 | bcd
           |  ^^
           = help: do\nthis"#]],
    );
    shown(
        "ü = é\n",
        5..7,
        expect![[r#"
        error: it is\x1b so
          --> f\x07:1:5
           |
         1 | ü = é
           |     ^
           = help: do\nthis"#]],
    );
    shown(
        "\ta\tb",
        3..4,
        expect![[r#"
        error: it is\x1b so
          --> f\x07:1:4
           |
         1 |     a    b
           |          ^
           = help: do\nthis"#]],
    );
    shown(
        "windows\r\nlines\r\n",
        9..14,
        expect![[r#"
        error: it is\x1b so
          --> f\x07:2:1
           |
         2 | lines
           | ^^^^^
           = help: do\nthis"#]],
    );
    shown(
        "two\nlines",
        0..9,
        expect![[r#"
        error: it is\x1b so
          --> f\x07:1:1
           |
         1 | two
           | ^^^
           = help: do\nthis"#]],
    );
    shown(
        "",
        0..0,
        expect![[r#"
        error: it is\x1b so
          --> f\x07:1:1
           |
         1 | 
           | ^
           = help: do\nthis"#]],
    );
    shown(
        "end",
        3..3,
        expect![[r#"
        error: it is\x1b so
          --> f\x07:1:4
           |
         1 | end
           |    ^
           = help: do\nthis"#]],
    );
    shown(
        "far",
        90..99,
        expect![[r#"
        error: it is\x1b so
          --> f\x07:1:4
           |
         1 | far
           |    ^
           = help: do\nthis"#]],
    );
    shown(
        "é",
        1..2,
        expect![[r#"
        error: it is\x1b so
          --> f\x07:1:1
           |
         1 | é
           | ^
           = help: do\nthis"#]],
    );
    shown(
        "\u{1b}[31m = \u{202e}x",
        8..11,
        expect![[r#"
            error: it is\x1b so
              --> f\x07:1:9
               |
             1 | \x1b[31m = \u202ex
               |            ^^^^^^
               = help: do\nthis"#]],
    );
}

fn shown(source: &str, span: Range<usize>, expected: Expect) {
    let help = Some("do\nthis".to_owned());
    let diagnostic = Diagnostic::at(
        Severity::Error,
        "f\u{7}",
        source,
        span,
        "it is\u{1b} so",
        help,
    );
    expected.assert_eq(&diagnostic.to_string());
}

#[test]
fn a_long_line_is_cut() {
    let source = "x".repeat(1_000_000);
    let diagnostic = Diagnostic::at(Severity::Error, "f", &source, 900_000..900_010, "m", None);
    assert_eq!(
        (diagnostic.line, diagnostic.column, diagnostic.width),
        (1, 900_001, 10)
    );
    assert_eq!(diagnostic.source_line.chars().count(), SHOWN_LINE + 1);
    assert!(diagnostic.to_string().len() < 4 * SHOWN_LINE);
}

#[test]
fn the_nearest() {
    let known = ["allow_from", "allow_shell", "username", "id52"];
    for (text, expected) in [
        ("alow_from", Some("allow_from")),
        ("alowfrom", Some("allow_from")),
        ("usrename", Some("username")),
        ("id", None),
        ("colour", None),
        ("", None),
    ] {
        assert_eq!(nearest(text, known), expected, "{text}");
    }
}

#[test]
fn capitals_do_not_hide_what_is_meant() {
    let known = ["list", "status", "PATH"];
    for (text, meant) in [
        ("LIST", Some("list")),
        ("Staus", Some("status")),
        ("Path", Some("PATH")),
        ("xyz", None),
    ] {
        assert_eq!(nearest(text, known), meant, "{text}");
    }
}
