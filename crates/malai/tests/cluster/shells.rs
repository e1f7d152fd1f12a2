//! Shells on a real terminal, as people use them: keys, jobs, sizes, full-screen programs, and the restored terminal.

use std::fs;
use std::time::Instant;

use crate::harness::{Cluster, TEST_TIMEOUT, until};
use crate::terminal::{COLUMNS, ROWS, Terminal};

#[test]
fn a_shell_is_as_at_a_terminal_of_its_own() {
    let cluster = Cluster::with_routes();
    for route in cluster.routes() {
        let mut terminal = Terminal::on(&route, &[]);
        let before = terminal.modes_before();
        terminal.prompt();
        assert_ne!(terminal.modes(), before, "it is raw");
        // The shell has its own terminal, with the right type and size, which follows later changes.
        assert!(terminal.says("tty").starts_with("/dev/pts/"));
        assert_eq!(terminal.says("echo $TERM"), "xterm-256color");
        assert_eq!(terminal.says("stty size"), format!("{ROWS} {COLUMNS}"));
        terminal.resize(20, 60);
        terminal.types("while [ \"$(stty size)\" != '20 60' ]; do sleep 0.1; done; echo lar''ge\r");
        terminal.see("large\r\n");
        terminal.see("ready> ");
        terminal.resize(ROWS, COLUMNS);
        // It is a login shell, in the home folder, with a clean environment that names the caller.
        assert!(terminal.says("echo $0").starts_with('-'));
        assert_eq!(
            terminal.says("[ \"$PWD\" = \"$HOME\" ] && echo home"),
            "home"
        );
        assert_eq!(terminal.says("echo $MALAI_CLUSTER"), "company");
        // Keys: end of input, an interrupt, a job that is stopped and continued.
        // The line is typed only once the command runs, since then the shell no longer handles the terminal.
        terminal.types("echo go; cat\r");
        terminal.see("go\r\n");
        terminal.types("a line\r");
        terminal.see("a line\r\na line\r\n");
        terminal.types("\u{4}");
        terminal.see("ready> ");
        // The job itself prints the word, since the shell could miss an interrupt while it starts one.
        terminal.types("sh -c 'echo go; exec sleep 1000'\r");
        terminal.see("go\r\n");
        terminal.types("\u{3}");
        terminal.see("ready> ");
        assert_eq!(terminal.status(), 130);
        terminal.types("sh -c 'echo go; read x; echo got $x'\r");
        terminal.see("go\r\n");
        terminal.types("\u{1a}");
        terminal.see("Stopped");
        terminal.see("ready> ");
        terminal.types("fg\r");
        terminal.see("echo got $x'\r\n");
        terminal.types("it\r");
        terminal.see("got it\r\n");
        terminal.see("ready> ");
        // Any text can be typed and shown.
        assert_eq!(terminal.says("echo 'grün → 🦀'"), "grün → 🦀");
        terminal.types("exit 7\r");
        assert_eq!(terminal.code(), 7);
        assert_eq!(terminal.modes(), before, "{}", route.name);
    }
}

/// A session that starts while its window is being resized gets the final size.
#[test]
fn a_size_that_changes_while_a_session_begins_does_no_harm() {
    let cluster = Cluster::with_routes();
    for route in cluster.routes() {
        for _ in 0..5 {
            let mut terminal = Terminal::on(&route, &[]);
            let mut columns = COLUMNS;
            // Resizes continuously, since a race would be between two system calls.
            let begun = Instant::now();
            while terminal.screen().is_empty() {
                assert!(begun.elapsed() < TEST_TIMEOUT, "nothing is shown");
                columns = COLUMNS + (columns + 1) % 50;
                terminal.resize(ROWS, columns);
            }
            terminal.prompt();
            // Typed input may overtake the last size, but that size must arrive.
            let (asked, size) = (Instant::now(), format!("{ROWS} {columns}"));
            while terminal.says("stty size") != size {
                assert!(
                    asked.elapsed() < TEST_TIMEOUT,
                    "never {size}: {}",
                    route.name
                );
            }
            terminal.types("exit\r");
            assert_eq!(terminal.code(), 0, "{}", route.name);
        }
    }
}

#[test]
fn an_end_of_input_ends_the_shell() {
    let cluster = Cluster::with_routes();
    for route in cluster.routes() {
        let mut terminal = Terminal::shell(&route);
        terminal.types("(exit 5)\r\u{4}");
        assert_eq!(terminal.code(), 5, "{}", route.name);
    }
}

/// The screen looks the same before and after.
#[test]
fn full_screen_programs_take_the_screen_and_give_it_back() {
    let cluster = Cluster::with_routes();
    let file = cluster.folder().join("text");
    for route in cluster.routes() {
        let mut terminal = Terminal::shell(&route);
        let path = file.display().to_string();
        fs::write(&file, "first\nsecond\n").unwrap();
        let before = terminal.screen();
        terminal.types(&format!("vim -u NONE -i NONE -n {path}\r"));
        terminal.until_taken(true);
        // Two lines of text, then nothing until the last line, which is vim's own.
        let has_lines = |rows: u16| {
            let screen = terminal.screen();
            let lines: Vec<&str> = screen.lines().collect();
            let rows = usize::from(rows);
            let nothing = lines.get(2..rows - 1).unwrap_or_default();
            lines.len() <= rows
                && lines.first() == Some(&"first")
                && nothing.len() == rows - 3
                && nothing.iter().all(|line| line.trim_end() == "~")
        };
        until("vim on the whole screen", || has_lines(ROWS));
        // A running program gets the new size.
        terminal.resize(15, 50);
        until("vim on fifteen lines", || has_lines(15));
        terminal.resize(ROWS, COLUMNS);
        terminal.types("Gothird, grün\u{1b}:wq\r");
        terminal.until_taken(false);
        terminal.see("ready> ");
        assert_eq!(
            fs::read_to_string(&file).unwrap(),
            "first\nsecond\nthird, grün\n"
        );
        let after = terminal.screen();
        assert!(
            heads(&after).starts_with(&heads(&before)),
            "{before}\n--- {after}"
        );

        let before = terminal.screen();
        fs::write(
            &file,
            (1..=500).map(|n| format!("line {n}\n")).collect::<String>(),
        )
        .unwrap();
        terminal.types(&format!("LESS= less {path}\r"));
        terminal.until_taken(true);
        terminal.see("line 30");
        terminal.types("G");
        terminal.see("line 500");
        assert!(
            terminal.screen().contains("line 499"),
            "{}",
            terminal.screen()
        );
        terminal.types("q");
        terminal.until_taken(false);
        terminal.see("ready> ");
        let after = terminal.screen();
        assert!(
            heads(&after).starts_with(&heads(&before)),
            "{before}\n--- {after}"
        );
        terminal.types("exit\r");
        assert_eq!(terminal.code(), 0);
    }
}

/// No pasted text is lost, and no output just before the end.
#[test]
fn all_that_is_pasted_arrives_and_all_that_is_shown_is_seen() {
    let cluster = Cluster::with_routes();
    let file = cluster.folder().join("pasted");
    for route in cluster.routes() {
        let mut terminal = Terminal::shell(&route);
        let text: String = (0..2000)
            .map(|number| format!("{number:06} {}\n", "x".repeat(43)))
            .collect();
        terminal.types(&format!("cat >{}\r", file.display()));
        terminal.see("\r\n");
        terminal.types(&text);
        terminal.types("\u{4}");
        terminal.see("ready> ");
        assert!(fs::read_to_string(&file).unwrap() == text, "{}", route.name);
        // The shell ends right after a flood of output, while its background process keeps running.
        terminal.types("sleep 3 & seq -f '%06g' 20000; echo the en''d; exit 3\r");
        terminal.see("020000\r\nthe end\r\n");
        assert_eq!(terminal.code(), 3);
    }
}

/// Ctrl-C stops a flood; little of it is still in flight.
#[test]
fn an_interrupt_stops_a_flood() {
    let cluster = Cluster::with_routes();
    for route in cluster.routes() {
        let mut terminal = Terminal::shell(&route);
        terminal.types("yes\r");
        terminal.see("y\r\ny\r\n");
        terminal.types("\u{3}");
        terminal.see("ready> ");
        assert_eq!(terminal.status(), 130, "{}", route.name);
        terminal.types("exit\r");
        assert_eq!(terminal.code(), 0);
    }
}

/// The beginnings of a screen's lines, which survive a narrow screen; without the last line, which keeps changing.
fn heads(screen: &str) -> Vec<String> {
    let mut lines: Vec<&str> = screen.trim_end().lines().collect();
    lines.pop();
    let heads = lines.iter().map(|line| line.chars().take(40).collect());
    heads.collect()
}
