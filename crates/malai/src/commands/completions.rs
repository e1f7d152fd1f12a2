//! `malai completions <shell>`: the completion script of a shell. The script asks malai for completions, so it knows targets
//! and names, and need not change when malai does.

use malai_node::{Home, Names};

use crate::cli::{self, CompletionsArgs, Shell, complete};
use crate::output::Printer;
use crate::output::exit::Exit;

/// Prints the script, or the completions at the cursor.
pub fn run(home: &Home, args: &CompletionsArgs, printer: &Printer) -> anyhow::Result<Exit> {
    if args.candidates {
        let words = args.words.iter().map(|word| word.to_string_lossy());
        let words: Vec<String> = words.map(String::from).collect();
        let declaration = cli::declaration();
        let candidates = complete::candidates(&declaration, &Names::of(home), &words);
        for candidate in &candidates {
            printer.out(&format!("{}\t{}\n", candidate.text, candidate.about));
        }
        // The scripts complete file names themselves if this says that they fit; for `cp` also beside machines.
        let is_sole = candidates.is_empty() || words.first().is_some_and(|verb| verb == "cp");
        if is_sole && complete::wants_files(&declaration, &words) {
            return Ok(Exit::FAILED);
        }
    }
    printer.out(match args.shell {
        Some(Shell::Bash) => include_str!("completions/malai.bash"),
        Some(Shell::Zsh) => include_str!("completions/malai.zsh"),
        Some(Shell::Fish) => include_str!("completions/malai.fish"),
        None => "",
    });
    Ok(Exit::OK)
}
