//! Options that stand after a target: the command line as it has to be typed, with their values.

use std::ffi::OsString;

use clap::{Arg, Args, Command};
use malai_cluster::{escape, quote};

use crate::cli::TargetOptions;

/// ssh's way to name a user, and other programs'.
const USER: [&str; 3] = ["-l", "-u", "--user"];

/// Whether an option names a user: by its name, or by the start of a word with its value.
pub(super) fn is_user(option: &str) -> bool {
    USER.iter().any(|name| value_of(option, name).is_some())
}

/// The command line with malai's options, and `--`, moved from behind the target to where they belong, and a user
/// moved into the target. `None` if no word behind the target is one of these.
///
/// `before` is what was typed before the target, from malai's verb on; `after` is everything behind it.
pub(super) fn corrected(before: &[OsString], target: &str, after: &[OsString]) -> Option<String> {
    let taken = take(after);
    if taken.words == 0 {
        return None;
    }
    let shown = |words: &[OsString]| -> Vec<String> {
        let words = words.iter().map(|word| quote(&word.to_string_lossy()));
        words.collect()
    };
    let target = match taken.user {
        Some(user) => quote(&format!("{user}@{target}")),
        None => quote(target),
    };
    let words = [
        vec!["malai".to_owned()],
        shown(before),
        shown(&taken.options),
        vec![target],
        shown(&after[taken.words..]),
    ];
    Some(escape(&words.concat().join(" ")))
}

/// The command line with a user that was named before the target moved into it; `None` if none was, or for one of malai's
/// own commands.
pub(super) fn with_user(typed: &[OsString]) -> Option<String> {
    let known = TargetOptions::augment_args(Command::new("malai"));
    let mut at = 0;
    loop {
        let word = typed.get(at)?.to_string_lossy();
        if is_user(&word) {
            break;
        }
        at += 1 + usize::from(takes_next_word(&known, &word)?);
    }
    let (before, after) = typed.split_at(at);
    let taken = take(after);
    let target = after.get(taken.words)?.to_string_lossy();
    let is_target = target.contains(['.', '@', '*']) && !target.starts_with('-');
    let moved = [&after[..taken.words], &after[taken.words + 1..]].concat();
    is_target.then(|| corrected(before, &target, &moved))?
}

/// What stands at the start of the words behind a target and is not the command.
#[derive(Debug, Default)]
struct Taken {
    /// malai's options, with their values.
    options: Vec<OsString>,
    /// The user that was named as for ssh.
    user: Option<String>,
    /// How many words these are.
    words: usize,
}

fn take(after: &[OsString]) -> Taken {
    let known = TargetOptions::augment_args(Command::new("malai"));
    let mut taken = Taken::default();
    while let Some(word) = after.get(taken.words) {
        let text = word.to_string_lossy();
        let next = after.get(taken.words + 1);
        if text == "--" {
            taken.words += 1;
            break;
        }
        if let Some(user) = USER.iter().find_map(|name| value_of(&text, name)) {
            let given = match user {
                Some(user) => Some(user.to_owned()),
                None => next.map(|next| next.to_string_lossy().into_owned()),
            };
            // Without a user it is left where it is.
            let Some(given) = given.filter(|given| !given.is_empty()) else {
                break;
            };
            taken.words += 1 + usize::from(user.is_none());
            taken.user = Some(given);
            continue;
        }
        let Some(takes_next) = takes_next_word(&known, &text) else {
            break;
        };
        taken.options.push(word.clone());
        taken.words += 1;
        if takes_next && let Some(value) = next {
            taken.options.push(value.clone());
            taken.words += 1;
        }
    }
    taken
}

/// The value in an option of this name; `None` inside if it is the next word. (A value directly after a letter could as
/// well be more letters: `-la`.)
fn value_of<'w>(word: &'w str, name: &str) -> Option<Option<&'w str>> {
    match word.strip_prefix(name)? {
        "" => Some(None),
        rest => rest.strip_prefix('=').map(Some),
    }
}

/// Whether the next word is this option's value; `None` if malai has no such option before a target.
fn takes_next_word(known: &Command, word: &str) -> Option<bool> {
    let takes_value = |arg: &Arg| arg.get_action().takes_values();
    if let Some(long) = word.strip_prefix("--") {
        let (name, value) = match long.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (long, None),
        };
        let arg = known
            .get_arguments()
            .find(|arg| arg.get_long() == Some(name))?;
        return Some(takes_value(arg) && value.is_none());
    }
    // Several short options in one word; the last may have its value in the word.
    let mut letters = word.strip_prefix('-')?.chars().peekable();
    letters.peek()?;
    while let Some(letter) = letters.next() {
        let arg = known
            .get_arguments()
            .find(|arg| arg.get_short() == Some(letter))?;
        if takes_value(arg) {
            return Some(letters.peek().is_none());
        }
    }
    Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn options_move_before_the_target_with_their_values() {
        for (before, after, expected) in [
            ("", "-t top", "malai -t web01.c top"),
            ("", "-t", "malai -t web01.c"),
            (
                "-n",
                "--timeout 5 ls -l",
                "malai -n --timeout 5 web01.c ls -l",
            ),
            ("exec", "--env=A=b env", "malai exec --env=A=b web01.c env"),
            (
                "",
                "--env A=b -x web02.c ls",
                "malai --env A=b -x web02.c web01.c ls",
            ),
            ("", "-xweb02.c ls -x", "malai -xweb02.c web01.c ls -x"),
            ("", "-nx web02.c ls", "malai -nx web02.c web01.c ls"),
            ("", "-ntt -- ls", "malai -ntt web01.c ls"),
            ("", "-- ls", "malai web01.c ls"),
            ("", "-l ann ls", "malai ann@web01.c ls"),
            ("", "-l ann -t ls", "malai -t ann@web01.c ls"),
            ("", "--user=ann ls", "malai ann@web01.c ls"),
            ("", "--timeout", "malai --timeout web01.c"),
        ] {
            let corrected = corrected(&words(before), "web01.c", &words(after));
            assert_eq!(corrected.as_deref(), Some(expected), "{after}");
        }
        let with_blanks = [OsString::from("-n"), "a b".into(), "\u{1b}".into()];
        assert_eq!(
            corrected(&[], "web01.c", &with_blanks).unwrap(),
            r"malai -n web01.c 'a b' $'\x1b'"
        );
    }

    #[test]
    fn a_user_before_the_target_moves_into_it() {
        for (typed, expected) in [
            ("-l ann web01.c ls -l", Some("malai ann@web01.c ls -l")),
            (
                "-n --timeout 5 -l ann -t web01.c",
                Some("malai -n --timeout 5 -t ann@web01.c"),
            ),
            ("web01.c -l ann", None),
            ("-l status", None),
            ("-n web01.c ls", None),
            ("", None),
        ] {
            assert_eq!(with_user(&words(typed)).as_deref(), expected, "{typed}");
        }
    }

    #[test]
    fn what_is_not_malais_stays() {
        for after in ["", "ls -t", "--color ls", "-la", "-z", "-l", "-"] {
            assert_eq!(corrected(&[], "web01.c", &words(after)), None, "{after}");
        }
    }
}
