//! Answers to commands that people type out of habit: a table for verbs, a table for options, and common mistakes in
//! targets.

mod cp;
mod placement;

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use malai_cluster::{Target, escape, nearest};
use malai_node::Names;

/// Verbs of other programs, and other names for malai's own. The longest match wins.
const VERBS: &[(&str, &str)] = &[
    ("add", "malai cluster add <alias> <name> <id52>"),
    ("approve", "malai cluster approve <alias> <name> <id52>"),
    ("check", "malai rescan --check"),
    ("cluster apply", "malai rescan <alias>"),
    ("cluster check", "malai rescan --check <alias>"),
    ("cluster create", "malai cluster init <alias>"),
    (
        "cluster del",
        "malai cluster remove <alias> <machine>, or malai cluster delete <alias> for a whole cluster",
    ),
    ("cluster destroy", "malai cluster delete <alias>"),
    ("cluster id", "malai id <alias>"),
    ("cluster info", "malai cluster show <alias>"),
    (
        "cluster join",
        "malai join <invitation>, or malai machine init <manager-id52> <alias>",
    ),
    ("cluster ls", "malai cluster list"),
    ("cluster machines", "malai list <alias>"),
    ("cluster mv", "malai cluster rename <alias> <old> <new>"),
    ("cluster new", "malai cluster init <alias>"),
    ("cluster publish", "malai rescan <alias>"),
    ("cluster rescan", "malai rescan <alias>"),
    (
        "cluster rm",
        "malai cluster remove <alias> <machine>, or malai cluster delete <alias> for a whole cluster",
    ),
    ("cluster status", "malai status <alias>"),
    (
        "cluster update",
        "malai cluster set <alias> <machine> …, or malai cluster edit <alias>",
    ),
    (
        "config",
        "malai cluster edit <alias>, and $MALAI_HOME/malai.toml",
    ),
    ("connect", "malai <machine>.<cluster>"),
    ("copy", "malai cp <file> <machine>.<cluster>:<path>"),
    ("create", "malai cluster init <alias>"),
    ("daemon reload", "malai rescan"),
    ("daemon restart", "malai restart"),
    ("daemon start", "malai daemon"),
    ("daemon status", "malai status"),
    ("daemon stop", "malai stop"),
    (
        "delete",
        "malai cluster remove <alias> <machine>, or malai cluster delete <alias>",
    ),
    ("diagnose", "malai doctor"),
    ("edit", "malai cluster edit <alias>"),
    ("health", "malai status, and malai doctor"),
    ("info", "malai status"),
    (
        "init",
        "malai cluster init <alias>, or malai machine init <manager-id52> <alias>",
    ),
    ("get", "malai <machine>.<cluster> cat <file>"),
    (
        "invite",
        "malai cluster invite <alias> --name <name>, and malai join on the new machine",
    ),
    ("journal", "malai logs, and malai audit"),
    (
        "keygen",
        "malai cluster init and malai machine init, which create the keys",
    ),
    ("kill", "malai sessions end <id>"),
    ("leave", "malai cluster leave <alias>"),
    ("log", "malai logs"),
    ("login", "malai <machine>.<cluster>"),
    ("ls", "malai list"),
    (
        "machine add",
        "malai cluster add <alias> <name> <id52>, on the manager",
    ),
    (
        "machine approve",
        "malai cluster approve <alias> <name> <id52>, on the manager",
    ),
    ("machine id", "malai id"),
    (
        "machine join",
        "malai join <invitation>, or malai machine init <manager-id52> <alias>",
    ),
    ("machine leave", "malai cluster leave <alias>"),
    ("machine list", "malai list"),
    ("machine ls", "malai list"),
    (
        "machine remove",
        "malai cluster remove <alias> <name>, on the manager",
    ),
    (
        "machine rename",
        "malai cluster rename <alias> <old> <new>, on the manager",
    ),
    (
        "machine rm",
        "malai cluster remove <alias> <name>, on the manager",
    ),
    (
        "machine set",
        "malai cluster set <alias> <name> …, on the manager",
    ),
    ("machine status", "malai status"),
    ("machines", "malai list"),
    ("mv", "malai cluster rename <alias> <old> <new>"),
    ("new", "malai cluster init <alias>"),
    ("nodes", "malai list"),
    ("peers", "malai list"),
    ("ps", "malai sessions"),
    ("publish", "malai rescan"),
    ("reload", "malai rescan"),
    ("remove", "malai cluster remove <alias> <machine>"),
    ("rename", "malai cluster rename <alias> <old> <new>"),
    ("rm", "malai cluster remove <alias> <machine>"),
    ("run", "malai <machine>.<cluster> <command>"),
    ("serve", "malai daemon"),
    ("server", "malai daemon"),
    ("sessions kill", "malai sessions end <id>"),
    ("sessions list", "malai sessions"),
    ("sessions ls", "malai sessions"),
    ("sessions stop", "malai sessions end <id>"),
    ("set", "malai cluster set <alias> <machine> …"),
    ("show", "malai cluster show <alias>"),
    ("start", "malai daemon"),
    ("scp", "malai cp <file> <machine>.<cluster>:<path>"),
    ("sftp", "malai cp <file> <machine>.<cluster>:<path>"),
    ("sync", "malai rescan"),
    ("test", "malai ping <targets>, and malai doctor"),
    (
        "update",
        "malai rescan for the configuration; to update the program, install the new version like the first one",
    ),
    (
        "upgrade",
        "install the new version like the first one, then malai restart",
    ),
    ("up", "malai daemon"),
    ("down", "malai stop"),
    ("users", "malai cluster show <alias>"),
    ("validate", "malai rescan --check"),
    ("who", "malai sessions"),
    ("whoami", "malai id"),
];

const USER: &str = "the user belongs to the target, if `username` of the machine lists it (in cluster.toml on the manager): malai <user>@<machine>.<cluster> <command>";

/// Options of ssh and similar programs.
const OPTIONS: &[(&str, &str)] = &[
    ("-p", "malai needs no port: a machine is found by its key"),
    (
        "--port",
        "malai needs no port: a machine is found by its key",
    ),
    ("-l", USER),
    ("-u", USER),
    ("--user", USER),
    (
        "-i",
        "malai uses this computer's own key in the cluster: malai id shows it",
    ),
    (
        "-o",
        "malai ssh accepts ssh's options; malai's own settings are in $MALAI_HOME/malai.toml",
    ),
    ("-F", "malai's settings are in $MALAI_HOME/malai.toml"),
    (
        "-v",
        "malai's activity is in the log: malai logs -f; for more detail: RUST_LOG=malai=debug",
    ),
    (
        "--verbose",
        "malai's activity is in the log: malai logs -f; for more detail: RUST_LOG=malai=debug",
    ),
    (
        "-q",
        "malai prints nothing of its own if a command succeeds",
    ),
    (
        "-A",
        "malai forwards no agent: the other machine needs none of your keys",
    ),
    ("-a", "malai forwards no agent"),
    ("-X", "malai forwards no X11"),
    ("-Y", "malai forwards no X11"),
    (
        "-J",
        "malai needs no jump host: machines are reached directly or through a relay",
    ),
    ("-L", "malai forwards no ports in this version"),
    ("-R", "malai forwards no ports in this version"),
    ("-D", "malai forwards no ports in this version"),
    (
        "-N",
        "malai forwards no ports in this version, and has nothing to do without a command",
    ),
    ("-C", "malai does not compress what it sends"),
    ("-4", "malai uses IPv4 and IPv6, whichever works"),
    ("-6", "malai uses IPv4 and IPv6, whichever works"),
    (
        "-w",
        "name several machines in the target: malai 'web*.company' …, malai @web.company …",
    ),
    ("-g", "name a group in the target: malai @web.company …"),
    (
        "--host",
        "name a machine in the target: malai <machine>.<cluster> …",
    ),
    (
        "--hosts",
        "name several machines in the target: malai 'web*.company' …, malai @web.company …",
    ),
    (
        "--group",
        "name a group in the target: malai @web.company …",
    ),
    (
        "-f",
        "to run it in the background: malai -n <machine>.<cluster> … &",
    ),
    ("-P", "to limit parallel machines: --parallel N"),
    ("-V", "malai --version"),
    (
        "-y",
        "malai asks only before something is lost; to answer yes: --yes",
    ),
];

/// What malai has instead of something that the parser rejected.
pub fn of(error: &clap::Error, typed: &[OsString]) -> Option<String> {
    match error.kind() {
        ErrorKind::UnknownArgument => {
            let Some(ContextValue::String(option)) = error.get(ContextKind::InvalidArg) else {
                return None;
            };
            if option.starts_with('-') {
                let name = option
                    .split_once('=')
                    .map_or(option.as_str(), |(name, _)| name);
                if let Some(line) = placement::with_user(typed) {
                    return Some(format!(
                        "there is no option {}: the user belongs to the target: {line}",
                        escape(name)
                    ));
                }
                let (_, instead) = cp::answers(typed)
                    .iter()
                    .chain(OPTIONS)
                    .find(|(known, _)| *known == name)?;
                return Some(format!("there is no option {}: {instead}", escape(name)));
            }
            verb(typed)
        }
        ErrorKind::InvalidSubcommand | ErrorKind::MissingRequiredArgument => verb(typed),
        _ => None,
    }
}

/// What malai has instead of a verb, going by the words typed.
pub fn verb(typed: &[OsString]) -> Option<String> {
    let words: Vec<&str> = typed
        .iter()
        .map_while(|word| word.to_str())
        .skip_while(|word| *word == "help")
        .take(2)
        .take_while(|word| !word.starts_with('-'))
        .collect();
    (1..=words.len()).rev().find_map(|count| {
        let wanted = words[..count].join(" ").to_ascii_lowercase();
        let (_, instead) = VERBS.iter().find(|(known, _)| *known == wanted)?;
        let said = escape(&words[..count].join(" "));
        Some(format!(
            "there is no command `malai {said}`; malai has: {instead}"
        ))
    })
}

/// A suggestion for a list of targets of which one is not a target.
pub fn targets(text: &str, names: &Names) -> Option<String> {
    let words = text.split(',').map(|word| word.trim_start_matches('!'));
    words
        .into_iter()
        .find_map(|word| target(word, names).or_else(|| without_cluster(word, names)))
}

/// A suggestion for the name of a machine, a group or a cluster alone.
fn without_cluster(word: &str, names: &Names) -> Option<String> {
    let name = word.to_ascii_lowercase();
    let shown = escape(word);
    let meant = match name.strip_prefix('@') {
        Some(group) => names.targets_of_group(group),
        None => names.targets_of(&name),
    };
    if !meant.is_empty() {
        let meant = meant.join(" or ");
        return Some(format!("{shown} lacks its cluster; did you mean {meant}?"));
    }
    let alias = name.trim_start_matches('@');
    if names.clusters.iter().any(|cluster| cluster.alias == alias) {
        return Some(format!(
            "{shown} is not a target: {alias} is a cluster, and '*.{alias}' is all its machines"
        ));
    }
    if word.contains('.') {
        return None;
    }
    let near = nearest(word, names.aliases.iter().map(String::as_str))?;
    Some(format!("{shown} is not a target; did you mean {near}?"))
}

/// A suggestion for a text that is not a target.
pub fn target(text: &str, names: &Names) -> Option<String> {
    let shown = escape(text);
    let host = match text.split_once("://") {
        Some((_, host)) => host.trim_end_matches('/'),
        None => text,
    };
    let (user, host) = match host.split_once('@') {
        Some((user, host)) if !user.is_empty() && !user.contains([',', '!']) => (Some(user), host),
        _ => (None, host),
    };
    let (host, after) = match host.split_once(':') {
        Some((host, after)) => (host, Some(after)),
        None => (host, None),
    };
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    if host == text {
        return None;
    }
    if let Some(user) = user.filter(|_| !host.contains('.')) {
        // An @ instead of the dot.
        let meant = format!("{}.{host}", user.to_ascii_lowercase());
        if names.has(&meant) {
            return Some(format!("{shown} is not a target; did you mean {meant}?"));
        }
    }
    let meant = match host.contains('.') {
        true if Target::parse(&host).is_ok() => vec![host.clone()],
        true => Vec::new(),
        false => names.targets_of(&host),
    };
    let first = meant.first()?;
    let mut reasons = Vec::new();
    if text.contains("://") {
        reasons.push("a target has no URL scheme".to_owned());
    }
    if let Some(user) = user {
        reasons.push(format!(
            "the configuration decides the user (`username` of the machine, in cluster.toml on the manager; if it lists several: malai ssh {user}@{first} …), so omit {user}@",
            user = escape(user)
        ));
    }
    match after {
        Some("") => reasons.push("a target has no colon".to_owned()),
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
            reasons.push("a machine is found by its key, and needs no port".to_owned());
        }
        Some(path) => {
            let path = escape(path);
            reasons.push(format!(
                "only malai cp takes a path with it (malai cp {first}:{path} . copies it to here)"
            ));
        }
        None => {}
    }
    if reasons.is_empty() {
        // Only the case is wrong, or there is a dot at the end.
        if host.eq_ignore_ascii_case(text) {
            reasons.push("names are lowercase".to_owned());
        } else {
            reasons.push("a target does not end with a dot".to_owned());
        }
    }
    Some(format!(
        "{shown} is not a target: {}; did you mean {}?",
        reasons.join("; "),
        meant.join(" or ")
    ))
}

/// The message about a command that starts with an option. `before` is what was typed before the target, `after` what
/// follows it.
pub fn option_after_target(before: &[OsString], target: &str, after: &[OsString]) -> String {
    let option = after.first().map(|first| first.to_string_lossy());
    let option = option.as_deref().unwrap_or_default();
    let (shown_target, shown) = (escape(target), escape(option));
    let name = option.split_once('=').map_or(option, |(name, _)| name);
    let instead = match (placement::corrected(before, target, after), name) {
        (Some(line), "--") => format!("the command follows the target directly: {line}"),
        (Some(line), name) if placement::is_user(name) => {
            format!("the user belongs to the target: {line}")
        }
        (Some(line), _) => format!("put malai's options before the target: {line}"),
        (None, "-h" | "--help") => format!(
            "for help on malai: malai --help; for help on a command: malai {shown_target} <command> {shown}"
        ),
        (None, "-V" | "--version") => "for malai's version: malai --version".to_owned(),
        (None, name) => match OPTIONS.iter().find(|(known, _)| *known == name) {
            Some((_, instead)) => (*instead).to_owned(),
            None => "malai has no such option".to_owned(),
        },
    };
    format!(
        "{shown} after the target would be the command to run there; nothing was run; {instead} (to run a program with that name: malai {shown_target} env -- {shown})"
    )
}

#[cfg(test)]
mod tests;
