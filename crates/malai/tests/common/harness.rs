//! Homes, daemons and commands for tests that read like scripts.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use malai_node::{LockState, lock};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// How long anything may take before it counts as hanging: far longer than on a busy computer, since only hanging tests
/// wait that long.
pub const TEST_TIMEOUT: Duration = Duration::from_secs(60);

/// The alias of every test's cluster.
pub const ALIAS: &str = "company";

/// The result of a run of the binary.
#[derive(Debug)]
pub struct Output {
    /// The exit code, or 1000 plus the number of the signal that ended the client itself.
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: String,
    pub took: Duration,
}

impl Output {
    pub fn out(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("text on standard output")
    }

    /// The same, asserting that the command succeeded and printed nothing on standard error.
    #[track_caller]
    pub fn clean(&self) -> &str {
        assert!(self.code == 0 && self.stderr.is_empty(), "{}", self.shown());
        self.out()
    }

    /// Standard output of a command that succeeded in a login shell. Standard error may contain output of the user's
    /// own login files.
    #[track_caller]
    pub fn of_login_shell(&self) -> &str {
        assert_eq!(self.code, 0, "{}", self.shown());
        self.out()
    }

    /// Asserts that malai refused or failed with these words.
    #[track_caller]
    pub fn refused(&self, words: &str) {
        assert!(
            self.code == 255 && self.stdout.is_empty(),
            "{}",
            self.shown()
        );
        assert!(self.stderr.starts_with("malai: "), "{}", self.shown());
        assert!(
            self.stderr.contains(words),
            "no {words:?} in {}",
            self.shown()
        );
    }

    pub fn shown(&self) -> String {
        let shown = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes);
            text.chars().take(4000).collect::<String>()
        };
        format!(
            "exit code {} after {:?}\n--- stdout\n{}\n--- stderr\n{}",
            self.code,
            self.took,
            shown(&self.stdout),
            shown(self.stderr.as_bytes())
        )
    }
}

/// One `$MALAI_HOME`. When it is dropped, every process that uses it is ended.
#[derive(Debug)]
pub struct Home {
    pub path: PathBuf,
    daemons: Mutex<Vec<u32>>,
}

impl Home {
    pub fn at(path: PathBuf) -> Home {
        Home {
            path,
            daemons: Mutex::default(),
        }
    }

    /// The binary with this home, not started yet, without standard input.
    pub fn command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_malai"));
        command
            .args(args)
            .env_clear()
            .env("MALAI_HOME", &self.path)
            .env("MALAI_NETWORK", "loopback")
            .env("RUST_LOG", "malai=debug,malai_node=debug")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Starts the binary and leaves it running.
    pub fn spawn<S: AsRef<OsStr>>(&self, args: &[S]) -> Child {
        self.command(args).spawn().expect("malai starts")
    }

    /// Runs the binary to its end, without standard input.
    #[track_caller]
    pub fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> Output {
        finish(self.spawn(args), Vec::new())
    }

    /// Runs the binary to its end, with this standard input.
    #[track_caller]
    pub fn run_with<S: AsRef<OsStr>>(&self, args: &[S], stdin: &[u8]) -> Output {
        let child = self.command(args).stdin(Stdio::piped()).spawn();
        finish(child.expect("malai starts"), stdin.to_vec())
    }

    /// Runs a command that must succeed, and returns what it printed.
    #[track_caller]
    pub fn succeed<S: AsRef<OsStr>>(&self, args: &[S]) -> String {
        let output = self.run(args);
        assert_eq!(output.code, 0, "{}", output.shown());
        output.out().to_owned()
    }

    /// Starts the daemon; returns its process id once it serves.
    #[track_caller]
    pub fn start(&self) -> u32 {
        self.started(&self.succeed(&["daemon"]))
    }

    /// Reads the process id of a daemon that was started in another way from its output.
    #[track_caller]
    pub fn started(&self, said: &str) -> u32 {
        let pid = said
            .split_once("(pid ")
            .and_then(|(_, rest)| rest.split_once(')'))
            .and_then(|(pid, _)| pid.parse().ok())
            .unwrap_or_else(|| panic!("no process id in {said:?}"));
        self.own(pid);
        pid
    }

    /// Registers this process as the daemon.
    pub fn own(&self, pid: u32) {
        self.daemons.lock().unwrap().push(pid);
    }

    /// The process id of the running daemon.
    pub fn pid(&self) -> u32 {
        *self.daemons.lock().unwrap().last().expect("a daemon")
    }

    /// Stops the daemon and waits for its end.
    #[track_caller]
    pub fn stop(&self) {
        self.succeed(&["stop"]);
        self.wait_for_end();
    }

    /// Ends the daemon as a power failure would.
    #[track_caller]
    pub fn kill(&self) {
        signal(self.pid(), Signal::KILL);
        self.wait_for_end();
    }

    /// Waits until no daemon holds the home.
    #[track_caller]
    pub fn wait_for_end(&self) {
        until("the daemon's end", || !self.is_held());
    }

    pub fn is_held(&self) -> bool {
        let home = malai_node::Home::at(self.path.clone());
        lock::probe(&home).expect("the home's lock") != LockState::Free
    }

    /// The output of `malai status`, whatever its exit code.
    #[track_caller]
    pub fn status(&self) -> String {
        self.run(&["status"]).out().to_owned()
    }

    /// What the daemon reports about the cluster in `malai status --json`.
    #[track_caller]
    pub fn facts(&self) -> serde_json::Value {
        let output = self.run(&["status", "--json"]);
        let all: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let clusters = all["daemon"]["clusters"].as_array();
        let own = clusters
            .into_iter()
            .flatten()
            .find(|cluster| cluster["alias"] == ALIAS);
        own.cloned().unwrap_or_default()
    }

    /// The revision in force; 0 for none.
    #[track_caller]
    pub fn revision(&self) -> u64 {
        self.facts()["revision"].as_u64().unwrap_or(0)
    }

    /// A file of the cluster.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join("clusters").join(ALIAS).join(name)
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.file(name)).expect("a file of the cluster")
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.file(name), text).expect("a file of the cluster");
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path.join("malai.log")).unwrap_or_default()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let running = processes_of(&self.path);
        for pid in &running {
            signal(*pid, Signal::KILL);
        }
        // A process that is being killed may still write a file, but the folder is removed next.
        let deadline = Instant::now() + TEST_TIMEOUT;
        while running.iter().any(|pid| lives(*pid)) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        if thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            eprintln!("--- the end of {}/malai.log", self.path.display());
            for line in tail.iter().rev() {
                eprintln!("{line}");
            }
        }
    }
}

/// A manager, listed as `boss`, and its machines, as the tutorial's commands make them.
#[derive(Debug)]
pub struct Cluster {
    pub manager: Home,
    machines: Vec<(String, Home)>,
    pub id: String,
    // Dropped last, after the homes in it have ended their processes.
    folder: Folder,
}

impl Cluster {
    /// Homes that have joined, without daemons; everybody may run everything everywhere.
    #[track_caller]
    pub fn new(names: &[&str]) -> Cluster {
        let folder = Folder::new();
        let manager = Home::at(folder.path().join("boss"));
        let said = manager.succeed(&["cluster", "init", ALIAS]);
        let id = said
            .lines()
            .next()
            .and_then(|line| line.strip_prefix("Cluster created with ID: "))
            .unwrap_or_else(|| panic!("no id52 in {said}"))
            .to_owned();
        let mut cluster = Cluster {
            manager,
            machines: Vec::new(),
            id,
            folder,
        };
        cluster.edit(|text| {
            format!(
                "{text}\n[machine.boss]\nid52 = \"{}\"\nallow_from = \"*\"\n",
                cluster.id
            )
        });
        for name in names {
            let section = cluster.join(name);
            cluster.edit(|text| format!("{text}\n{section}"));
        }
        cluster
    }

    /// The same, with all daemons running and the configuration everywhere.
    #[track_caller]
    pub fn running(names: &[&str]) -> Cluster {
        let cluster = Cluster::new(names);
        for (_, home) in &cluster.machines {
            home.start();
        }
        cluster.manager.start();
        cluster.rescan_everywhere();
        cluster
    }

    /// A running cluster in which a command can take each route: see [`Cluster::routes`].
    #[track_caller]
    pub fn with_routes() -> Cluster {
        let cluster = Cluster::running(&["web01", "laptop"]);
        cluster.machine("laptop").stop();
        cluster
    }

    /// The routes of a command: to another computer and to its own, each with a daemon and without.
    pub fn routes(&self) -> [Route<'_>; 4] {
        let route = |name, home, target| Route { name, home, target };
        let (web01, laptop) = (self.machine("web01"), self.machine("laptop"));
        [
            route("through the daemon", &self.manager, "web01.company"),
            route("direct", laptop, "web01.company"),
            route("here, through the daemon", web01, "web01.company"),
            route("here, direct", laptop, "laptop.company"),
        ]
    }

    /// Joins with a new home; returns the section for cluster.toml that `machine init` printed, renamed.
    #[track_caller]
    pub fn join(&mut self, name: &str) -> String {
        let home = Home::at(self.folder.path().join(name));
        let said = home.succeed(&["machine", "init", &self.id, ALIAS]);
        self.machines.push((name.to_owned(), home));
        section(&said, name)
    }

    pub fn machine(&self, name: &str) -> &Home {
        let found = self.machines.iter().find(|(other, _)| other == name);
        &found.unwrap_or_else(|| panic!("no machine {name}")).1
    }

    /// The id52 of a machine.
    pub fn id_of(&self, name: &str) -> String {
        let seed = self.machine(name).read("machine.private-key");
        malai_cluster::SecretSeed::parse_file(&seed)
            .expect("a key")
            .id()
            .to_string()
    }

    /// Edits cluster.toml as an editor would.
    pub fn edit(&self, change: impl FnOnce(String) -> String) {
        let text = change(self.manager.read("cluster.toml"));
        self.manager.write("cluster.toml", &text);
    }

    /// Removes a machine's section from cluster.toml.
    pub fn remove_section(&self, name: &str) {
        self.edit(|text| {
            let head = format!("[machine.{name}]\n");
            let (before, after) = text.split_once(&head).expect("the section");
            let rest = after.find("\n[").map_or("", |at| &after[at + 1..]);
            format!("{before}{rest}")
        });
    }

    /// Rescans, and asserts that every machine has the published revision.
    #[track_caller]
    pub fn rescan_everywhere(&self) -> String {
        self.rescan_except(&[])
    }

    /// The same, except for machines whose daemons do not run.
    #[track_caller]
    pub fn rescan_except(&self, away: &[&str]) -> String {
        let said = self.manager.succeed(&["rescan", ALIAS]);
        assert!(!away.is_empty() || !said.contains("unreachable"), "{said}");
        let revision = self.manager.revision();
        let there = self.machines.iter();
        for (name, home) in there.filter(|(name, _)| !away.contains(&name.as_str())) {
            until(&format!("revision {revision} on {name}"), || {
                home.revision() == revision
            });
        }
        said
    }

    /// A folder for files of this test.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// The section that `machine init` printed, under another name.
#[track_caller]
pub fn section(said: &str, name: &str) -> String {
    let lines = said.lines().map(str::trim);
    let section: Vec<&str> = lines
        .skip_while(|line| !line.starts_with("[machine."))
        .skip(1)
        .take_while(|line| !line.starts_with("2."))
        .collect();
    assert!(
        section.iter().any(|line| line.starts_with("id52 = ")),
        "{said}"
    );
    format!("[machine.{name}]\n{}\n", section.join("\n"))
}

/// A route of a command.
#[derive(Debug, Clone, Copy)]
pub struct Route<'a> {
    pub name: &'static str,
    pub home: &'a Home,
    pub target: &'static str,
}

impl Route<'_> {
    /// The target followed by these words.
    pub fn args<S: AsRef<OsStr>>(&self, words: &[S]) -> Vec<std::ffi::OsString> {
        let words = words.iter().map(|word| word.as_ref().to_owned());
        std::iter::once(self.target.into()).chain(words).collect()
    }

    #[track_caller]
    pub fn run<S: AsRef<OsStr>>(&self, words: &[S]) -> Output {
        eprintln!("[{}]", self.name);
        self.home.run(&self.args(words))
    }

    #[track_caller]
    pub fn run_with<S: AsRef<OsStr>>(&self, words: &[S], stdin: &[u8]) -> Output {
        eprintln!("[{}]", self.name);
        self.home.run_with(&self.args(words), stdin)
    }
}

/// Waits for the end of a process, while writing its input and reading its output. A hanging process is ended and fails
/// the test.
#[track_caller]
pub fn finish(mut child: Child, stdin: Vec<u8>) -> Output {
    let started = Instant::now();
    let id = child.id();
    let input = child.stdin.take();
    thread::spawn(move || {
        if let Some(mut input) = input {
            // It is normal for a reader to stop reading.
            let _ = input.write_all(&stdin);
        }
    });
    let (out, err) = (all_of(child.stdout.take()), all_of(child.stderr.take()));
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let status = child.wait();
        let _ = sender.send((status, out.join(), err.join()));
    });
    let Ok((status, out, err)) = receiver.recv_timeout(TEST_TIMEOUT) else {
        signal(id, Signal::KILL);
        panic!("not ended within {TEST_TIMEOUT:?}");
    };
    let status = status.expect("a status");
    use std::os::unix::process::ExitStatusExt;
    Output {
        code: status
            .code()
            .unwrap_or_else(|| 1000 + status.signal().unwrap_or_default()),
        stdout: out.expect("standard output"),
        stderr: String::from_utf8_lossy(&err.expect("standard error")).into_owned(),
        took: started.elapsed(),
    }
}

fn all_of(stream: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            stream.read_to_end(&mut bytes).expect("a readable pipe");
        }
        bytes
    })
}

/// Waits until a condition holds; returns whether it did in time.
pub fn becomes(mut is_so: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + TEST_TIMEOUT;
    while !is_so() {
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(10));
    }
    true
}

/// Waits until a condition holds, and fails if it does not in time.
#[track_caller]
pub fn until(what: &str, is_so: impl FnMut() -> bool) {
    within(TEST_TIMEOUT, what, is_so);
}

/// The same with another time limit.
#[track_caller]
pub fn within(limit: Duration, what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited {limit:?} for {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The processes with this `MALAI_HOME`: clients, reapers, and daemons however they were started.
pub fn processes_of(home: &Path) -> Vec<u32> {
    let entry = format!("MALAI_HOME={}", home.display());
    let all = std::fs::read_dir("/proc").expect("processes");
    all.filter_map(|found| found.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let mut entries = environment.split(|byte| *byte == 0);
            entries.any(|found| found == entry.as_bytes())
        })
        .collect()
}

/// A temporary folder. A test whose folder cannot be removed fails.
#[derive(Debug)]
pub struct Folder(Option<TempDir>);

impl Folder {
    pub fn new() -> Folder {
        Folder(Some(tempfile::tempdir().expect("a temporary folder")))
    }

    pub fn path(&self) -> &Path {
        self.0
            .as_ref()
            .expect("a folder that was not removed")
            .path()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let path = self.path().to_owned();
        let removed = self.0.take().map_or(Ok(()), TempDir::close);
        if let Err(error) = removed
            && !thread::panicking()
        {
            panic!("{} stays: {error}", path.display());
        }
    }
}

/// Sends a signal to a process that this test started.
pub fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid.cast_signed()).expect("a process id");
    let _ = kill_process(pid, signal);
}

/// Whether a process is running; a zombie is not.
pub fn lives(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|stat| Some(stat.rsplit_once(") ")?.1.chars().next()? != 'Z'))
        .unwrap_or(false)
}

/// Makes heavy tests run one at a time, so that they measure malai and not each other.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
