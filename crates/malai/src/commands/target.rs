//! `malai <target> …`: a first word that is none of malai's commands. Tells a target from a mistyped command.

use std::ffi::OsString;

use malai_cluster::{VERBS, escape, nearest};
use malai_node::home::Home;
use malai_node::settings::Settings;

use super::exec;
use crate::args::Wish;
use crate::exit::Exit;
use crate::printer::Printer;

/// Runs the command on the target, or says which command was probably meant.
pub fn run(home: &Home, words: &[OsString], wish: Wish, printer: &Printer) -> anyhow::Result<Exit> {
    let Some((target, arguments)) = words.split_first() else {
        return Ok(Exit::USAGE);
    };
    let first = target.to_string_lossy();
    if looks_like_target(&first) || Settings::load(home)?.aliases.contains_key(&*first) {
        return exec::run_on(home, target, arguments, wish, printer);
    }
    printer.say(&no_such_command(&first));
    Ok(Exit::USAGE)
}

/// Whether only a target can be written this way. Short names of targets cannot: they look like commands.
fn looks_like_target(word: &str) -> bool {
    word.contains(['.', '@', '*', ','])
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
