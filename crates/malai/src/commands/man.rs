//! `malai man [verb]`: manual pages, generated from the command line's declaration.

use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context;
use clap_mangen::Man;
use malai_node::display_path;

use crate::cli::{self, ManArgs};
use crate::output::Printer;
use crate::output::exit::Exit;

/// Shows a page, or writes all of them.
pub fn run(args: &ManArgs, printer: &Printer) -> anyhow::Result<Exit> {
    let root = cli::declaration().disable_help_subcommand(true);
    // A page is the long help.
    let mut root = root.mut_args(|arg| arg.hide_short_help(false));
    root.build();
    if let Some(folder) = &args.out {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot create the folder {}", display_path(folder)))?;
        let count = write_all(&root, folder)?;
        printer.out(&format!(
            "wrote {count} manual pages to {}\n",
            display_path(folder)
        ));
        return Ok(Exit::OK);
    }
    let mut command = &root;
    for word in &args.verb {
        command = match command.find_subcommand(word) {
            Some(found) if !found.is_hide_set() => found,
            _ => {
                let known = command.get_subcommands().filter(|verb| !verb.is_hide_set());
                let near = malai_cluster::nearest(word, known.map(clap::Command::get_name));
                let near = near.map_or_else(
                    || "see all of them with malai man".to_owned(),
                    |near| format!("did you mean {near}?"),
                );
                let word = malai_cluster::escape(word);
                printer.say(&format!("there is no manual page for {word}; {near}"));
                return Ok(Exit::USAGE);
            }
        };
    }
    let page = page(command)?;
    if !rustix::termios::isatty(io::stdout()) || !shown(&page) {
        printer.out(&String::from_utf8_lossy(&page));
    }
    Ok(Exit::OK)
}

/// Whether the system's own `man` has shown the page.
fn shown(page: &[u8]) -> bool {
    let started = Command::new("man")
        .args(["-l", "-"])
        .stdin(Stdio::piped())
        .spawn();
    let Ok(mut man) = started else {
        return false;
    };
    if let Some(mut stdin) = man.stdin.take() {
        // A viewer that was quit early has shown it.
        let _ = stdin.write_all(page);
    }
    man.wait().is_ok_and(|status| status.success())
}

fn write_all(command: &clap::Command, folder: &Path) -> anyhow::Result<usize> {
    let path = folder.join(format!("{}.1", name(command)));
    std::fs::write(&path, page(command)?)
        .with_context(|| format!("cannot write {}", display_path(&path)))?;
    let mut count = 1;
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        count += write_all(verb, folder)?;
    }
    Ok(count)
}

fn name(command: &clap::Command) -> String {
    let name = command.get_display_name().unwrap_or(command.get_name());
    name.to_owned()
}

fn page(command: &clap::Command) -> io::Result<Vec<u8>> {
    let version = env!("CARGO_PKG_VERSION");
    let man = Man::new(command.clone().version(version))
        .title(name(command).to_uppercase())
        .source(format!("malai {version}"))
        .manual("malai");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    if let Some(examples) = command.get_before_help() {
        page.extend(section(&examples.to_string()).into_bytes());
    }
    man.render_options_section(&mut page)?;
    if command.get_subcommands().any(|verb| !verb.is_hide_set()) {
        man.render_subcommands_section(&mut page)?;
    }
    if command.get_after_help().is_some() {
        man.render_extra_section(&mut page)?;
    }
    man.render_version_section(&mut page)?;
    Ok(page)
}

/// The examples, verbatim.
fn section(examples: &str) -> String {
    let mut text = ".SH EXAMPLES\n.nf\n".to_owned();
    for line in examples.lines().skip(1) {
        // `\&` prevents a line that starts with a dot or a quote from being parsed as a request.
        let line = line
            .replace('\\', "\\e")
            .replace('-', "\\-")
            .replace('\'', "\\(aq");
        text.push_str(&format!("\\&{line}\n"));
    }
    text + ".fi\n"
}
