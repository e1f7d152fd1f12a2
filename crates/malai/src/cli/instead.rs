//! Answers to commands that people type out of habit: a table for verbs, a table for options, and common mistakes in
//! targets.

mod cp;

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
        "cluster invite",
        "malai machine init <manager-id52> <alias> on the new machine, and malai cluster approve here",
    ),
    ("cluster join", "malai machine init <manager-id52> <alias>"),
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
        "malai machine init <manager-id52> <alias> on the new machine, and malai cluster approve here",
    ),
    ("join", "malai machine init <manager-id52> <alias>"),
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
    ("machine join", "malai machine init <manager-id52> <alias>"),
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

/// Options of ssh and similar programs.
const OPTIONS: &[(&str, &str)] = &[
    ("-p", "malai needs no port: a machine is found by its key"),
    (
        "--port",
        "malai needs no port: a machine is found by its key",
    ),
    (
        "-l",
        "the configuration decides the user: `username` of the machine, in cluster.toml on the manager",
    ),
    (
        "-u",
        "the configuration decides the user: `username` of the machine, in cluster.toml on the manager",
    ),
    (
        "--user",
        "the configuration decides the user: `username` of the machine, in cluster.toml on the manager",
    ),
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

/// The message about a command that starts with an option.
pub fn option_after_target(target: &str, option: &str) -> String {
    let (target, shown) = (escape(target), escape(option));
    let name = option.split_once('=').map_or(option, |(name, _)| name);
    let instead = match name {
        "--" => {
            format!("the command follows the target directly: malai {target} <command>…")
        }
        "-h" | "--help" => format!(
            "for help on malai: malai --help; for help on a command: malai {target} <command> {shown}"
        ),
        "-V" | "--version" => "for malai's version: malai --version".to_owned(),
        _ => match OPTIONS.iter().find(|(known, _)| *known == name) {
            Some((_, instead)) => (*instead).to_owned(),
            None => {
                format!("put malai's options before the target: malai {shown} {target} <command>…")
            }
        },
    };
    format!(
        "{shown} after the target would be the command to run there; nothing was run; {instead} (to run a program with that name: malai {target} env -- {shown})"
    )
}

#[cfg(test)]
mod tests {
    use malai_node::{ClusterNames, MachineNames};

    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn habits_are_answered() {
        for (line, instead) in [
            ("ls", "malai list"),
            ("reload", "malai rescan"),
            ("Reload", "malai rescan"),
            ("cluster create x", "malai cluster init"),
            ("daemon stop", "malai stop"),
            ("cluster rm company web01", "malai cluster remove"),
        ] {
            let said = verb(&words(line)).unwrap();
            assert!(said.contains(instead), "{line}: {said}");
        }
        assert_eq!(verb(&words("statsu")), None);
        assert_eq!(verb(&words("-p 22")), None);
    }

    #[test]
    fn the_tables_name_what_there_is_and_hide_nothing_that_there_is() {
        let declaration = super::super::declaration();
        for (typed, instead) in VERBS {
            let mut command = &declaration;
            let found = typed
                .split(' ')
                .all(|word| match command.find_subcommand(word) {
                    Some(deeper) => {
                        command = deeper;
                        true
                    }
                    None => false,
                });
            assert!(!found, "malai {typed} is a command");
            // Each "malai verb" in the answer can be typed.
            for (at, _) in instead.match_indices("malai ") {
                let rest = &instead[at + "malai ".len()..];
                let mut words = rest.split([' ', ',', ';', '.']);
                let first = words.next().unwrap();
                if !first.starts_with(|c: char| c.is_ascii_lowercase()) || first == "was" {
                    continue;
                }
                let verb = declaration.find_subcommand(first);
                let verb = verb.unwrap_or_else(|| panic!("{typed}: {instead}"));
                let second = words.next().unwrap_or_default();
                if verb.has_subcommands() && second.starts_with(|c: char| c.is_ascii_lowercase()) {
                    assert!(verb.find_subcommand(second).is_some(), "{typed}: {instead}");
                }
            }
        }
        for (option, _) in OPTIONS {
            let known = declaration.get_arguments().any(|arg| {
                let short = arg.get_short().map(|short| format!("-{short}"));
                let long = arg.get_long().map(|long| format!("--{long}"));
                short.as_deref() == Some(option) || long.as_deref() == Some(option)
            });
            assert!(!known, "{option} is an option");
        }
        let cp = declaration.find_subcommand("cp").unwrap();
        for (option, _) in cp::OPTIONS {
            let known = cp.get_arguments().any(|arg| {
                let shorts = arg.get_short_and_visible_aliases().unwrap_or_default();
                let longs = arg.get_long_and_visible_aliases().unwrap_or_default();
                shorts.iter().any(|short| *option == format!("-{short}"))
                    || longs.iter().any(|long| *option == format!("--{long}"))
            });
            assert!(!known, "{option} is an option of cp");
        }
    }

    #[test]
    fn options_of_scp_and_rsync_are_answered_for_cp() {
        for (line, instead) in [
            ("cp -P 22 a b.c:", "no port"),
            ("cp -l 100 a b.c:", "no rate limit"),
            ("cp -C a b.c:", "does not compress"),
            ("cp -i key a b.c:", "this computer's own key"),
            ("cp -o X=y a b.c:", "malai ssh accepts ssh's options"),
            ("cp -q a b.c:", "prints only what was not copied"),
            ("cp -v a b.c:", "names what was not copied"),
            ("cp -avz a b.c:", "names what was not copied"),
            ("cp -az a b.c:", "does not compress"),
            ("cp --delete -r a b.c:", "removes nothing"),
            ("cp --exclude=x -r a b.c:", "everything in it"),
            ("-P 4 b.c uptime", "--parallel"),
        ] {
            let typed = words(line);
            let all = std::iter::once(OsString::from("malai")).chain(typed.clone());
            let error = super::super::declaration()
                .try_get_matches_from(all)
                .unwrap_err();
            let said = of(&error, &typed).unwrap_or_default();
            assert!(said.contains(instead), "{line}: {said}");
        }
    }

    #[test]
    fn targets_as_they_are_written_elsewhere() {
        let machine = |name: &str| MachineNames {
            name: name.into(),
            commands: Vec::new(),
        };
        let names = Names {
            clusters: vec![ClusterNames {
                alias: "company".into(),
                machines: vec![machine("web01"), machine("db")],
                groups: vec!["web".into()],
                ..ClusterNames::default()
            }],
            aliases: vec!["shop".into()],
        };
        for (text, said) in [
            (
                "ann@web01.company",
                "omit ann@; did you mean web01.company?",
            ),
            ("ann@web01", "omit ann@; did you mean web01.company?"),
            ("root@Web01.Company", "did you mean web01.company?"),
            ("Web01.Company", "lowercase; did you mean web01.company?"),
            (
                "web01.company:22",
                "needs no port; did you mean web01.company?",
            ),
            ("web01:22", "needs no port; did you mean web01.company?"),
            (
                "web01.company:/etc/motd",
                "malai cp web01.company:/etc/motd . copies it",
            ),
            ("web01.company:", "a target has no colon"),
            (
                "web01.company.",
                "end with a dot; did you mean web01.company?",
            ),
            ("web01@company", "did you mean web01.company?"),
            ("ssh://ann@web01.company:22/", "did you mean web01.company?"),
        ] {
            let hint = target(text, &names).unwrap_or_default();
            assert!(hint.contains(said), "{text}: {hint}");
        }
        for text in [
            "web01.company",
            "@web.company",
            "web*.company",
            "a.b,@c.d",
            "x",
            "a@b",
            "X:1",
        ] {
            assert_eq!(target(text, &names), None, "{text}");
        }
        for (text, said) in [
            (
                "web01",
                "web01 lacks its cluster; did you mean web01.company?",
            ),
            ("DB,web01.company", "did you mean db.company?"),
            ("@web", "did you mean @web.company?"),
            ("!db", "did you mean db.company?"),
            ("@company", "'*.company' is all its machines"),
            ("company", "'*.company' is all its machines"),
            ("shpo", "did you mean shop?"),
            ("web01.company,Db.company", "did you mean db.company?"),
        ] {
            let hint = targets(text, &names).unwrap_or_default();
            assert!(hint.contains(said), "{text}: {hint}");
        }
        assert_eq!(targets("web01.company,x", &names), None);
    }
}
