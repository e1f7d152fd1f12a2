//! `malai <target> …`: a first word that is not one of malai's commands. Distinguishes a target from a mistyped command.

use std::ffi::OsString;

use malai_cluster::{VERBS, escape, nearest};
use malai_node::{Home, Names, Settings, display_path};

use crate::cli::{TargetOptions, instead};
use crate::commands::exec;
use crate::output::Printer;
use crate::output::exit::Exit;

/// Runs the command on the target, or suggests a command.
pub fn run(
    home: &Home,
    words: &[OsString],
    on: &TargetOptions,
    printer: &Printer,
) -> anyhow::Result<Exit> {
    let Some((target, arguments)) = words.split_first() else {
        return Ok(Exit::USAGE);
    };
    let first = target.to_string_lossy();
    if looks_like_target(&first) || Settings::load(home)?.aliases.contains_key(&*first) {
        return exec::run_on(home, target, arguments, on, printer);
    }
    let root = display_path(home.root());
    printer.say(&no_such_command(words, &Names::of(home), &root));
    Ok(Exit::USAGE)
}

/// Whether only a target can look like this. Aliases cannot: they look like commands.
fn looks_like_target(word: &str) -> bool {
    word.contains(['.', '@', '*', '?', '[', ',', '!'])
}

fn no_such_command(words: &[OsString], names: &Names, home: &str) -> String {
    let word = words.first().map(|word| word.to_string_lossy());
    let word = word.as_deref().unwrap_or_default();
    if word.trim().is_empty() {
        return "the first word is empty; a target is <machine>.<cluster>; see: malai --help"
            .into();
    }
    let shown = escape(word);
    let said = format!("no such command: {shown}");
    let targets = names.targets_of(&word.to_ascii_lowercase());
    if !targets.is_empty() {
        return format!("{said}; did you mean {}?", targets.join(" or "));
    }
    if let Some(cluster) = names.clusters.iter().find(|cluster| cluster.alias == word) {
        let first = cluster.machines.first();
        let machine = first.map_or("<machine>", |machine| &machine.name);
        return format!(
            "{said}; {shown} is a cluster: malai list {shown} shows its machines, and a target is {machine}.{shown}"
        );
    }
    if let Some(answer) = instead::verb(words).or_else(|| instead::target(word, names)) {
        return answer;
    }
    if VERBS.contains(&word) {
        return format!("this version of malai has no command {word}; see: malai --help");
    }
    let known = VERBS
        .iter()
        .copied()
        .chain(names.aliases.iter().map(String::as_str));
    let near = match nearest(word, known) {
        Some(near) => return format!("{said}; did you mean `malai {near}`?"),
        // Another home may have the cluster that was meant.
        None if names.clusters.is_empty() => {
            format!(
                "see: malai --help. For a command on a machine write <machine>.<cluster>; there is no cluster yet in {home}"
            )
        }
        None => {
            "see: malai --help. For a command on a machine write <machine>.<cluster>".to_owned()
        }
    };
    format!("{said}; {near}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use malai_node::{ClusterNames, MachineNames};

    #[test]
    fn the_nearest_is_named() {
        let machine = MachineNames {
            name: "web01".into(),
            commands: Vec::new(),
        };
        let cluster = |alias: &str| ClusterNames {
            alias: alias.into(),
            machines: vec![machine.clone()],
            ..ClusterNames::default()
        };
        let names = Names {
            clusters: vec![cluster("company"), cluster("work")],
            aliases: vec!["shop".into()],
        };
        for (word, said) in [
            ("statsu", "did you mean `malai status`?"),
            ("shpo", "did you mean `malai shop`?"),
            ("web01", "did you mean web01.company or web01.work?"),
            ("WEB01", "did you mean web01.company or web01.work?"),
            ("web01:22", "did you mean web01.company or web01.work?"),
            ("reload", "malai has: malai rescan"),
            ("work", "a target is web01.work"),
            ("STATUS", "did you mean `malai status`?"),
            (" ", "the first word is empty"),
            ("qqqqqq", "see: malai --help"),
            ("a\nb", "no such command: a\\nb"),
        ] {
            let text = no_such_command(&[word.into()], &names, "/home");
            assert!(text.contains(said), "{word}: {text}");
        }
    }
}
