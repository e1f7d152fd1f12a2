//! Words of a command line: split by POSIX quoting rules, without a shell, and quoted again for one. Also
//! comma-separated lists.

use std::fmt;
use std::ops::Range;

use crate::sanitize::{escape, is_unsafe, push_escaped};

/// Quotes a word for a shell if necessary: `it's` becomes `'it'\''s'`.
///
/// A word with unprintable characters is written as `$'…'`, which POSIX shells can read.
pub fn quote(word: &str) -> String {
    quote_bytes(word.as_bytes())
}

/// Like [`quote`], for a word that may not be UTF-8.
pub fn quote_bytes(word: &[u8]) -> String {
    match std::str::from_utf8(word) {
        Ok(text) if !text.contains(is_unsafe) => {
            let needs_none = |c: char| {
                u8::try_from(c).is_ok_and(is_plain) || !c.is_ascii() && c.is_alphanumeric()
            };
            if !text.is_empty() && text.chars().all(needs_none) {
                text.to_owned()
            } else {
                format!("'{}'", text.replace('\'', r"'\''"))
            }
        }
        _ => {
            let mut quoted = "$'".to_owned();
            for chunk in word.utf8_chunks() {
                for character in chunk.valid().chars() {
                    if matches!(character, '\'' | '\\') {
                        quoted.push('\\');
                    }
                    push_escaped(&mut quoted, character);
                }
                for byte in chunk.invalid() {
                    quoted.push_str(&format!("\\x{byte:02x}"));
                }
            }
            quoted + "'"
        }
    }
}

/// Splits a command that is a single argument into words by POSIX quoting rules, as the client does before sending.
///
/// An argument without spaces is a single word and is returned unchanged. One with spaces may contain, outside
/// quotes, only spaces and `[A-Za-z0-9_@%+=:,./-]`: anything else would need a shell, and none is involved.
///
/// # Errors
///
/// [`NeedsShell`] says what needs a shell.
pub fn split_sole(argument: &str) -> Result<Vec<String>, NeedsShell> {
    if !argument.contains([' ', '\t', '\n']) {
        return Ok(vec![argument.to_owned()]);
    }
    split(argument)
}

/// Splits the `command` of a command entry by the same rules as [`split_sole`].
///
/// # Errors
///
/// What is wrong, for the author of the file.
pub fn split_command(command: &str) -> Result<Vec<String>, String> {
    let words = split(command).map_err(|problem| problem.to_string())?;
    match words.first() {
        Some(program) if program.is_empty() => Err("its first word is empty".to_owned()),
        _ => Ok(words),
    }
}

/// Splits a list in a configuration file at its commas. Each entry comes with its place in the source; `span` is the
/// place of the whole string, including its quotes.
pub fn split_list<'t>(
    source: &str,
    text: &'t str,
    span: Range<usize>,
) -> Vec<(&'t str, Range<usize>)> {
    if text.trim().is_empty() {
        return Vec::new();
    }
    // A string without escapes is spelled the same in the source, so the place of each entry is known.
    let written = source.get(span.clone()).unwrap_or_default();
    let start = written
        .find(text)
        .filter(|quote| *quote > 0 && written.len() == text.len() + 2 * quote)
        .map(|quote| span.start + quote);
    let mut entries = Vec::new();
    let mut offset = 0;
    for part in text.split(',') {
        let value = part.trim();
        let blanks = part.len() - part.trim_start().len();
        let place = start.map(|start| {
            let at = start + offset + blanks;
            at..at + value.len()
        });
        entries.push((value, place.unwrap_or_else(|| span.clone())));
        offset += part.len() + 1;
    }
    entries
}

/// Why a line cannot be run without a shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NeedsShell {
    /// Only spaces.
    Empty,
    /// A character that is special to a shell.
    Special(char),
    /// An expansion (`$` or a backquote) between double quotes.
    Expansion(char),
    /// The line starts with a variable assignment.
    Assignment(String),
    /// A quote that is not closed, or a backslash at the end.
    Unclosed(char),
    /// The first word is a shell builtin.
    Builtin(String),
    /// A NUL, which an argument cannot contain.
    Nul,
}

impl fmt::Display for NeedsShell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NeedsShell::Empty => f.write_str("it has no words"),
            NeedsShell::Special('\n') => {
                f.write_str("it has more than one line, which needs a shell")
            }
            NeedsShell::Special(character) => write!(
                f,
                "`{}` outside quotes is special to a shell, and no shell is involved",
                escape(&character.to_string())
            ),
            NeedsShell::Expansion(character) => write!(
                f,
                "`{character}` in double quotes is expanded by a shell, and no shell is involved"
            ),
            NeedsShell::Assignment(word) => write!(
                f,
                "`{}` at the start sets a variable in a shell, and no shell is involved",
                escape(word)
            ),
            NeedsShell::Builtin(word) => write!(f, "`{}` is a shell builtin", escape(word)),
            NeedsShell::Unclosed('\\') => f.write_str("it ends with a backslash"),
            NeedsShell::Unclosed(quote) => write!(f, "the quote `{quote}` is not closed"),
            NeedsShell::Nul => f.write_str("it contains a NUL character"),
        }
    }
}

impl std::error::Error for NeedsShell {}

/// Splits a line that was written for a shell, if it does not need one: plain words by the same rules as
/// [`split_sole`], the first of which is not a shell builtin. The bytes may have any encoding.
///
/// # Errors
///
/// [`NeedsShell`] says what needs a shell.
pub fn split_line(line: &[u8]) -> Result<Vec<Vec<u8>>, NeedsShell> {
    let words = split_bytes(line)?;
    let first = words.first().map(Vec::as_slice).unwrap_or_default();
    if BUILTINS.iter().any(|builtin| builtin.as_bytes() == first) {
        return Err(NeedsShell::Builtin(String::from_utf8_lossy(first).into()));
    }
    Ok(words)
}

/// Quotes a word so that a POSIX shell reads exactly the same bytes. [`quote_bytes`] is for people.
pub(crate) fn quote_exactly(word: &[u8]) -> Vec<u8> {
    if !word.is_empty() && word.iter().all(|byte| is_plain(*byte)) {
        return word.to_vec();
    }
    let mut quoted = vec![b'\''];
    for byte in word {
        match byte {
            b'\'' => quoted.extend(b"'\\''"),
            other => quoted.push(*other),
        }
    }
    quoted.push(b'\'');
    quoted
}

/// Builtins and reserved words of POSIX shells, bash and zsh: as the first word of a line they refer to the shell's
/// own, even if there is a program with the same name.
const BUILTINS: [&str; 76] = [
    ".", ":", "[", "[[", "!", "{", "}", "alias", "bg", "bind", "break", "builtin", "caller",
    "case", "cd", "command", "compgen", "complete", "continue", "coproc", "declare", "dirs",
    "disown", "do", "done", "echo", "elif", "else", "enable", "esac", "eval", "exec", "exit",
    "export", "false", "fc", "fg", "fi", "for", "function", "getopts", "hash", "help", "history",
    "if", "in", "jobs", "kill", "let", "local", "logout", "popd", "printf", "pushd", "pwd", "read",
    "readonly", "return", "select", "set", "shift", "source", "test", "then", "time", "times",
    "trap", "true", "type", "typeset", "ulimit", "umask", "unalias", "unset", "until", "wait",
];

/// POSIX shell quoting (XCU §2.2), and nothing else of a shell.
///
/// The `shlex` crate splits in the same way (a test compares the two), but does not report what was quoted, which
/// decides here whether a shell is needed.
fn split(line: &str) -> Result<Vec<String>, NeedsShell> {
    let words = split_bytes(line.as_bytes())?.into_iter();
    // Only ASCII characters were removed, so the rest is still valid text.
    Ok(words
        .map(|word| String::from_utf8_lossy(&word).into_owned())
        .collect())
}

fn split_bytes(line: &[u8]) -> Result<Vec<Vec<u8>>, NeedsShell> {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let (mut assigns, mut quoted) = (false, false);
    let mut bytes = line.iter().copied().enumerate();
    while let Some((at, byte)) = bytes.next() {
        quoted |= matches!(byte, b'\'' | b'"' | b'\\');
        match byte {
            0 => return Err(NeedsShell::Nul),
            b' ' | b'\t' => words.extend(word.take()),
            b'\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match bytes.next() {
                        Some((_, b'\'')) => break,
                        Some((_, 0)) => return Err(NeedsShell::Nul),
                        Some((_, inside)) => word.push(inside),
                        None => return Err(NeedsShell::Unclosed('\'')),
                    }
                }
            }
            b'"' => split_double(&mut bytes, word.get_or_insert_default())?,
            b'\\' => match bytes.next() {
                Some((_, b'\n')) => {}
                Some((_, 0)) => return Err(NeedsShell::Nul),
                Some((_, escaped)) => word.get_or_insert_default().push(escaped),
                None => return Err(NeedsShell::Unclosed('\\')),
            },
            b'=' => {
                let word = word.get_or_insert_default();
                assigns |= words.is_empty() && !quoted && is_variable(word);
                word.push(b'=');
            }
            plain if is_plain(plain) => word.get_or_insert_default().push(plain),
            _ => {
                let rest = String::from_utf8_lossy(&line[at..]);
                return Err(NeedsShell::Special(rest.chars().next().unwrap_or_default()));
            }
        }
    }
    words.extend(word);
    match words.first() {
        None => Err(NeedsShell::Empty),
        Some(first) if assigns => Err(NeedsShell::Assignment(
            String::from_utf8_lossy(first).into(),
        )),
        Some(_) => Ok(words),
    }
}

/// Reads up to the closing double quote. In double quotes, a backslash escapes only `$`, a backquote, `"`, itself and
/// a newline.
fn split_double(
    bytes: &mut impl Iterator<Item = (usize, u8)>,
    word: &mut Vec<u8>,
) -> Result<(), NeedsShell> {
    loop {
        match bytes.next() {
            Some((_, b'"')) => return Ok(()),
            Some((_, 0)) => return Err(NeedsShell::Nul),
            Some((_, expansion @ (b'$' | b'`'))) => {
                return Err(NeedsShell::Expansion(expansion.into()));
            }
            Some((_, b'\\')) => match bytes.next() {
                Some((_, b'\n')) => {}
                Some((_, escaped @ (b'$' | b'`' | b'"' | b'\\'))) => word.push(escaped),
                Some((_, 0)) => return Err(NeedsShell::Nul),
                Some((_, other)) => word.extend([b'\\', other]),
                None => return Err(NeedsShell::Unclosed('"')),
            },
            Some((_, inside)) => word.push(inside),
            None => return Err(NeedsShell::Unclosed('"')),
        }
    }
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_@%+=:,./-".contains(&byte)
}

fn is_variable(word: &[u8]) -> bool {
    !word.first().is_none_or(u8::is_ascii_digit)
        && word
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
}

#[cfg(test)]
mod tests;
