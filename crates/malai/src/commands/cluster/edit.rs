//! `malai cluster edit <alias>`: cluster.toml in an editor, like visudo. Only a valid file replaces the old one.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use malai_cluster::Diagnostic;
use malai_node::draft::{Draft, Examined, WorkingCopy};
use malai_node::{Home, display_path};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};
use signal_hook::low_level::emulate_default_handler;

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
    for left in left {
        printer.say(&format!(
            "an earlier edit was not saved; its text is in {}",
            display_path(&left)
        ));
    }
    let interrupts = Interrupts::watch(draft.copy())?;
    let ended = edit(&draft, &editor, &interrupts, yes, printer);
    interrupts.end();
    match ended {
        Ok(Ended::Saved) => {
            printer.out(&format!("Saved {}\n", display_path(&draft.file())));
            publish(home, &alias, printer)
        }
        Ok(Ended::Unchanged) => {
            draft.discard();
            printer.out("Nothing was changed\n");
            Ok(Exit::OK)
        }
        Ok(Ended::GivenUp) => {
            draft.discard();
            printer.say("nothing was changed");
            Ok(Exit::FAILED)
        }
        Ok(Ended::Unanswered) => {
            printer.say(&nothing_changed(&draft.copy()));
            Ok(Exit::FAILED)
        }
        Err(error) => match draft.copy().settle() {
            Ok(None) => Err(error),
            Ok(Some(kept)) => Err(anyhow::anyhow!(
                "{error:#}; your text is in {}",
                display_path(&kept)
            )),
            Err(_) => Err(anyhow::anyhow!(
                "{error:#}; your text is in {}",
                display_path(&draft.path())
            )),
        },
    }
}

/// How an edit has ended.
enum Ended {
    Saved,
    Unchanged,
    /// The user does not want the text any more.
    GivenUp,
    /// There was no answer: the text is kept.
    Unanswered,
}

fn edit(
    draft: &Draft,
    editor: &OsString,
    interrupts: &Interrupts,
    yes: bool,
    printer: &Printer,
) -> anyhow::Result<Ended> {
    loop {
        interrupts.while_editing(|| open(editor, &draft.path()))?;
        let answer = match draft.examine()? {
            Examined::Unchanged => return Ok(Ended::Unchanged),
            Examined::Invalid(problems) => {
                show_problems(&problems, printer);
                match ask(
                    "the configuration is not valid. (e)dit again, or e(x)it without saving? [e]",
                ) {
                    Asked::Line(line) if matches!(line.as_str(), "x" | "q" | "exit") => {
                        return Ok(Ended::GivenUp);
                    }
                    Asked::Line(_) => continue,
                    Asked::NoTerminal | Asked::End => return Ok(Ended::Unanswered),
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
                // An editor that is a script has no terminal to ask on.
                let answer = match yes || is_layout {
                    true => Asked::NoTerminal,
                    false => ask(
                        "save and publish this? (y)es, (e)dit again, or e(x)it without saving? [y]",
                    ),
                };
                (answer, text)
            }
        };
        match answer {
            (Asked::NoTerminal, text) => {
                draft.save(&text)?;
                return Ok(Ended::Saved);
            }
            (Asked::End, _) => return Ok(Ended::Unanswered),
            (Asked::Line(line), text) => match line.as_str() {
                "" | "y" | "yes" => {
                    draft.save(&text)?;
                    return Ok(Ended::Saved);
                }
                "x" | "q" | "n" | "no" | "exit" => return Ok(Ended::GivenUp),
                _ => {}
            },
        }
    }
}

/// Ends the edit without saving; says where its text is, if there is any.
fn nothing_changed(copy: &WorkingCopy) -> String {
    match copy.settle() {
        Ok(None) => "nothing was changed".to_owned(),
        Ok(Some(kept)) => format!(
            "nothing was changed; the text is kept in {}",
            display_path(&kept)
        ),
        Err(error) => format!("nothing was changed; the text is still there: {error}"),
    }
}

/// Signals during an edit. Those typed on the terminal are the editor's while it runs; others end the edit, and its text is
/// kept.
struct Interrupts {
    is_editing: Arc<AtomicBool>,
    signals: Handle,
}

impl Interrupts {
    fn watch(copy: WorkingCopy) -> anyhow::Result<Self> {
        let is_editing = Arc::<AtomicBool>::default();
        let mut arriving =
            Signals::new([SIGINT, SIGQUIT, SIGTERM, SIGHUP]).context("cannot watch for signals")?;
        let (editing, signals) = (is_editing.clone(), arriving.handle());
        // Ends with the process, or when the handle is closed.
        std::thread::spawn(move || {
            for signal in arriving.forever() {
                if editing.load(Ordering::Relaxed) && matches!(signal, SIGINT | SIGQUIT) {
                    continue;
                }
                Printer::default().say(&nothing_changed(&copy));
                let _ = emulate_default_handler(signal);
            }
        });
        Ok(Self {
            is_editing,
            signals,
        })
    }

    fn while_editing<T>(&self, edit: impl FnOnce() -> T) -> T {
        self.is_editing.store(true, Ordering::Relaxed);
        let result = edit();
        self.is_editing.store(false, Ordering::Relaxed);
        result
    }

    fn end(&self) {
        self.signals.close();
    }
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
            "the editor {} failed ({status}); nothing was changed",
            malai_cluster::escape(&editor.to_string_lossy())
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
