//! Loss of either end during a command: what each side reports, what keeps running, and what happens next.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{Cluster, Output, Route, finish, signal, until, within};
use crate::measure::marked;
use crate::terminal::{all_ended, with_jobs};

/// What is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    Client,
    ClientsDaemon,
    FarDaemon,
    Network,
}

/// Indexes into [`Cluster::routes`].
const DAEMON: usize = 0;
const DIRECT: usize = 1;
const HERE: usize = 2;
const HERE_DIRECT: usize = 3;

/// One line of the table.
struct Case {
    cut: Cut,
    route: usize,
    /// The client's message; none if the client itself is killed.
    says: Option<&'static str>,
    /// The most seconds until nothing runs any more. A killed process or a cut network sends nothing, and 30 s of
    /// silence end a session; the grace period is 5 s.
    gone: u64,
}

const fn case(cut: Cut, route: usize, says: Option<&'static str>, gone: u64) -> Case {
    Case {
        cut,
        route,
        says,
        gone,
    }
}

const SILENT: &str = "has been silent for 30 s";
const KILLED: &str = "the machine's daemon has ended: nothing listens on";
const ENDED: &str = "the local daemon exited while the command was running";

/// The grace period with room for a busy computer; the second also includes 30 s of silence.
const TOLD: u64 = 15;
const UNTOLD: u64 = 55;

const CASES: [Case; 9] = [
    case(Cut::Client, DAEMON, None, TOLD),
    case(Cut::Client, DIRECT, None, UNTOLD),
    case(Cut::Client, HERE, None, TOLD),
    case(Cut::Client, HERE_DIRECT, None, TOLD),
    case(Cut::ClientsDaemon, DAEMON, Some(ENDED), UNTOLD),
    case(Cut::ClientsDaemon, HERE, Some(ENDED), TOLD),
    case(Cut::FarDaemon, DAEMON, Some(KILLED), TOLD),
    case(Cut::FarDaemon, DIRECT, Some(KILLED), TOLD),
    case(Cut::Network, DAEMON, Some(SILENT), UNTOLD),
];

/// Counts its runs. A second process is in its group, and neither ends on HUP alone.
const STUBBORN: &str =
    "echo run >>\"$1\"; trap '' HUP; sleep 331 & echo begun; while :; do sleep 331; done";

impl Case {
    /// Plays the case in its own cluster, and returns its line of the table.
    fn play(&self, number: usize) -> String {
        let cluster = Cluster::with_routes();
        let (route, web01) = (cluster.routes()[self.route], cluster.machine("web01"));
        let mark = format!("MALAI_MARK=loss-{number}-{}", std::process::id());
        let runs = cluster.folder().join("runs");
        let script = [
            "env",
            &mark,
            "sh",
            "-c",
            STUBBORN,
            "sh",
            runs.to_str().unwrap(),
        ];
        let mut child = route.home.spawn(&route.args(&script));
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
        assert_eq!(line, "begun\n");
        until("both of its processes", || marked(&mark).len() >= 3);

        let cut = Instant::now();
        match self.cut {
            Cut::Client => signal(child.id(), Signal::KILL),
            Cut::ClientsDaemon => route.home.kill(),
            Cut::FarDaemon => web01.kill(),
            // A process that is stopped neither sends nor answers.
            Cut::Network => signal(web01.pid(), Signal::STOP),
        }
        let client = thread::spawn(move || (finish(child, Vec::new()), cut.elapsed()));
        // The far side is stopped, so it notices nothing until its client has ended.
        if self.cut == Cut::Network {
            until("the client's end", || client.is_finished());
            signal(web01.pid(), Signal::CONT);
        }
        let left = Duration::from_secs(self.gone);
        within(left, "the end of all its processes", || {
            marked(&mark).is_empty()
        });
        let gone = cut.elapsed();
        let (output, said) = client.join().unwrap();
        self.check(&output);

        // The next command works at once, after a restart if a daemon was killed.
        match self.cut {
            Cut::ClientsDaemon => drop(route.home.start().to_string()),
            Cut::FarDaemon => drop(web01.start().to_string()),
            _ => {}
        }
        let next = route.run(&["echo", "on"]);
        assert_eq!(next.clean(), "on\n", "{:?}, {}", self.cut, route.name);
        assert!(next.took < Duration::from_secs(5), "{}", next.shown());
        assert_eq!(
            fs::read_to_string(&runs).unwrap(),
            "run\n",
            "it was run again"
        );
        self.line(route.name, &output, said, gone, next.took)
    }

    #[track_caller]
    fn check(&self, output: &Output) {
        match self.says {
            None => assert_eq!(output.code, 1000 + 9, "{}", output.shown()),
            Some(words) => {
                assert_eq!(output.code, 255, "{:?}: {}", self.cut, output.shown());
                let (said, lines) = (&output.stderr, output.stderr.lines().count());
                assert!(
                    said.starts_with("malai: ") && lines == 1,
                    "{}",
                    output.shown()
                );
                assert!(said.contains(words), "{:?}: {}", self.cut, output.shown());
            }
        }
    }

    fn line(
        &self,
        route: &str,
        output: &Output,
        said: Duration,
        gone: Duration,
        next: Duration,
    ) -> String {
        let code = match output.code {
            code if code > 1000 => format!("SIG{}", code - 1000),
            code => code.to_string(),
        };
        let mut text = String::new();
        let cut = format!("{:?}", self.cut);
        let _ = write!(
            text,
            "{cut:14} {route:25} {code:6} {:7.1} s {:7.1} s {:6.0} ms  {}",
            said.as_secs_f64(),
            gone.as_secs_f64(),
            next.as_secs_f64() * 1000.0,
            output.stderr.trim_end()
        );
        text
    }
}

/// `cargo test -p malai --test stress loss -- --nocapture` prints the table.
#[test]
fn each_end_can_be_lost() {
    let lines: Vec<String> = thread::scope(|scope| {
        let playing: Vec<_> = (CASES.iter().enumerate())
            .map(|(number, case)| scope.spawn(move || case.play(number)))
            .collect();
        playing
            .into_iter()
            .map(|case| case.join().unwrap())
            .collect()
    });
    println!(
        "{:14} {:25} {:6} {:>9} {:>9} {:>9}  what the client says",
        "killed or cut", "route", "code", "client", "all gone", "next"
    );
    println!("{}", lines.join("\n"));
}

/// A session on a terminal also ends: the terminal is restored, and nothing is left.
#[test]
fn a_session_on_a_terminal_ends_with_either_daemon() {
    // Which daemon is killed, whether it is the far one, and whether the client is on the target.
    thread::scope(|scope| {
        for (what, far, here) in [
            ("own daemon", false, false),
            ("far daemon", true, false),
            ("the only daemon", true, true),
        ] {
            scope.spawn(move || {
                let cluster = Cluster::running(&["web01"]);
                let web01 = cluster.machine("web01");
                let route = Route {
                    name: what,
                    home: if here { web01 } else { &cluster.manager },
                    target: "web01.company",
                };
                let victim = if far { web01 } else { &cluster.manager };
                let (mut terminal, before, ids) = with_jobs(&route);
                victim.kill();
                terminal.see("malai: ");
                assert_eq!(terminal.code(), 255, "{what}");
                assert_eq!(terminal.modes(), before, "{what}");
                all_ended(what, &ids);
            });
        }
    });
}
