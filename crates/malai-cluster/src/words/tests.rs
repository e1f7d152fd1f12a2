//! Splitting and escaping.

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;

#[test]
fn plain_lines() {
    words("ps aux", &["ps", "aux"]);
    words("  a \t b ", &["a", "b"]);
    words("uptime", &["uptime"]);
    words("a$b;c", &["a$b;c"]);
    words("", &[""]);
    words(
        "echo 'a  b' \"c $$d\"".replace("$$", "\\$").as_str(),
        &["echo", "a  b", "c $d"],
    );
    words("echo ''", &["echo", ""]);
    words("echo a\\ b a'b'\"c\"", &["echo", "a b", "abc"]);
    words("echo \"a\\nb\" ';|&$'", &["echo", "a\\nb", ";|&$"]);
    words("echo 'two\nlines'", &["echo", "two\nlines"]);
    words("a \\\nb", &["a", "b"]);
    words(
        "env A=b user@host:/x,y+z %1",
        &["env", "A=b", "user@host:/x,y+z", "%1"],
    );
    words("'A'=b c", &["A=b", "c"]);
}

fn words(line: &str, expected: &[&str]) {
    assert_eq!(
        split_sole(line).as_deref(),
        Ok(&*expected.iter().map(ToString::to_string).collect::<Vec<_>>()),
        "{line:?}"
    );
}

#[test]
fn lines_for_a_shell() {
    shell(
        "ls | head",
        expect!["`|` outside quotes means something to a shell, and no shell is involved"],
    );
    shell(
        "ls *",
        expect!["`*` outside quotes means something to a shell, and no shell is involved"],
    );
    shell(
        "cat ~/x",
        expect!["`~` outside quotes means something to a shell, and no shell is involved"],
    );
    shell(
        "a; b",
        expect!["`;` outside quotes means something to a shell, and no shell is involved"],
    );
    shell(
        "echo $HOME",
        expect!["`$` outside quotes means something to a shell, and no shell is involved"],
    );
    shell(
        "echo \"$HOME\"",
        expect!["`$` between double quotes is for a shell to expand, and no shell is involved"],
    );
    shell(
        "echo \"`id`\"",
        expect!["``` between double quotes is for a shell to expand, and no shell is involved"],
    );
    shell(
        "# a comment",
        expect!["`#` outside quotes means something to a shell, and no shell is involved"],
    );
    shell(
        "a\nb",
        expect!["it has more than one line, which only a shell would run"],
    );
    shell(
        "A=1 b",
        expect!["`A=1` at the start sets a variable in a shell, and no shell is involved"],
    );
    shell("echo 'a", expect!["the quote `'` is never closed"]);
    shell("echo \"a", expect![[r#"the quote `"` is never closed"#]]);
    shell("echo a\\", expect!["it ends in a backslash"]);
    shell("   ", expect!["it has no words"]);
    shell(
        "echo \u{1b}[2J",
        expect![[
            r#"`\u{1b}` outside quotes means something to a shell, and no shell is involved"#
        ]],
    );
    shell("echo 'a\0b'", expect!["it has a NUL character"]);
    shell(
        "echo é",
        expect!["`é` outside quotes means something to a shell, and no shell is involved"],
    );
}

fn shell(line: &str, expected: Expect) {
    expected.assert_eq(&split_sole(line).unwrap_err().to_string());
}

#[test]
fn commands_of_entries() {
    assert_eq!(
        split_command("sudo systemctl restart nginx").unwrap().len(),
        4
    );
    assert_eq!(split_command("reboot").unwrap(), ["reboot"]);
    assert_eq!(
        split_command("sh -c 'a | b'").unwrap(),
        ["sh", "-c", "a | b"]
    );
    for bad in ["", " ", "'' x", "a|b", "a>b", "A=b"] {
        assert!(split_command(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn escaping() {
    for (text, safe) in [
        ("plain – ümläut 日本 \\ ok", "plain – ümläut 日本 \\ ok"),
        ("\u{1b}[31mred", "\\u{1b}[31mred"),
        ("a\nmalai: forged", "a\\u{a}malai: forged"),
        ("\u{9b}2J\u{7f}\r\t\0", "\\u{9b}2J\\u{7f}\\u{d}\\u{9}\\u{0}"),
        (
            "\u{202e}\u{2066}\u{200b}\u{feff}\u{2028}",
            "\\u{202e}\\u{2066}\\u{200b}\\u{feff}\\u{2028}",
        ),
    ] {
        assert_eq!(escape(text), safe);
        assert_eq!(escape_bytes(text.as_bytes()), safe);
    }
    assert_eq!(escape_bytes(b"a\xff\xc3b\x1b"), "a\\xff\\xc3b\\u{1b}");
}

proptest! {
    #[test]
    fn what_is_split_is_split_as_a_shell_would(line in "[ab '\"\\\\\t=.$#]{0,12}") {
        if let Ok(words) = split(&line) {
            prop_assert_eq!(Some(words), shlex::split(&line));
        }
    }

    #[test]
    fn quoted_words_come_back(words in prop::collection::vec("[^\0]{0,6}", 2..5)) {
        let line: Vec<_> = words.iter().map(|word| format!("'{}'", word.replace('\'', "'\\''"))).collect();
        prop_assert_eq!(split_sole(&line.join(" ")).unwrap(), words);
    }

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
        (b"red \x1b[31mhat\x1b[0m", "red \\u{1b}[31mhat\\u{1b}[0m"),
        (b"50%\r60%\r", "50%\\u{d}60%\r"),
        (b"\x00\x7f\xff\xe2\x80\xae", "\\u{0}\\u{7f}\\xff\\u{202e}"),
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
