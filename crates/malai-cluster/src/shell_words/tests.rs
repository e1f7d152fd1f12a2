//! Splitting.

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
        expect!["`|` outside quotes is special to a shell, and no shell is involved"],
    );
    shell(
        "ls *",
        expect!["`*` outside quotes is special to a shell, and no shell is involved"],
    );
    shell(
        "cat ~/x",
        expect!["`~` outside quotes is special to a shell, and no shell is involved"],
    );
    shell(
        "a; b",
        expect!["`;` outside quotes is special to a shell, and no shell is involved"],
    );
    shell(
        "echo $HOME",
        expect!["`$` outside quotes is special to a shell, and no shell is involved"],
    );
    shell(
        "echo \"$HOME\"",
        expect!["`$` in double quotes is expanded by a shell, and no shell is involved"],
    );
    shell(
        "echo \"`id`\"",
        expect!["``` in double quotes is expanded by a shell, and no shell is involved"],
    );
    shell(
        "# a comment",
        expect!["`#` outside quotes is special to a shell, and no shell is involved"],
    );
    shell(
        "a\nb",
        expect!["it has more than one line, which needs a shell"],
    );
    shell(
        "A=1 b",
        expect!["`A=1` at the start sets a variable in a shell, and no shell is involved"],
    );
    shell("echo 'a", expect!["the quote `'` is not closed"]);
    shell("echo \"a", expect![[r#"the quote `"` is not closed"#]]);
    shell("echo a\\", expect!["it ends with a backslash"]);
    shell("   ", expect!["it has no words"]);
    shell(
        "echo \u{1b}[2J",
        expect![[r#"`\x1b` outside quotes is special to a shell, and no shell is involved"#]],
    );
    shell("echo 'a\0b'", expect!["it contains a NUL character"]);
    shell(
        "echo é",
        expect!["`é` outside quotes is special to a shell, and no shell is involved"],
    );
}

#[test]
fn quoting() {
    for (word, quoted) in [
        (&b"plain-1.2/x=y"[..], "plain-1.2/x=y"),
        ("grün".as_bytes(), "grün"),
        (b"", "''"),
        (b"a b", "'a b'"),
        (b"~", "'~'"),
        (b"$(x) `y` \\", r"'$(x) `y` \'"),
        (b"it's", r"'it'\''s'"),
        (b"it's\n\\", r"$'it\'s\n\\'"),
        (b"\x1b[2J\xff", r"$'\x1b[2J\xff'"),
    ] {
        assert_eq!(quote_bytes(word), quoted);
    }
    assert_eq!(quote("\u{202e}"), r"$'\u202e'");
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
    fn a_quoted_word_is_one_word_to_a_shell_and_safe_to_print(word in "\\PC{0,12}") {
        let quoted = quote(&word);
        prop_assert!(!quoted.contains(is_unsafe), "{}", quoted);
        if !quoted.starts_with('$') {
            prop_assert_eq!(shlex::split(&quoted), Some(vec![word]));
        }
    }
}
