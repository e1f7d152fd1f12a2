//! Every way out of a session on a terminal: the message, the exit code, the restored terminal, no process left.

use std::thread;

use rustix::process::Signal;

use crate::harness::{ALIAS, Cluster, signal, until};
use crate::terminal::{Terminal, all_ended, with_jobs};

/// Jobs that ignore the hangup get a grace period on each route, so the cases run concurrently where possible.
#[test]
fn a_session_that_the_user_leaves_is_over_and_the_terminal_as_before() {
    let ways = [
        ("~.", None, 255, "malai: the session on "),
        ("TERM", Some(Signal::TERM), 143, "ready> "),
        ("HUP", Some(Signal::HUP), 129, "ready> "),
    ];
    thread::scope(|scope| {
        for (name, kind, code, words) in ways {
            scope.spawn(move || {
                let cluster = Cluster::with_routes();
                for route in cluster.routes() {
                    let what = format!("{name}, {}", route.name);
                    let (mut terminal, before, ids) = with_jobs(&route);
                    match kind {
                        Some(kind) => signal(terminal.pid(), kind),
                        None => terminal.types("\r~."),
                    }
                    assert_eq!(terminal.code(), code, "{what}");
                    until("its words", || terminal.screen().contains(words));
                    assert_eq!(terminal.modes(), before, "{what}");
                    all_ended(&what, &ids);
                }
            });
        }
    });
}

/// A killed client cannot restore the terminal, but its session is still ended.
#[test]
fn a_client_that_is_killed_takes_its_whole_session_along() {
    let cluster = Cluster::with_routes();
    let [daemon, _, here, _] = cluster.routes();
    for route in [daemon, here] {
        let (mut terminal, _, ids) = with_jobs(&route);
        signal(terminal.pid(), Signal::KILL);
        assert_eq!(terminal.code(), 1009);
        all_ended(route.name, &ids);
    }
}

#[test]
fn a_session_that_the_configuration_ends_restores_the_terminal() {
    let cluster = Cluster::with_routes();
    let route = cluster.routes()[0];
    let (mut terminal, before, ids) = with_jobs(&route);
    cluster.edit(|text| {
        let allowed = "\nallow_from = \"*\"\n";
        text.replace(allowed, &format!("{allowed}allow_shell = []\n"))
    });
    cluster.manager.succeed(&["rescan", ALIAS]);
    terminal.see("malai: web01.company: ended because the configuration has changed");
    assert_eq!(terminal.code(), 255);
    assert_eq!(terminal.modes(), before);
    all_ended("a changed configuration", &ids);
}

/// In a shell with job control, `~^Z` returns the terminal to the shell, and `fg` continues with the terminal's current
/// size.
#[test]
fn a_suspended_session_goes_on() {
    let cluster = Cluster::with_routes();
    for route in cluster.routes() {
        let binary = route.home.command::<&str>(&[]);
        let mut local = std::process::Command::new("bash");
        local.args(["--norc", "-i"]);
        for (name, value) in binary.get_envs() {
            local.env(name, value.unwrap());
        }
        local.env("PS1", "local> ");
        let mut terminal = Terminal::start(&local);
        terminal.see("local> ");
        let bin = binary.get_program().to_str().unwrap().to_owned();
        terminal.types(&format!("stty -a >/dev/null; {bin} {}\r", route.target));
        terminal.prompt();
        let raw = terminal.modes();
        terminal.types("\r~\u{1a}");
        terminal.see("Stopped");
        terminal.see("local> ");
        terminal
            .types("stty -a | tr -s ' ' '\\n' | grep -x -e icanon -e echo | sort | tr '\\n' +\r");
        terminal.see("echo+icanon+");
        terminal.resize(17, 71);
        terminal.types("fg\r");
        terminal.until_modes(&raw);
        terminal.types("while [ \"$(stty size)\" != '17 71' ]; do sleep 0.1; done; echo lar''ge\r");
        terminal.see("large\r\n");
        terminal.types("exit 4\r");
        terminal.see("local> ");
        // The session ends while it is stopped: the terminal is the shell's, and is not changed.
        terminal.types("echo code $?\r");
        terminal.see("code 4\r\n");
        terminal.types(&format!("{bin} {}\r", route.target));
        terminal.prompt();
        terminal.types("\r~\u{1a}");
        terminal.see("local> ");
        terminal.types("p=$(jobs -p); kill %1; while kill -0 $p; do sleep 0.1; done\r");
        terminal.see("Exit 143");
        terminal.types("exit\r");
        assert_eq!(terminal.code(), 0, "{}", route.name);
    }
}

#[test]
fn escapes_are_explained_and_a_tilde_can_be_typed() {
    let cluster = Cluster::with_routes();
    let mut terminal = Terminal::shell(&cluster.routes()[0]);
    terminal.types("\r~?");
    terminal.see("~~   send a tilde\r\n");
    terminal.types("~~x() { :; }; echo a''b ~~\r");
    terminal.see("ab ~~\r\n");
    terminal.types("exit\r");
    until("its end", || terminal.code() == 0);
}
