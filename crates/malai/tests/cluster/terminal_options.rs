//! `-t`, `-tt` and `-T`, with a local terminal and without one; shells that read their commands from a pipe.

use crate::harness::{Cluster, Output, Route};
use crate::terminal::Terminal;

fn run(route: &Route<'_>, before: &[&str], after: &[&str], stdin: Option<&str>) -> Output {
    let words = [before, &[route.target], after].concat();
    eprintln!("[{}] {words:?}", route.name);
    match stdin {
        Some(stdin) => route.home.run_with(&words, stdin.as_bytes()),
        None => route.home.run(&words),
    }
}

#[test]
fn without_a_terminal_here_there_is_none_there_unless_one_insists() {
    let cluster = Cluster::with_routes();
    for route in cluster.routes() {
        let plain = run(&route, &[], &["tty"], None);
        assert_eq!((plain.code, plain.out()), (1, "not a tty\n"));
        assert_eq!(plain.stderr, "");
        let asked = run(&route, &["-t"], &["tty"], None);
        assert_eq!((asked.code, asked.out()), (1, "not a tty\n"));
        assert!(
            asked
                .stderr
                .starts_with("malai: standard input is not a terminal")
        );
        for insists in [&["-tt"][..], &["exec", "-t", "-t"]] {
            let insists = run(
                &route,
                insists,
                &["sh", "-c", "tty; stty size; exit 6"],
                None,
            );
            assert_eq!(insists.code, 6, "{}", insists.shown());
            assert!(
                insists.out().starts_with("/dev/pts/"),
                "{}",
                insists.shown()
            );
            assert!(
                insists.out().ends_with("\r\n24 80\r\n"),
                "{}",
                insists.shown()
            );
            assert_eq!(insists.stderr, "");
        }
        // On a terminal, stdout and stderr are one stream; the input can end.
        let both = ["sh", "-c", "stty -echo; echo out; echo err >&2; cat"];
        let both = run(&route, &["-tt"], &both, Some("in\n"));
        assert_eq!((both.code, both.stderr.as_str()), (0, ""));
        let lines: Vec<&str> = both.out().lines().map(str::trim).collect();
        assert!(
            lines.contains(&"out") && lines.contains(&"err") && lines.contains(&"in"),
            "{lines:?}"
        );
        let missing = run(&route, &["-tt"], &["no-such-command"], None);
        assert_eq!(missing.code, 127);
        assert_eq!(
            missing.out(),
            "malai: no-such-command: command not found in /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\r\n"
        );
        // The writer's reader ends early.
        let yes = run(
            &route,
            &["-tt"],
            &["sh", "-c", "yes | head -c 300000"],
            None,
        );
        assert_eq!(yes.stdout.len(), 450_000, "{}", yes.code);
    }
}

#[test]
fn a_shell_without_a_terminal_reads_its_commands() {
    let cluster = Cluster::with_routes();
    let script = "echo $0; tty; cat\nfor the cat\nand more\n";
    for route in cluster.routes() {
        for (before, stdin) in [
            (&[][..], script),
            (&["shell"], script),
            (&["shell", "-T"], script),
        ] {
            let shell = run(&route, before, &[], Some(stdin));
            let (name, rest) = shell.out().split_once('\n').unwrap_or_default();
            assert!(name.starts_with('-'), "{}", shell.shown());
            assert_eq!(rest, "not a tty\nfor the cat\nand more\n");
            // Standard error may hold what the user's own login files write.
            assert_eq!(shell.code, 0, "{}", shell.shown());
        }
        assert_eq!(run(&route, &[], &[], Some("exit 9\n")).code, 9);
        assert_eq!(run(&route, &[], &[], None).code, 0);
        // The same on a terminal forced with -tt.
        let insists = run(&route, &["-tt"], &[], Some("unset HISTFILE; tty; exit 8\n"));
        assert_eq!(insists.code, 8, "{}", insists.shown());
        assert!(insists.out().contains("\n/dev/pts/"), "{}", insists.shown());
    }
}

#[test]
fn on_a_terminal_a_command_gets_one_where_it_is_asked_for() {
    let cluster = Cluster::with_routes();
    for route in cluster.routes() {
        let on = |words: &[&str]| Terminal::start(&route.home.command(words));
        let target = route.target;
        let mut plain = on(&[target, "tty"]);
        plain.see("not a tty");
        assert_eq!(plain.code(), 1);
        for words in [&["-t", target, "tty"][..], &["exec", "-t", target, "tty"]] {
            let mut asked = on(words);
            asked.see("/dev/pts/");
            assert_eq!(asked.code(), 0);
        }
        for words in [&["-T", target][..], &["shell", "-T", target]] {
            let mut none = on(words);
            none.types("tty\rexit 3\r");
            none.see("not a tty");
            assert_eq!(none.code(), 3);
        }
        let mut shell = on(&["shell", target]);
        shell.prompt();
        assert!(shell.says("tty").starts_with("/dev/pts/"));
        shell.types("exit\r");
        assert_eq!(shell.code(), 0);
    }
}

#[test]
fn what_is_to_be_run_has_to_be_said_where_it_is_a_command() {
    let cluster = Cluster::with_routes();
    let manager = &cluster.manager;
    let nothing = manager.run(&["exec", "web01.company"]);
    nothing.refused("malai shell web01.company");
    let both = manager.run(&["shell", "web01.company", "ls"]);
    assert_eq!(both.code, 2, "{}", both.shown());
}
