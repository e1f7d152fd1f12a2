//! The demo's sandbox: a folder with one home per computer, in which this program is run.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use malai_cluster::quote;
use malai_node::{Home, LockState, lock};
use rustix::process::Pid;

use crate::demo::guard::{ForeignProcess, Interrupts, Watchdog};
use crate::output::{Printer, style};

/// The computers of the demo, the manager first.
pub const COMPUTERS: [&str; 3] = ["laptop", "web01", "db01"];

/// The timeout of a command.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(20);

/// The default number of output lines shown per command.
const SHOWN: usize = 16;

/// The folder, and what is needed to run this program in it.
pub struct Stage<'a> {
    folder: PathBuf,
    program: PathBuf,
    printer: &'a Printer,
    interrupts: &'a Interrupts,
    /// Daemons that were seen running, by computer.
    daemons: RefCell<BTreeMap<&'static str, ForeignProcess>>,
    standing: Cell<bool>,
    is_styled: bool,
}

/// A command as typed at one of the computers.
pub struct Invocation<'a> {
    on: &'static str,
    words: Vec<&'a str>,
    input: Option<&'a str>,
    shown: usize,
}

/// `malai …`, typed at a computer.
pub fn at<'a>(on: &'static str, words: &[&'a str]) -> Invocation<'a> {
    Invocation {
        on,
        words: words.to_vec(),
        input: None,
        shown: SHOWN,
    }
}

impl<'a> Invocation<'a> {
    /// Adds `echo <line> |` before it.
    pub fn fed(mut self, line: &'a str) -> Self {
        self.input = Some(line);
        self
    }

    /// Limits the number of output lines shown.
    pub fn shown(mut self, lines: usize) -> Self {
        self.shown = lines;
        self
    }

    fn as_typed(&self) -> String {
        let words: Vec<_> = self.words.iter().map(|word| quote(word)).collect();
        let feeding = self.input.map(|line| format!("echo {} | ", quote(line)));
        format!("{}malai {}", feeding.unwrap_or_default(), words.join(" "))
    }
}

/// The result of a command.
pub struct Ran {
    invocation: String,
    code: Option<i32>,
    /// Standard output and standard error, in the order in which they were written.
    pub output: String,
}

impl Ran {
    /// Requires this exit code.
    pub fn exits(self, code: i32) -> anyhow::Result<Self> {
        anyhow::ensure!(
            self.code == Some(code),
            "{}: it should have exited with {code}, and {}; it said:\n{}",
            self.invocation,
            self.code.map_or_else(
                || "was killed".to_owned(),
                |code| format!("exited with {code}")
            ),
            self.output
        );
        Ok(self)
    }

    /// Requires this text in the output.
    pub fn says(self, text: &str) -> anyhow::Result<Self> {
        anyhow::ensure!(
            self.output.contains(text),
            "{}: it should have said {text:?}; it said:\n{}",
            self.invocation,
            self.output
        );
        Ok(self)
    }

    /// Requires exactly this output.
    pub fn says_only(self, text: &str) -> anyhow::Result<Self> {
        anyhow::ensure!(
            self.output == text,
            "{}: it should have said {text:?}; it said:\n{}",
            self.invocation,
            self.output
        );
        Ok(self)
    }
}

impl<'a> Stage<'a> {
    /// Creates the folder, accessible only to its owner.
    pub fn build(printer: &'a Printer, interrupts: &'a Interrupts) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find malai's own program")?;
        let temporary = std::env::temp_dir();
        let own = std::process::id();
        let mut names = std::iter::once(format!("malai-demo-{own}"))
            .chain((1..100).map(|n| format!("malai-demo-{own}-{n}")));
        let folder = loop {
            let Some(name) = names.next() else {
                anyhow::bail!("{} is full of demos", temporary.display());
            };
            let folder = temporary.join(name);
            match DirBuilder::new().mode(0o700).create(&folder) {
                Ok(()) => break folder,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    return Err(error).with_context(|| {
                        format!("cannot make a folder for the demo, {}", folder.display())
                    });
                }
            }
        };
        Ok(Self {
            folder,
            program,
            printer,
            interrupts,
            daemons: RefCell::default(),
            standing: Cell::new(false),
            is_styled: style::is_styled(&io::stdout()),
        })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The manager's configuration file.
    pub fn cluster_toml(&self) -> PathBuf {
        self.folder.join("laptop/clusters/demo/cluster.toml")
    }

    /// Announces a scene.
    pub fn scene(&self, title: &str) {
        self.printer.out(&format!("\n{}\n", self.strong(title)));
    }

    /// Prints a remark between two commands.
    pub fn remark(&self, text: &str) {
        for line in text.lines() {
            let indent = if line.is_empty() { "" } else { "  " };
            self.printer.out(&format!("{indent}{line}\n"));
        }
    }

    /// Prints a command line as typed at a computer.
    pub fn prompt(&self, on: &str, invocation: &str) {
        self.printer.out(&format!(
            "{on}{}\n",
            self.strong(&format!("$ {invocation}"))
        ));
    }

    fn strong(&self, text: &str) -> String {
        style::paint(text, style::STRONG, self.is_styled)
    }

    /// Prints a command as typed, runs it, and prints its output.
    pub fn run(&self, invocation: &Invocation<'_>) -> anyhow::Result<Ran> {
        self.prompt(invocation.on, &invocation.as_typed());
        let ran = self.quietly(invocation)?;
        let lines: Vec<_> = ran.output.lines().collect();
        for line in lines.iter().take(invocation.shown) {
            self.remark(line);
        }
        if lines.len() > invocation.shown {
            self.remark(&format!(
                "… ({} more lines)",
                lines.len() - invocation.shown
            ));
        }
        match ran.code {
            Some(0) => {}
            Some(code) => self.remark(&format!("[exit code {code}]")),
            None => self.remark("[killed]"),
        }
        Ok(ran)
    }

    /// Runs a command without printing it.
    pub fn quietly(&self, invocation: &Invocation<'_>) -> anyhow::Result<Ran> {
        if let Some(signal) = self.interrupts.caught() {
            anyhow::bail!("interrupted by signal {signal}");
        }
        self.spoken(invocation)
    }

    /// Runs a command, interrupted or not.
    fn spoken(&self, invocation: &Invocation<'_>) -> anyhow::Result<Ran> {
        let failed = || format!("cannot run malai {}", invocation.words.join(" "));
        let (mut reader, writer) = io::pipe().with_context(failed)?;
        let mut command = self.command(invocation.on, &invocation.words);
        command
            .stdin(match invocation.input {
                Some(_) => Stdio::piped(),
                None => Stdio::null(),
            })
            .stdout(writer.try_clone().with_context(failed)?)
            .stderr(writer);
        let mut child = command.spawn().with_context(failed)?;
        // It holds the other end of the pipe, whose end is awaited below.
        drop(command);
        let watchdog = Watchdog::over(&child, COMMAND_TIMEOUT);
        if let (Some(line), Some(mut stdin)) = (invocation.input, child.stdin.take()) {
            // If a command does not read it, its answer shows that.
            let _ = stdin.write_all(format!("{line}\n").as_bytes());
        }
        let mut output = Vec::new();
        reader.read_to_end(&mut output).with_context(failed)?;
        drop(watchdog);
        let status = child.wait().with_context(failed)?;
        if invocation.words == ["daemon"] {
            self.note_daemon(invocation.on);
        }
        Ok(Ran {
            invocation: format!("at {}, `{}`", invocation.on, invocation.as_typed()),
            code: status.code(),
            output: String::from_utf8_lossy(&output).into_owned(),
        })
    }

    /// This program with a computer's home, not started yet.
    pub fn command(&self, on: &str, words: &[&str]) -> Command {
        use std::os::unix::process::CommandExt;
        let mut command = Command::new(&self.program);
        command
            .args(words)
            .env("MALAI_HOME", self.folder.join(on))
            .env("MALAI_NETWORK", "loopback")
            .current_dir(&self.folder)
            // The demo itself handles Ctrl-C: it ends between two commands.
            .process_group(0);
        command
    }

    fn home(&self, on: &str) -> Home {
        Home::at(self.folder.join(on))
    }

    fn note_daemon(&self, on: &'static str) {
        if let Ok(LockState::Held { pid: Some(pid) }) = lock::probe(&self.home(on))
            && let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw)
        {
            self.daemons
                .borrow_mut()
                .insert(on, ForeignProcess::of(pid));
        }
    }

    /// Prevents the cleanup when this is dropped.
    pub fn leave_standing(&self) {
        self.standing.set(true);
    }

    /// Ends all daemons and removes the folder.
    ///
    /// # Errors
    ///
    /// A daemon is still alive, or the folder still exists.
    pub fn clear(&self) -> anyhow::Result<()> {
        self.standing.set(true);
        let alive: Vec<_> = COMPUTERS
            .into_iter()
            .filter(|on| self.folder.join(on).exists() && !self.ended(on))
            .collect();
        anyhow::ensure!(
            alive.is_empty(),
            "cannot end the daemons of {}; the folder {} was kept",
            alive.join(", "),
            self.folder.display()
        );
        fs::remove_dir_all(&self.folder)
            .with_context(|| format!("cannot remove {}", self.folder.display()))
    }

    /// Ends a computer's daemon: with `malai stop`, or else by its process id.
    fn ended(&self, on: &'static str) -> bool {
        self.note_daemon(on);
        let stopped = self.spoken(&at(on, &["stop"]));
        let Some(daemon) = self.daemons.borrow_mut().remove(on) else {
            return stopped.is_ok();
        };
        if stopped.is_ok_and(|ran| ran.code == Some(0)) && daemon.ended(COMMAND_TIMEOUT) {
            return true;
        }
        daemon.kill();
        daemon.ended(COMMAND_TIMEOUT)
    }

    /// How to continue by hand, and how to end it.
    pub fn how_to_go_on(&self) -> String {
        let program = self.callable();
        let line = |on: &str, rest: &str| {
            format!(
                "  MALAI_HOME={} MALAI_NETWORK=loopback {program} {rest}\n",
                quote(&self.folder.join(on).to_string_lossy())
            )
        };
        let mut text = format!(
            "\n✅ Every step did what it says. The three daemons keep running, in {}. Continue by hand:\n",
            self.folder.display()
        );
        text += &line("laptop", "web01.demo uname -a");
        text += &line("db01", "web01.demo id");
        text += &line("laptop", "status");
        text += &format!(
            "  $EDITOR {}\n",
            quote(&self.cluster_toml().to_string_lossy())
        );
        text += &line("laptop", "rescan demo");
        text += "End it:\n";
        for on in COMPUTERS {
            text += &line(on, "stop");
        }
        text + &format!("  rm -r {}\n", quote(&self.folder.to_string_lossy()))
    }

    /// `malai` if a shell would find this program by that name, otherwise its path.
    fn callable(&self) -> String {
        let own = fs::canonicalize(&self.program).ok();
        let first = std::env::var_os("PATH").and_then(|path| {
            std::env::split_paths(&path)
                .map(|folder| folder.join("malai"))
                .find(|program| program.is_file())
        });
        match first.and_then(|program| fs::canonicalize(program).ok()) {
            Some(found) if Some(&found) == own.as_ref() => "malai".to_owned(),
            _ => quote(&self.program.to_string_lossy()),
        }
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        if !self.standing.get()
            && let Err(error) = self.clear()
        {
            self.printer.say(&format!("{error:#}"));
        }
    }
}
