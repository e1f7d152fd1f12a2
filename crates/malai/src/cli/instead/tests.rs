//! What answers words that people know from other programs.

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
