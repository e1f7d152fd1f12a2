//! Completions at the cursor: commands, options, and the names that this home knows. Pure.

use clap::{Arg, Command};
use malai_node::{ClusterNames, Names};

/// A completion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The word.
    pub text: String,
    /// Its description, for shells that show one.
    pub about: String,
}

fn candidate(text: impl Into<String>, about: impl Into<String>) -> Candidate {
    Candidate {
        text: text.into(),
        about: about.into(),
    }
}

/// The completions of the last of `words`, which are the words after `malai` up to the cursor.
pub fn candidates(declaration: &Command, names: &Names, words: &[String]) -> Vec<Candidate> {
    let Some((current, before)) = words.split_last() else {
        return Vec::new();
    };
    let Some(given) = after_options(declaration, before) else {
        return option_before_target(declaration, names, before, current);
    };
    let mut found = match given.split_first() {
        None if current.starts_with("--exclude=") => {
            let (option, value) = current.split_at("--exclude=".len());
            let found = targets(names, value).into_iter();
            found
                .map(|target| candidate(format!("{option}{}", target.text), target.about))
                .collect()
        }
        None if current.starts_with('-') => options(declaration),
        None if !before.is_empty() => targets(names, current),
        None => [verbs(declaration), targets(names, current)].concat(),
        // clap adds this one itself, but only when it parses.
        Some((first, rest)) if first == HELP => verbs_below(declaration, rest),
        Some((first, rest)) => match declaration.find_subcommand(first) {
            // A command on a target has its own arguments; only the names of command entries are known.
            None if rest.is_empty() => commands_of(names, first),
            None => Vec::new(),
            Some(verb) => after_verb(declaration, verb, names, rest, current),
        },
    };
    found.retain(|candidate| candidate.text.starts_with(current.as_str()));
    found.dedup();
    found
}

/// The verb that prints help.
const HELP: &str = "help";

/// Whether file names fit: in a command's arguments on a target, for `cp`, and for the folder of `--out`.
pub fn wants_files(declaration: &Command, words: &[String]) -> bool {
    let Some((current, before)) = words.split_last() else {
        return false;
    };
    if before.last().is_some_and(|word| word == "--out") {
        return true;
    }
    let Some([first, rest @ ..]) = after_options(declaration, before) else {
        return false;
    };
    match declaration.find_subcommand(first) {
        None => first != HELP,
        // What has a colon before any slash is on a machine.
        Some(verb) if verb.get_name() == "cp" => {
            !current.starts_with('-')
                && !current.split('/').next().unwrap_or_default().contains(':')
        }
        Some(verb) if verb.get_name() == "exec" => {
            after_options(verb, rest).is_some_and(|given| !given.is_empty())
        }
        Some(_) => false,
    }
}

/// The values of an option before a target: only `--exclude` takes names.
fn option_before_target(
    command: &Command,
    names: &Names,
    before: &[String],
    current: &str,
) -> Vec<Candidate> {
    match before.last().and_then(|word| option(command, word)) {
        Some(arg) if arg.get_id() == "exclude" => {
            let mut found = targets(names, current);
            found.retain(|candidate| candidate.text.starts_with(current));
            found
        }
        _ => Vec::new(),
    }
}

fn after_verb(
    declaration: &Command,
    verb: &Command,
    names: &Names,
    before: &[String],
    current: &str,
) -> Vec<Candidate> {
    if matches!(verb.get_name(), "exec" | "shell") && !current.starts_with('-') {
        let Some(given) = after_options(verb, before) else {
            return option_before_target(verb, names, before, current);
        };
        return match (given.first(), given.get(1)) {
            (None, _) => targets(names, current),
            (Some(target), None) => commands_of(names, target),
            _ => Vec::new(),
        };
    }
    if verb.get_name() == "ssh" {
        // Its options are ssh's.
        let has_host = before.iter().any(|word| !word.starts_with('-'));
        return match has_host || current.starts_with('-') {
            true => Vec::new(),
            false => targets(names, current),
        };
    }
    let mut command = verb;
    let mut given: Vec<&str> = Vec::new();
    let mut awaited: Option<&Arg> = None;
    for word in before {
        if awaited.take().is_some() {
            continue;
        }
        // A single dash is an argument: standard input and output.
        if word.starts_with('-') && word != "-" {
            awaited = option(command, word);
        } else if let Some(deeper) = command.find_subcommand(word).filter(|_| given.is_empty()) {
            command = deeper;
        } else {
            given.push(word);
        }
    }
    let place = Place {
        declaration,
        command,
        names,
        given: &given,
        current,
    };
    if let Some(awaited) = awaited {
        return place.values(awaited);
    }
    if let Some((name, _)) = current.split_once('=')
        && let Some(option) = option(command, name)
    {
        let values = place.values(option);
        let joined = values
            .into_iter()
            .map(|value| candidate(format!("{name}={}", value.text), value.about));
        return joined.collect();
    }
    if current.starts_with('-') {
        return options(command);
    }
    let mut found = verbs(command);
    let positionals: Vec<&Arg> = command.get_positionals().collect();
    let last = positionals.len().saturating_sub(1);
    let many = |arg: &Arg| {
        arg.get_num_args()
            .is_some_and(|range| range.max_values() > 1)
    };
    let next = positionals.get(given.len().min(last));
    if let Some(arg) = next.filter(|arg| given.len() <= last || many(arg)) {
        found.extend(place.values(arg));
    }
    found
}

/// The words after the leading options and their values; `None` if a value is expected next.
fn after_options<'w>(command: &Command, mut words: &'w [String]) -> Option<&'w [String]> {
    while let [first, rest @ ..] = words
        && first.starts_with('-')
    {
        words = match option(command, first) {
            Some(_) => rest.split_first()?.1,
            None => rest,
        };
    }
    Some(words)
}

/// The option with this name, if it takes a value.
fn option<'c>(command: &'c Command, word: &str) -> Option<&'c Arg> {
    let takes_value = |arg: &&Arg| arg.get_action().takes_values() && !arg.is_positional();
    let is_it = |arg: &&Arg| match word.strip_prefix("--") {
        Some(long) => arg.get_long() == Some(long),
        None => arg
            .get_short()
            .is_some_and(|short| word == format!("-{short}")),
    };
    command.get_arguments().filter(takes_value).find(is_it)
}

/// A position at which a value is expected.
struct Place<'a> {
    declaration: &'a Command,
    command: &'a Command,
    names: &'a Names,
    /// The arguments before it, without options.
    given: &'a [&'a str],
    current: &'a str,
}

impl Place<'_> {
    fn values(&self, arg: &Arg) -> Vec<Candidate> {
        let possible = arg.get_possible_values();
        if !possible.is_empty() && !arg.is_hide_set() {
            let shown = possible.iter().filter(|value| !value.is_hide_set());
            return shown
                .map(|value| {
                    let about = value.get_help().map(ToString::to_string);
                    candidate(value.get_name(), about.unwrap_or_default())
                })
                .collect();
        }
        match (self.command.get_name(), arg.get_id().as_str()) {
            ("why", "target") => [targets(self.names, self.current), services(self.names)].concat(),
            (_, "target" | "targets") => targets(self.names, self.current),
            ("browse", "service") => services(self.names),
            // Where to listen, and then a service.
            ("forward", "pairs") if self.given.len() % 2 == 1 => services(self.names),
            (
                "add" | "remove" | "set" | "edit" | "approve" | "delete" | "invite" | "invites"
                | "revoke-invite",
                "alias",
            ) => self.aliases(|cluster| cluster.managed),
            // A new name.
            ("join", "alias") => Vec::new(),
            ("leave", "alias") => self.aliases(|cluster| !cluster.managed),
            // A new name, unless `--replace` refers to an existing one.
            ("init", "alias") => match self
                .command
                .get_arguments()
                .any(|arg| arg.get_id() == "replace")
            {
                true => self.aliases(|cluster| !cluster.managed),
                false => Vec::new(),
            },
            (_, "cluster" | "alias") => self.aliases(|_| true),
            ("remove" | "set" | "rename", "name") => self.members(false),
            ("show", "name") => self.members(true),
            (_, "group" | "add_group" | "remove_group") => self.groups(),
            (_, "who" | "allow_from" | "allow_shell" | "allow_files" | "allow_forward") => {
                self.members(true)
            }
            (_, "from") => self.members(false),
            (_, "command") => self
                .given
                .get(1)
                .map_or_else(Vec::new, |target| commands_of(self.names, target)),
            ("cp", "paths") => {
                let machines = targets(self.names, self.current).into_iter();
                machines
                    .map(|machine| candidate(format!("{}:", machine.text), machine.about))
                    .collect()
            }
            ("man", "verb") => verbs_below(self.declaration, self.given),
            _ => Vec::new(),
        }
    }

    fn aliases(&self, wanted: impl Fn(&ClusterNames) -> bool) -> Vec<Candidate> {
        let clusters = self.names.clusters.iter().filter(|cluster| wanted(cluster));
        clusters
            .map(|cluster| candidate(&cluster.alias, "cluster"))
            .collect()
    }

    /// The groups of the cluster that was typed before this word.
    fn groups(&self) -> Vec<Candidate> {
        let named = |cluster: &&ClusterNames| self.given.first() == Some(&cluster.alias.as_str());
        let clusters = self.names.clusters.iter().filter(named);
        clusters
            .flat_map(|cluster| &cluster.groups)
            .map(|group| candidate(group, "group"))
            .collect()
    }

    /// Machines, and optionally groups, of the cluster that was typed before this word, or else of all clusters. Completes the last item of a list.
    fn members(&self, groups: bool) -> Vec<Candidate> {
        let named = |cluster: &&ClusterNames| self.given.first() == Some(&cluster.alias.as_str());
        let all = &self.names.clusters;
        let of_one = all.iter().find(named);
        let (before, _) = split_list(self.current);
        let mut found = Vec::new();
        for cluster in all
            .iter()
            .filter(|cluster| of_one.is_none_or(|one| one == *cluster))
        {
            let alias = &cluster.alias;
            for machine in &cluster.machines {
                let about = format!("machine of {alias}");
                found.push(candidate(format!("{before}{}", machine.name), about));
            }
            for group in cluster.groups.iter().filter(|_| groups) {
                found.push(candidate(
                    format!("{before}{group}"),
                    format!("group of {alias}"),
                ));
            }
        }
        found
    }
}

/// The verbs below the given ones: `add` and others below `cluster`.
fn verbs_below<W: AsRef<str>>(declaration: &Command, given: &[W]) -> Vec<Candidate> {
    let mut command = declaration;
    for word in given {
        match command.find_subcommand(word.as_ref()) {
            Some(deeper) => command = deeper,
            None => return Vec::new(),
        }
    }
    verbs(command)
}

fn verbs(command: &Command) -> Vec<Candidate> {
    let shown = command.get_subcommands().filter(|verb| !verb.is_hide_set());
    shown
        .map(|verb| {
            let about = verb.get_about().map(ToString::to_string);
            candidate(verb.get_name(), about.unwrap_or_default())
        })
        .collect()
}

fn options(command: &Command) -> Vec<Candidate> {
    let mut found = Vec::new();
    let shown = command.get_arguments().filter(|arg| !arg.is_hide_set());
    for arg in shown {
        let about = arg.get_help().map(ToString::to_string).unwrap_or_default();
        if let Some(long) = arg.get_long() {
            found.push(candidate(format!("--{long}"), &about));
        }
        if let Some(short) = arg.get_short() {
            found.push(candidate(format!("-{short}"), about));
        }
    }
    // clap adds these two itself, but only when it parses.
    found.push(candidate("--help", "Print help"));
    if command.get_version().is_some() {
        found.push(candidate("--version", "Print version"));
    }
    found
}

/// Every service.
fn services(names: &Names) -> Vec<Candidate> {
    let mut found = Vec::new();
    for cluster in &names.clusters {
        let alias = &cluster.alias;
        for service in &cluster.services {
            let about = format!("service of {alias}");
            found.push(candidate(format!("{service}.{alias}"), about));
        }
    }
    found
}

/// Every target; completes the last item of a list, and what follows `user@`.
fn targets(names: &Names, current: &str) -> Vec<Candidate> {
    let (before, item) = split_list(current);
    let user = item.find('@').filter(|at| *at > 0);
    let before = &current[..before.len() + user.map_or(0, |at| at + 1)];
    let mut found = Vec::new();
    for cluster in &names.clusters {
        let alias = &cluster.alias;
        for machine in &cluster.machines {
            let text = format!("{before}{}.{alias}", machine.name);
            found.push(candidate(text, format!("machine of {alias}")));
        }
        for group in &cluster.groups {
            let text = format!("{before}@{group}.{alias}");
            found.push(candidate(text, format!("group of {alias}")));
        }
    }
    for alias in &names.aliases {
        found.push(candidate(format!("{before}{alias}"), "alias in malai.toml"));
    }
    found
}

/// A list up to its last comma, and the rest.
fn split_list(text: &str) -> (&str, &str) {
    match text.rfind(',') {
        Some(comma) => text.split_at(comma + 1),
        None => ("", text),
    }
}

/// The command entries of a machine.
fn commands_of(names: &Names, target: &str) -> Vec<Candidate> {
    let Some((machine, alias)) = target.split_once('.') else {
        return Vec::new();
    };
    let clusters = names
        .clusters
        .iter()
        .filter(|cluster| cluster.alias == alias);
    let machines = clusters.flat_map(|cluster| &cluster.machines);
    machines
        .filter(|known| known.name == machine)
        .flat_map(|known| &known.commands)
        .map(|command| candidate(command, format!("command of {target}")))
        .collect()
}

#[cfg(test)]
mod tests;
