//! `malai cluster edit <alias>`: cluster.toml in an editor, like visudo. Only a valid file replaces the old one.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use anyhow::Context;
use malai_cluster::Diagnostic;
use malai_node::draft::{Draft, Examined};
use malai_node::{Home, display_path};

use super::{Asked, alias, ask, publish, show_changes, usage};
use crate::output::Printer;
use crate::output::exit::Exit;

/// The editors to try if neither VISUAL nor EDITOR is set.
const EDITORS: [&str; 4] = ["sensible-editor", "vi", "nano", "vim"];

/// Opens the editor until the text is valid or the user gives up, shows the changes, and publishes them.
pub(super) fn run(home: &Home, text: &str, yes: bool, printer: &Printer) -> anyhow::Result<Exit> {
    let alias = match alias(text) {
        Ok(alias) => alias,
        Err(error) => return usage("edit the cluster", &error, printer),
    };
    let editor = editor()
        .context("no editor found: choose one, as in EDITOR=nano malai cluster edit <alias>")?;
    let (draft, left) = Draft::begin(home, &alias)?;
    if let Some(left) = left {
        printer.say(&format!(
            "an earlier edit was interrupted; its text is in {}",
            display_path(&left)
        ));
    }
    loop {
        open(&editor, &draft.path())?;
        let answer = match draft.examine()? {
            Examined::Unchanged => {
                draft.discard();
                printer.out("Nothing was changed\n");
                return Ok(Exit::OK);
            }
            Examined::Invalid(problems) => {
                show_problems(&problems, printer);
                match ask(
                    "the configuration is not valid. (e)dit again, or e(x)it without saving? [e]",
                ) {
                    Asked::Line(line) if matches!(line.as_str(), "x" | "q" | "exit") => {
                        Answer::GiveUp
                    }
                    Asked::Line(_) => Answer::Again,
                    Asked::NoTerminal | Asked::End => Answer::Keep,
                }
            }
            Examined::Valid {
                text,
                changes,
                warnings,
            } => {
                show_problems(&warnings, printer);
                let is_layout = changes.as_ref().is_some_and(Vec::is_empty);
                match &changes {
                    Some(_) if is_layout => printer
                        .out("Only comments or layout differ:\n   there is nothing to publish\n"),
                    Some(changes) => {
                        printer.out("This would change:\n");
                        show_changes(changes, printer);
                    }
                    None => printer.out(
                        "The file was not valid before, and nothing was published yet: all of it is new\n",
                    ),
                }
                let answer = match yes || is_layout {
                    true => Answer::Save,
                    false => match ask(
                        "save and publish this? (y)es, (e)dit again, or e(x)it without saving? [y]",
                    ) {
                        // An editor that is a script has no terminal to ask on.
                        Asked::NoTerminal => Answer::Save,
                        Asked::End => Answer::Keep,
                        Asked::Line(line) => match line.as_str() {
                            "" | "y" | "yes" => Answer::Save,
                            "x" | "q" | "n" | "no" | "exit" => Answer::GiveUp,
                            _ => Answer::Again,
                        },
                    },
                };
                if matches!(answer, Answer::Save) {
                    let file = draft.file();
                    draft.save(&text)?;
                    printer.out(&format!("Saved {}\n", display_path(&file)));
                    return publish(home, &alias, printer);
                }
                answer
            }
        };
        match answer {
            Answer::Again => {}
            Answer::GiveUp | Answer::Save => {
                draft.discard();
                printer.say("nothing was changed");
                return Ok(Exit::FAILED);
            }
            Answer::Keep => {
                let kept = draft.keep()?;
                printer.say(&format!(
                    "nothing was changed; the text is kept in {}",
                    display_path(&kept)
                ));
                return Ok(Exit::FAILED);
            }
        }
    }
}

enum Answer {
    Save,
    Again,
    GiveUp,
    /// No answer: the text is kept.
    Keep,
}

fn show_problems(problems: &[Diagnostic], printer: &Printer) {
    for problem in problems {
        printer.out(&format!("{problem}\n"));
    }
}

/// The editor command: a line for the shell, as in git and visudo.
fn editor() -> Option<OsString> {
    let mut named = ["VISUAL", "EDITOR"]
        .into_iter()
        .filter_map(std::env::var_os);
    let named = named.find(|line| !line.is_empty());
    named.or_else(|| {
        let path = std::env::var_os("PATH")?;
        let found = EDITORS.iter().find(|editor| {
            std::env::split_paths(&path).any(|folder| folder.join(editor).is_file())
        });
        found.map(OsString::from)
    })
}

fn open(editor: &OsString, file: &Path) -> anyhow::Result<()> {
    let mut line = editor.clone();
    line.push(" \"$@\"");
    let status = Command::new("sh")
        .arg("-c")
        .arg(line)
        .arg(editor)
        .arg(file)
        .status()
        .context("cannot start the editor")?;
    if !status.success() {
        anyhow::bail!(
            "the editor {} failed ({status}); nothing was changed, and its text is in {}",
            malai_cluster::escape(&editor.to_string_lossy()),
            display_path(file)
        );
    }
    if !file.exists() {
        anyhow::bail!(
            "the editor {} has removed the text; nothing was changed",
            malai_cluster::escape(&editor.to_string_lossy())
        );
    }
    Ok(())
}
