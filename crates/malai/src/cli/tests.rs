//! Tests of what was typed.

use super::*;

fn words(line: &[&str]) -> Vec<OsString> {
    line.iter().map(OsString::from).collect()
}

fn target(line: &[&str]) -> Vec<OsString> {
    wish_and_words(line).1
}

fn wish_and_words(line: &[&str]) -> (TtyMode, Vec<OsString>) {
    let Invocation { on, command } = read(line).unwrap();
    match command {
        Command::Target(words) => (on.terminal.tty_mode(), words),
        Command::Exec(ExecArgs {
            on,
            command: ExecCommand::Target(words),
        }) => (on.terminal.tty_mode(), words),
        Command::Shell(ShellArgs { terminal, target }) => (terminal.tty_mode(), vec![target]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn terminals_are_wished_for_as_with_ssh() {
    for (options, expected) in [
        (&[][..], TtyMode::Auto),
        (&["-t"], TtyMode::Request),
        (&["-tt"], TtyMode::Force),
        (&["-t", "-t"], TtyMode::Force),
        (&["-T"], TtyMode::Never),
        (&["-t", "-T"], TtyMode::Never),
        (&["-T", "-t"], TtyMode::Request),
    ] {
        for verb in [&[][..], &["exec"], &["shell"]] {
            let line = [&["malai"], verb, options, &["web01.company"]].concat();
            assert_eq!(
                wish_and_words(&line),
                (expected, words(&["web01.company"])),
                "{line:?}"
            );
        }
        // Behind the target they are the command's own.
        let line = [&["malai"], options, &["web01.company", "ssh", "-t", "-T"]].concat();
        let expected = (expected, words(&["web01.company", "ssh", "-t", "-T"]));
        assert_eq!(wish_and_words(&line), expected);
    }
    for line in [
        &["malai", "-t", "status"][..],
        &["malai", "-T", "exec", "web01.company", "x"],
        &["malai", "shell", "web01.company", "x"],
        &["malai", "shell"],
    ] {
        assert!(read(line).is_err(), "{line:?}");
    }
}

#[test]
fn the_declaration_is_sound_and_every_verb_is_reserved() {
    let mut command = declaration();
    command.build();
    command.clone().debug_assert();
    for verb in command.get_subcommands() {
        assert!(VERBS.contains(&verb.get_name()), "{}", verb.get_name());
    }
}

#[test]
fn nothing_after_the_target_is_touched() {
    for rest in [
        &["ls", "--help"][..],
        &["--help"],
        &["-h"],
        &["--version"],
        &["--", "x"],
        &["a b", "", "--json", "--", "--"],
        &["status"],
        &["exec", "x"],
        &[],
    ] {
        let expected = words(&[&["web01.company"], rest].concat());
        assert_eq!(
            target(&[&["malai", "web01.company"], rest].concat()),
            expected
        );
        let spelled_out = [&["malai", "exec", "web01.company"], rest].concat();
        assert_eq!(target(&spelled_out), expected);
    }
}

#[test]
fn what_stands_before_a_target_says_how_and_nothing_after_it_does() {
    let how = |line: &[&str]| {
        let Invocation { on, command } = read(line).unwrap();
        match command {
            Command::Exec(args) => args.on,
            _ => on,
        }
    };
    let expected = TargetOptions {
        parallel: Some(10),
        json: true,
        ..TargetOptions::default()
    };
    let options = ["--parallel", "10", "--json"];
    let command = ["@web.company", "uptime", "--json", "--parallel", "3", "-n"];
    assert_eq!(
        how(&[&["malai"], &options[..], &command].concat()),
        expected
    );
    assert_eq!(
        how(&[&["malai", "exec"], &options[..], &command].concat()),
        expected
    );
    assert_eq!(
        how(&[&["malai"], &command[..]].concat()),
        TargetOptions::default()
    );
    for line in [
        &["malai", "-n", "exec", "web01.company", "cat"][..],
        &["malai", "--json", "status"],
        &["malai", "--parallel", "0", "@web.company", "uptime"],
        &["malai", "--parallel", "513", "@web.company", "uptime"],
        &["malai", "--timeout", "soon", "@web.company", "uptime"],
    ] {
        assert!(read(line).is_err(), "{line:?}");
    }
}

#[test]
fn a_target_is_known_at_sight_and_nothing_else_is_taken_for_one() {
    let declaration = declaration();
    for verb in declaration.get_subcommands() {
        assert!(!is_target(verb.get_name().as_ref()), "{}", verb.get_name());
        for alias in verb.get_all_aliases() {
            assert!(!is_target(alias.as_ref()), "{alias}");
        }
    }
    for word in ["help", "-h", "--version", "-", "--", "", "-t"] {
        assert!(!is_target(word.as_ref()), "{word}");
    }
    for word in [
        "web01.company",
        "web",
        "@all.company",
        "web*.company",
        "a.b,c.d",
    ] {
        assert!(is_target(word.as_ref()), "{word}");
        assert!(
            matches!(
                read(["malai", word]).map(|invocation| invocation.command),
                Ok(Command::Target(_))
            ),
            "{word}"
        );
    }
}

#[test]
fn bytes_that_are_no_text_reach_the_target_too() {
    use std::os::unix::ffi::OsStringExt;
    let raw = OsString::from_vec(b"a\xffb".to_vec());
    let line = [words(&["malai", "web01.company", "cat"]), vec![raw.clone()]].concat();
    match read(line).unwrap().command {
        Command::Target(words) => assert_eq!(words[2], raw),
        other => panic!("{other:?}"),
    }
}

#[test]
fn json_findings_need_a_check() {
    assert!(read(["malai", "rescan", "--json"]).is_err());
    assert!(read(["malai", "rescan", "--check", "--json", "a"]).is_ok());
}

#[test]
fn every_verb_has_a_line_about_it_and_an_example_that_can_be_typed() {
    fn look(command: &clap::Command, path: &str) {
        let path = format!("{path} {}", command.get_name()).trim().to_owned();
        assert!(command.get_about().is_some(), "{path} says nothing");
        let examples = command.get_before_help().map(ToString::to_string);
        let examples = examples.unwrap_or_else(|| panic!("{path} has no example"));
        let invocation = examples.lines().filter_map(|line| line.strip_prefix("  "));
        let invocation: Vec<_> = invocation.filter(|line| line.contains("malai ")).collect();
        assert!(!invocation.is_empty(), "{path}: {examples}");
        for line in invocation {
            let line = line.split("   ").next().unwrap_or(line);
            let words = line.split(' ').skip_while(|word| *word != "malai");
            read(words).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
        command
            .get_subcommands()
            .filter(|command| command.get_name() != "help" && !command.is_hide_set())
            .for_each(|command| look(command, &path));
    }
    look(&declaration(), "");
}

#[test]
fn help_begins_with_examples_and_fits_a_terminal() {
    let help = declaration().render_help().to_string();
    let examples = help.find("Examples:").unwrap();
    assert!(examples < help.find("Usage:").unwrap(), "{help}");
    assert!(help.lines().count() <= 51, "{help}");
    let wide = help.lines().find(|line| line.chars().count() > 110);
    assert_eq!(wide, None);
}
