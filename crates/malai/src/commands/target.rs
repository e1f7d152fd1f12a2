//! `malai <target> …`: a first word that is none of malai's commands. Tells a target from a mistyped command.

use std::ffi::OsString;

use malai_cluster::{VERBS, escape, nearest};
use malai_node::home::Home;
use malai_node::settings::Settings;

use super::exec;
use crate::args::OnTargets;
use crate::exit::Exit;
use crate::printer::Printer;

/// Runs the command on the target, or says which command was probably meant.
pub fn run(
    home: &Home,
    words: &[OsString],
    on: &OnTargets,
    printer: &Printer,
) -> anyhow::Result<Exit> {
    let first = words.first().map(|word| word.to_string_lossy());
    let first = first.unwrap_or_default();
    if looks_like_target(&first) || Settings::load(home)?.aliases.contains_key(&*first) {
        return exec::run(home, words, on, printer);
    }
    printer.say(&no_such_command(&first));
    Ok(Exit::USAGE)
}

/// Whether only a target can be written this way. Short names of targets cannot: they look like commands.
fn looks_like_target(word: &str) -> bool {
    word.contains(['.', '@', '*', '?', '[', ',', '!'])
}

fn no_such_command(word: &str) -> String {
    if VERBS.contains(&word) {
        return format!("the command {word} is not in this version of malai; see: malai --help");
    }
    let near = match nearest(word, VERBS.iter().copied()) {
        Some(verb) => format!("did you mean {verb}?"),
        None => "see: malai --help".to_owned(),
    };
    format!(
        "no such command: {}; {near} (a target is written <machine>.<cluster>)",
        escape(word)
    )
}
