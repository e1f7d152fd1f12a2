//! A terminal that malai does not own or gives up: in the background, after an interrupted session, and after pressing
//! Ctrl-C twice.

use std::process::Command;

use rustix::process::Signal;

use crate::harness::{Cluster, Route, signal, until};
use crate::terminal::Terminal;

/// A script on a terminal that runs malai under `timeout`, which puts it in the background.
fn under_timeout(route: &Route<'_>, seconds: u32, options: &[&str], words: &[&str]) -> Terminal {
    let malai = route.home.command::<&str>(&[]);
    let mut script = Command::new("sh");
    let line = format!("timeout {seconds} \"$@\"; echo code $?.");
    script.args(["-c", &line, "sh"]).arg(malai.get_program());
    script.args(options).arg(route.target).args(words);
    for (name, value) in malai.get_envs() {
        script.env(name, value.unwrap());
    }
    eprintln!("[{}] {options:?} {words:?}", route.name);
    Terminal::start(&script)
}

#[test]
fn timeout_ends_what_it_runs_on_a_terminal() {
    let cluster = Cluster::with_routes();
    for route in cluster.routes() {
        for options in [&["-t"][..], &[]] {
            let mut terminal = under_timeout(&route, 60, options, &["echo", "shown"]);
            terminal.see("shown");
            terminal.see("code 0.");
            assert_eq!(terminal.code(), 0);
            let mut terminal = under_timeout(&route, 1, options, &["sleep", "341"]);
            let before = terminal.modes_before();
            terminal.see("code 124.");
            assert_eq!(terminal.code(), 0);
            assert_eq!(terminal.modes(), before, "{}", route.name);
        }
    }
}

/// Switches on every mode that programs use.
const SWITCH_ON: &str = "printf 'first\\r\\n\\033[?1049h\\033[?1002h\\033[?1006h\\033[?2004h\\033[?25l\
    \\033[?1h\\033=\\033[2;5r\\033[31mtaken'; echo $$ >\"$1\"; exec sleep 342";

#[test]
fn what_a_session_switched_on_is_switched_off_when_it_is_cut_off() {
    let cluster = Cluster::with_routes();
    let marker = cluster.folder().join("marker");
    let marker = marker.to_str().unwrap();
    // How to end the session, and the resulting exit code.
    type End = (fn(&mut Terminal, &Route<'_>, u32), i32);
    let ends: [End; 3] = [
        (|terminal, _, _| terminal.types("\r~."), 255),
        (|terminal, _, _| signal(terminal.pid(), Signal::TERM), 143),
        // Kills the remote program, which then cannot clean up after itself.
        (|_, _, id| signal(id, Signal::KILL), 137),
    ];
    let check = |route: &Route<'_>, (end, code): End| {
        let words = ["-t", route.target, "sh", "-c", SWITCH_ON, "sh", marker];
        let mut terminal = Terminal::start(&route.home.command(&words));
        terminal.see("taken");
        terminal.until_taken(true);
        let id = crate::signals::line(&marker.into()).parse().unwrap();
        std::fs::remove_file(marker).unwrap();
        end(&mut terminal, route, id);
        assert_eq!(terminal.code(), code, "{}", route.name);
        terminal.until_taken(false);
        until("a terminal at rest", || terminal.is_at_rest());
        assert!(
            terminal.screen().starts_with("first"),
            "{}",
            terminal.screen()
        );
    };
    for route in cluster.routes() {
        for end in ends {
            check(&route, end);
        }
    }
    // Kills the daemon that the session goes through.
    let route = cluster.routes()[0];
    check(&route, (|_, route, _| route.home.kill(), 255));
}

#[test]
fn what_a_program_leaves_switched_on_when_it_ends_by_itself_stays() {
    let cluster = Cluster::with_routes();
    let route = cluster.routes()[0];
    let words = ["-t", route.target, "printf", "\\033[?25lhidden"];
    let mut terminal = Terminal::start(&route.home.command(&words));
    terminal.see("hidden");
    assert_eq!(terminal.code(), 0);
    assert!(!terminal.is_at_rest());
}

/// Prints a word when it is interrupted, and continues.
const STUBBORN: &str = "trap 'echo inter''rupted' INT; echo rea''dy; while :; do sleep 0.1; done";

#[test]
fn a_second_interrupt_leaves_a_command_that_goes_on_after_the_first() {
    let cluster = Cluster::with_routes();
    for route in cluster.routes() {
        let mut terminal = Terminal::on(&route, &["sh", "-c", STUBBORN]);
        terminal.see("ready");
        terminal.types("\u{3}");
        terminal.see("interrupted");
        terminal.types("\u{3}");
        terminal.see(&format!(
            "malai: {} was interrupted twice; the command was ended",
            route.target
        ));
        assert_eq!(terminal.code(), 130, "{}", route.name);
    }
}

#[test]
fn a_second_interrupt_on_many_machines_says_what_had_begun_and_leaves_no_lines_of_progress() {
    let cluster = Cluster::with_routes();
    for home in [&cluster.manager, cluster.machine("laptop")] {
        let words = [
            "--parallel",
            "1",
            "web01.company,boss.company",
            "sh",
            "-c",
            STUBBORN,
        ];
        let mut terminal = Terminal::start(&home.command(&words));
        terminal.see("ready");
        terminal.see(" running");
        terminal.types("\u{3}");
        terminal.see("interrupted");
        terminal.see(" running");
        terminal.types("\u{3}");
        terminal.see("malai: ");
        assert_eq!(terminal.code(), 130);
        let screen = terminal.screen();
        let words = screen.replace('\n', "");
        assert!(
            words.contains("web01 (interrupted; the command was ended)"),
            "{screen}"
        );
        assert!(
            words.contains("boss (interrupted before it started)"),
            "{screen}"
        );
        assert!(
            !words.contains(" running") && !words.contains("web01  "),
            "{screen}"
        );
    }
}

/// What a shell says of a job that was stopped must not stand in the middle of the lines of progress.
#[test]
fn a_stopped_run_on_many_machines_leaves_no_lines_of_progress() {
    let cluster = Cluster::with_routes();
    let binary = cluster.manager.command::<&str>(&[]);
    let mut local = std::process::Command::new("bash");
    local.args(["--norc", "-i"]);
    for (name, value) in binary.get_envs() {
        local.env(name, value.unwrap());
    }
    local.env("PS1", "local> ");
    let mut terminal = Terminal::start(&local);
    terminal.see("local> ");
    let bin = binary.get_program().to_str().unwrap();
    let fifo = cluster.folder().join("fifo");
    terminal.types(&format!("mkfifo {0}; clear\r", fifo.display()));
    terminal.see("local> ");
    terminal.types(&format!(
        "{bin} -n web01.company,boss.company cat {}\r",
        fifo.display()
    ));
    terminal.see(" running");
    terminal.types("\u{1a}");
    terminal.see("Stopped");
    terminal.see("local> ");
    let screen = terminal.screen();
    assert!(
        !screen.contains(" running") && !screen.contains("boss  "),
        "{screen}"
    );
    terminal.types("fg\r");
    terminal.see(" running");
    terminal.types("\u{3}");
    terminal.see("local> ");
    terminal.types("exit\r");
    until("its end", || terminal.code() > 0);
}
