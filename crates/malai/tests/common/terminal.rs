//! A terminal for tests: a real pty, a process on it, and the screen that a person would see.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use rustix::pty::OpenptFlags;
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

use crate::harness::{Route, lives, signal, until, within};

/// The initial size, which no program would choose by itself.
pub const ROWS: u16 = 31;
pub const COLUMNS: u16 = 97;

/// A terminal and the process that leads its session.
pub struct Terminal {
    master: File,
    /// Kept open, so that its modes can be read after all processes on it have ended.
    slave: OwnedFd,
    /// Its modes before anything ran on it.
    before: String,
    child: Child,
    code: Option<i32>,
    lines: usize,
    shown: Arc<Mutex<Shown>>,
}

struct Shown {
    screen: vt100::Parser,
    /// All output as it came.
    bytes: Vec<u8>,
    /// How much of it [`Terminal::see`] has read.
    seen: usize,
}

impl Terminal {
    /// Starts a command on its own controlling terminal.
    pub fn start(command: &Command) -> Terminal {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = rustix::pty::openpt(flags).expect("a pty");
        rustix::pty::grantpt(&master).unwrap();
        rustix::pty::unlockpt(&master).unwrap();
        let name = rustix::pty::ptsname(&master, Vec::new()).unwrap();
        let flags =
            rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
        let slave = rustix::fs::open(name, flags, rustix::fs::Mode::empty()).unwrap();
        let end = || Stdio::from(slave.try_clone().unwrap());
        // It executes the command itself, so no process waits in between.
        let mut spawn = Command::new("setsid");
        spawn.arg("--ctty").arg(command.get_program());
        spawn.args(command.get_args()).env_clear();
        for (name, value) in command.get_envs() {
            spawn.env(name, value.expect("nothing is taken away"));
        }
        spawn.env("TERM", "xterm-256color").env("LANG", "C.UTF-8");
        spawn.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        let master = File::from(master);
        let shown = Arc::new(Mutex::new(Shown {
            screen: vt100::Parser::new(ROWS, COLUMNS, 0),
            bytes: Vec::new(),
            seen: 0,
        }));
        let mut terminal = Terminal {
            before: modes(&slave),
            child: spawn
                .current_dir("/")
                .stdin(end())
                .stdout(end())
                .stderr(end())
                .spawn()
                .expect("setsid starts"),
            master,
            slave,
            code: None,
            lines: 0,
            shown,
        };
        terminal.resize(ROWS, COLUMNS);
        terminal.look();
        terminal
    }

    /// Starts the binary on a route, on a terminal.
    pub fn on(route: &Route<'_>, words: &[&str]) -> Terminal {
        eprintln!("[{}] {words:?}", route.name);
        Terminal::start(&route.home.command(&route.args(words)))
    }

    /// Starts a shell on a route and waits until it is ready, with this test's prompt.
    pub fn shell(route: &Route<'_>) -> Terminal {
        let mut terminal = Terminal::on(route, &[]);
        terminal.prompt();
        terminal
    }

    /// Waits for a shell, turns off its history, and sets the same prompt everywhere.
    #[track_caller]
    pub fn prompt(&mut self) {
        // This is typed ahead.
        self.types("unset HISTFILE; PS1='rea''dy> '; PS2=''; stty -echoctl\r");
        self.see("ready> ");
    }

    /// Reads the output until it ends.
    fn look(&mut self) {
        let (mut master, shown) = (self.master.try_clone().unwrap(), self.shown.clone());
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count) = master.read(&mut buffer) {
                let mut shown = shown.lock().unwrap();
                shown.screen.process(&buffer[..count]);
                shown.bytes.extend_from_slice(&buffer[..count]);
                if count == 0 {
                    return;
                }
            }
        });
    }

    pub fn types(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).expect("a terminal");
    }

    /// Types a command line, and returns its output. (The prompt cannot mark the end, since it is shown again whenever
    /// the size changes.)
    #[track_caller]
    pub fn says(&mut self, line: &str) -> String {
        self.lines += 1;
        let (begin, end) = (format!("@{}\r\n", self.lines), format!("@{}@", self.lines));
        self.types(&format!("echo @'{0}'; {line}\recho @'{0}'@\r", self.lines));
        self.see(&begin);
        let shown = self.see(&end);
        // The output includes the next prompt, and what was typed at it.
        let shown = strip(shown.trim_end_matches(&end));
        let answer = shown.split("ready> ").next().unwrap_or_default();
        answer.trim().replace('\r', "")
    }

    /// The exit code of the last command line.
    #[track_caller]
    pub fn status(&mut self) -> u8 {
        self.types("echo sta''tus $?.\r");
        self.see("status ");
        let shown = self.see(".");
        shown.trim_end_matches('.').parse().expect("a number")
    }

    /// Waits until this is shown, after what was seen before; returns everything up to its end.
    #[track_caller]
    pub fn see(&mut self, text: &str) -> String {
        let shown = self.shown.clone();
        let mut found = String::new();
        let ok = crate::harness::becomes(|| {
            let mut shown = shown.lock().unwrap();
            let new = &shown.bytes[shown.seen..];
            let at = new
                .windows(text.len())
                .position(|part| part == text.as_bytes());
            let Some(at) = at else { return false };
            let end = at + text.len();
            found = String::from_utf8_lossy(&new[..end]).into_owned();
            shown.seen += end;
            true
        });
        assert!(ok, "{text:?} is not shown:\n{}", self.everything());
        found
    }

    fn everything(&self) -> String {
        let shown = self.shown.lock().unwrap();
        let screen = shown.screen.screen().contents();
        let tail = &shown.bytes[shown.bytes.len().saturating_sub(2000)..];
        format!(
            "{screen}\n--- its last bytes: {:?}",
            String::from_utf8_lossy(tail)
        )
    }

    /// The screen as a person sees it.
    pub fn screen(&self) -> String {
        self.shown.lock().unwrap().screen.screen().contents()
    }

    /// Whether a full-screen program uses the screen.
    pub fn is_taken(&self) -> bool {
        let shown = self.shown.lock().unwrap();
        shown.screen.screen().alternate_screen()
    }

    /// Whether no mode is on that a session might have switched on.
    pub fn is_at_rest(&self) -> bool {
        let shown = self.shown.lock().unwrap();
        let screen = shown.screen.screen();
        let mouse = screen.mouse_protocol_mode() != vt100::MouseProtocolMode::None;
        let keys = screen.application_keypad() || screen.application_cursor();
        let paste = screen.bracketed_paste();
        !(screen.alternate_screen() || screen.hide_cursor() || mouse || keys || paste)
    }

    #[track_caller]
    pub fn until_taken(&self, taken: bool) {
        let ok = crate::harness::becomes(|| self.is_taken() == taken);
        assert!(ok, "{}", self.everything());
    }

    pub fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&self.master, size).unwrap();
        let mut shown = self.shown.lock().unwrap();
        shown.screen.screen_mut().set_size(rows, columns);
    }

    /// All modes of the terminal, for comparison.
    pub fn modes(&self) -> String {
        modes(&self.slave)
    }

    /// The modes before anything ran on it; a quick command changes them before [`Terminal::modes`] can read them.
    pub fn modes_before(&self) -> String {
        self.before.clone()
    }

    /// Waits until it has these modes.
    #[track_caller]
    pub fn until_modes(&self, expected: &str) {
        until("the terminal's modes", || self.modes() == expected);
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the end of the process; returns its exit code, or 1000 plus the number of the signal that ended it.
    #[track_caller]
    pub fn code(&mut self) -> i32 {
        use std::os::unix::process::ExitStatusExt;
        let child = &mut self.child;
        let code = &mut self.code;
        let ok = crate::harness::becomes(|| {
            if let Some(status) = child.try_wait().unwrap() {
                *code = status
                    .code()
                    .or(status.signal().map(|signal| 1000 + signal));
            }
            code.is_some()
        });
        assert!(ok, "it does not end:\n{}", self.everything());
        self.code.unwrap()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if self.code.is_none() {
            signal(self.pid(), Signal::KILL);
            let _ = self.child.wait();
        }
        if thread::panicking() {
            eprintln!("--- the screen\n{}", self.everything());
        }
    }
}

/// Removes control sequences from text (shells send some to enable pasting).
fn strip(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        plain.push_str(before);
        let end = after.find(|c: char| ('@'..='~').contains(&c));
        rest = end.map_or("", |end| &after[end + 1..]);
    }
    plain.push_str(rest);
    plain.trim().to_owned()
}

fn modes(terminal: &OwnedFd) -> String {
    let modes: Termios = tcgetattr(terminal).unwrap();
    format!("{modes:?}")
}

/// A shell with jobs: one in the foreground, one in the background, one that ignores the hangup, and one that has left
/// the session. Returns the terminal, its modes before, and the process ids; the last is of the one that left.
pub fn with_jobs(route: &Route<'_>) -> (Terminal, String, Vec<u32>) {
    let mut terminal = Terminal::on(route, &[]);
    let before = terminal.modes_before();
    terminal.prompt();
    // Each has its own process group.
    let mut ids = vec![terminal.says("echo $$")];
    for job in [
        "sleep 401 & echo $!",
        "sh -c 'trap \"\" HUP; while :; do sleep 1; done' & echo $!",
        "sh -c 'setsid sleep 402 & echo $!'",
    ] {
        // The shell also reports that it started a background job.
        let said = terminal.says(job);
        ids.push(said.rsplit('\n').next().unwrap_or_default().to_owned());
    }
    terminal.types("sh -c 'echo $$ go; exec sleep 403'\r");
    let shown = terminal.see(" go\r\n");
    let foreground = shown
        .trim_end_matches(" go\r\n")
        .rsplit(['\r', '\n'])
        .next();
    let foreground = foreground.unwrap_or_default();
    ids.insert(0, foreground.to_owned());
    let ids = ids
        .iter()
        .map(|id| id.trim().parse().unwrap_or_else(|_| panic!("{ids:?}")));
    let ids: Vec<u32> = ids.collect();
    assert!(ids.iter().all(|id| lives(*id)), "{ids:?}");
    (terminal, before, ids)
}

/// Asserts that all have ended except the one that left the session, which malai must not end.
#[track_caller]
pub fn all_ended(what: &str, ids: &[u32]) {
    let (own, others) = ids.split_at(ids.len() - 1);
    within(Duration::from_secs(45), what, || {
        !own.iter().any(|id| lives(*id))
    });
    assert!(lives(others[0]), "{what}: what left the session was ended");
    signal(others[0], Signal::KILL);
}
