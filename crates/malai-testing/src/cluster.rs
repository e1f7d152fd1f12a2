//! The services of one cluster in this process, on loopback, without daemons, control sockets or command lines.

use std::io::PipeReader;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use malai_cluster::{ClusterAlias, ClusterId, MachineId, SecretSeed, Snapshot, check};
use malai_node::{
    Caller, ClusterDir, ControlEvent, Home, Node, PauseGate, Reach, Service, Settings, Sink,
    Source, dispatch, init_cluster, init_machine, keystore, testing,
};
use malai_wire::audit::Record;
use malai_wire::peer::exec::Action;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The alias of every test's cluster.
pub const ALIAS: &str = "company";

/// The name of the manager.
pub const MANAGER: &str = "boss";

/// A cluster that is not started yet. Everybody may run everything everywhere unless [`Plan::config`] changes that.
#[must_use]
pub struct Plan {
    folder: TempDir,
    in_memory: TempDir,
    seed: SecretSeed,
    homes: Vec<(String, Home, ClusterDir)>,
    text: String,
    idle: Vec<String>,
}

impl Plan {
    /// A manager, `boss`, and these machines.
    pub fn new(names: &[&str]) -> Plan {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let in_memory = in_memory();
        let alias = ClusterAlias::parse(ALIAS).expect("an alias");
        let home = Home::at(in_memory.path().join(MANAGER));
        let made = init_cluster(&home, &alias).expect("a cluster");
        let text = std::fs::read_to_string(made.dir.cluster_toml()).expect("cluster.toml");
        let mut plan = Plan {
            seed: keystore::load(&made.dir.cluster_key()).expect("a key"),
            homes: vec![(MANAGER.to_owned(), home, made.dir)],
            text: format!("{text}\n{}", section(MANAGER, &made.id.to_string())),
            idle: Vec::new(),
            folder,
            in_memory,
        };
        for name in names {
            let home = Home::at(plan.in_memory.path().join(name));
            let made = init_machine(&home, &alias, &made.id, &[]).expect("a machine");
            plan.text += &section(name, &made.id.to_string());
            plan.homes.push(((*name).to_owned(), home, made.dir));
        }
        plan
    }

    /// Edits `cluster.toml`.
    pub fn config(mut self, change: impl FnOnce(String) -> String) -> Plan {
        self.text = change(self.text);
        self
    }

    /// Writes a machine's `malai.toml`.
    pub fn settings(self, name: &str, text: &str) -> Plan {
        let found = self.homes.iter().find(|(other, ..)| other == name);
        let (_, home, _) = found.unwrap_or_else(|| panic!("no machine {name}"));
        std::fs::write(home.settings(), text).expect("malai.toml");
        self
    }

    /// This machine serves nothing: it has only the connections of its own commands, as without a daemon.
    pub fn idle(mut self, name: &str) -> Plan {
        self.idle.push(name.to_owned());
        self
    }

    /// Starts all members, each with the configuration in its home.
    pub async fn start(self) -> Cluster {
        let cluster = check("cluster.toml", &self.text);
        let cluster = cluster
            .cluster
            .unwrap_or_else(|| panic!("{:?}", cluster.diagnostics));
        let snapshot = Snapshot::seal(&self.seed, 1, &cluster).to_file();
        let mut machines = Vec::new();
        for (name, home, dir) in &self.homes {
            let (file, serves) = match name == MANAGER {
                true => (dir.published(), true),
                false => (dir.machine_toml(), !self.idle.contains(name)),
            };
            std::fs::write(file, &snapshot).expect("a configuration");
            let service = start(home, dir, serves).await;
            machines.push(Machine {
                name: name.clone(),
                home: home.clone(),
                dir: dir.clone(),
                service,
            });
        }
        std::fs::write(machines[0].dir.cluster_toml(), &self.text).expect("cluster.toml");
        Cluster {
            folder: self.folder,
            _in_memory: self.in_memory,
            seed: self.seed,
            text: self.text,
            machines,
        }
    }
}

/// A folder for homes, in memory if the system has such a folder. On a disk, a test would spend most of its time
/// flushing their files.
fn in_memory() -> TempDir {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    folder.expect("a temporary folder")
}

/// The section of a machine that everybody may run everything on.
fn section(name: &str, id: &str) -> String {
    format!("\n[machine.{name}]\nid52 = \"{id}\"\nallow_from = \"*\"\n")
}

async fn start(home: &Home, dir: &ClusterDir, serves: bool) -> Arc<Service> {
    let settings = Settings::load(home).unwrap_or_else(|error| panic!("malai.toml: {error}"));
    let node = match serves {
        true => Node::daemon(Reach::Loopback, home, &settings),
        false => Node::command(Reach::Loopback, home, &settings),
    };
    if serves {
        node.audit.open();
    }
    let service = Service::start(dir.clone(), Arc::new(node)).await;
    let service = service.unwrap_or_else(|error| panic!("{error}"));
    if serves {
        service.serve();
    }
    service
}

/// A running cluster. Its tasks end with the runtime; its folder is removed when it is dropped.
pub struct Cluster {
    folder: TempDir,
    _in_memory: TempDir,
    seed: SecretSeed,
    text: String,
    machines: Vec<Machine>,
}

/// A member of a cluster.
pub struct Machine {
    /// Its name in `cluster.toml`.
    pub name: String,
    /// Its home.
    pub home: Home,
    /// The cluster's folder in the home.
    pub dir: ClusterDir,
    /// Its service, which also sends its commands.
    pub service: Arc<Service>,
}

impl Cluster {
    /// A manager and these machines, all serving.
    pub async fn start(names: &[&str]) -> Cluster {
        Plan::new(names).start().await
    }

    /// A cluster in which a command can take each route: see [`Cluster::routes`].
    pub async fn with_routes() -> Cluster {
        let plan = Plan::new(&["web01", "laptop"]).idle("laptop");
        plan.start().await
    }

    /// The routes of a command: to another machine and to itself, each from a machine that serves and from one that
    /// does not.
    pub fn routes(&self) -> [Route<'_>; 4] {
        let (web01, laptop) = (self.machine("web01"), self.machine("laptop"));
        let route = |name, from, target| Route { name, from, target };
        [
            route(
                "from a machine that serves",
                self.manager(),
                "web01.company",
            ),
            route("from one that does not", laptop, "web01.company"),
            route("here, where it serves", web01, "web01.company"),
            route("here, where it does not", laptop, "laptop.company"),
        ]
    }

    /// The manager.
    pub fn manager(&self) -> &Machine {
        &self.machines[0]
    }

    /// The cluster's id, which is its manager's.
    pub fn id(&self) -> ClusterId {
        ClusterId::new(self.seed.id())
    }

    /// A member by its name.
    pub fn machine(&self, name: &str) -> &Machine {
        let found = self.machines.iter().find(|machine| machine.name == name);
        found.unwrap_or_else(|| panic!("no machine {name}"))
    }

    /// A folder for files of this test.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A path in that folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    /// The next revision, sealed by the manager but not in force anywhere.
    pub fn seal(&mut self, change: impl FnOnce(String) -> String) -> Arc<Snapshot> {
        self.text = change(std::mem::take(&mut self.text));
        let checked = check("cluster.toml", &self.text);
        let cluster = checked
            .cluster
            .unwrap_or_else(|| panic!("{:?}", checked.diagnostics));
        let revision = self.manager().revision() + 1;
        Arc::new(Snapshot::seal(&self.seed, revision, &cluster))
    }

    /// Edits the configuration and puts it in force on the manager only.
    pub fn publish(&mut self, change: impl FnOnce(String) -> String) {
        let snapshot = self.seal(change);
        self.manager().install(&snapshot);
    }

    /// Edits the configuration and puts it in force everywhere, as if it had arrived.
    pub fn publish_everywhere(&mut self, change: impl FnOnce(String) -> String) {
        let snapshot = self.seal(change);
        for machine in &self.machines {
            machine.install(&snapshot);
        }
    }
}

/// A route of a command.
#[derive(Clone, Copy)]
pub struct Route<'a> {
    /// Its name in messages of failed tests.
    pub name: &'static str,
    /// The machine that sends the command.
    pub from: &'a Machine,
    /// The target.
    pub target: &'static str,
}

impl Route<'_> {
    /// Runs a command without input to its end.
    pub async fn run<S: AsRef<[u8]>>(&self, words: &[S]) -> Output {
        self.from.run(self.target, words).await
    }

    /// Runs a command to its end, with this input.
    pub async fn run_with<S: AsRef<[u8]>>(&self, words: &[S], input: &[u8]) -> Output {
        self.from.run_with(self.target, words, input).await
    }

    /// Starts a command; its input stays open.
    pub fn begin<S: AsRef<[u8]>>(&self, words: &[S]) -> Running {
        self.from.begin(self.target, words)
    }
}

impl Machine {
    /// All turns of this machine to begin a dial, until they are dropped.
    pub fn hold_dials(&self) -> tokio::sync::SemaphorePermit<'_> {
        testing::hold_dials(&self.service)
    }

    /// Its id.
    pub fn id(&self) -> MachineId {
        self.service.cluster_state.local_id
    }

    /// Its secret key.
    pub fn seed(&self) -> SecretSeed {
        let path = match self.name == MANAGER {
            true => self.dir.cluster_key(),
            false => self.dir.machine_key(),
        };
        keystore::load(&path).expect("a key")
    }

    /// The revision in force here; 0 for none.
    pub fn revision(&self) -> u64 {
        let header = self.service.cluster_state.header();
        header.map_or(0, |header| header.revision)
    }

    /// Puts a configuration in force here, as if it had arrived.
    pub fn install(&self, snapshot: &Arc<Snapshot>) {
        let installed = testing::install(&self.service, snapshot.clone());
        installed.expect("a configuration");
    }

    /// Puts what a `malai.toml` accepts in force here.
    pub fn apply(&self, text: &str) {
        let settings = Settings::parse("malai.toml", text);
        let settings = settings.unwrap_or_else(|errors| panic!("{errors:?}"));
        testing::accept(&self.service, &settings);
    }

    /// Its audit records; every line must be complete.
    pub fn records(&self) -> Vec<Record> {
        let text = std::fs::read_to_string(self.home.audit()).unwrap_or_default();
        assert!(text.is_empty() || text.ends_with('\n'), "{text}");
        let read = |line: &str| Record::from_line(line.as_bytes());
        let records = text.lines().map(|line| read(line).map_err(|_| line));
        records.map(|read| read.expect("a record")).collect()
    }

    /// Runs a command without input to its end.
    pub async fn run<S: AsRef<[u8]>>(&self, target: &str, words: &[S]) -> Output {
        self.run_with(target, words, b"").await
    }

    /// Runs a command to its end, with this input.
    pub async fn run_with<S: AsRef<[u8]>>(
        &self,
        target: &str,
        words: &[S],
        input: &[u8],
    ) -> Output {
        self.begin(target, words).finish_with(input).await
    }

    /// Starts a command; its input stays open.
    pub fn begin<S: AsRef<[u8]>>(&self, target: &str, words: &[S]) -> Running {
        let words = words.iter().map(|word| word.as_ref().to_vec()).collect();
        self.ask(target, Action::Exec(words))
    }

    /// Starts an action; its input stays open.
    pub fn ask(&self, target: &str, action: Action) -> Running {
        let ((stdin, input), (output, stdout), (errors, stderr)) = (pair(), pair(), pair());
        let (events, received) = mpsc::channel(16);
        let caller = Caller {
            request: action.into(),
            terminal: None,
            stdin: Source::adopt(stdin.into()).expect("a pipe"),
            stdout: Sink::adopt(stdout).expect("a pipe"),
            stderr: Sink::adopt(stderr).expect("a pipe"),
            gate: PauseGate::open(),
            events: received,
        };
        let (services, target) = (vec![self.service.clone()], target.to_owned());
        let gone = CancellationToken::new();
        let given_up = gone.clone();
        let ended = tokio::spawn(async move {
            let execution = dispatch::execute(services, &target, caller, gone, || ());
            let (result, cleanup) = execution.await;
            if let Some(cleanup) = cleanup {
                cleanup.end().await;
            }
            result
        });
        Running {
            stdin: pipe::Sender::from_owned_fd(input).expect("a pipe"),
            stdout: pipe::Receiver::from_owned_fd(output.into()).expect("a pipe"),
            stderr: pipe::Receiver::from_owned_fd(errors.into()).expect("a pipe"),
            events,
            gone: given_up,
            ended,
        }
    }
}

fn pair() -> (PipeReader, OwnedFd) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    (reader, writer.into())
}

/// A running command, and this side of its streams.
pub struct Running {
    /// Its standard input.
    pub stdin: pipe::Sender,
    /// Its standard output.
    pub stdout: pipe::Receiver,
    /// Its standard error.
    pub stderr: pipe::Receiver,
    /// Sends signals to it.
    pub events: mpsc::Sender<ControlEvent>,
    /// Cancel this to disconnect its caller.
    pub gone: CancellationToken,
    ended: JoinHandle<malai_node::CommandResult>,
}

impl Running {
    /// The next line of its output, without the newline.
    pub async fn line(&mut self) -> String {
        let read = async {
            let mut line = Vec::new();
            let mut byte = [0];
            while self.stdout.read_exact(&mut byte).await.is_ok() && byte[0] != b'\n' {
                line.push(byte[0]);
            }
            String::from_utf8(line).expect("text")
        };
        let line = tokio::time::timeout(crate::TEST_TIMEOUT, read).await;
        line.expect("a line of output")
    }

    /// Closes its input, and reads the rest of its output.
    pub async fn finish(self) -> Output {
        self.finish_with(b"").await
    }

    /// Writes this to its input while its output is read to the end.
    pub async fn finish_with(self, input: &[u8]) -> Output {
        let Running {
            mut stdin,
            mut stdout,
            mut stderr,
            events: _events,
            gone: _gone,
            ended,
        } = self;
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let feed = async move {
            // A command need not read all of its input.
            let _ = stdin.write_all(input).await;
        };
        let all = async {
            let ((), read, read_too, ended) = tokio::join!(
                feed,
                stdout.read_to_end(&mut out),
                stderr.read_to_end(&mut err),
                ended
            );
            read.and(read_too).expect("readable pipes");
            ended.expect("an end")
        };
        let ended = tokio::time::timeout(crate::TEST_TIMEOUT, all).await;
        let result = ended.expect("a command that ends");
        Output {
            code: result.code,
            stdout: out,
            stderr: String::from_utf8_lossy(&err).into_owned(),
            message: result.message.unwrap_or_default(),
        }
    }

    /// Stops reading its output. Returns the exit code and malai's own message.
    pub async fn finish_unread(self) -> (u8, String) {
        drop(self.stdout);
        let ended = tokio::time::timeout(crate::TEST_TIMEOUT, self.ended).await;
        let result = ended.expect("a command that ends").expect("an end");
        (result.code, result.message.unwrap_or_default())
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.ended.is_finished()
    }
}

/// The result of a command.
#[derive(Debug, PartialEq, Eq)]
pub struct Output {
    /// The exit code.
    pub code: u8,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: String,
    /// malai's own message.
    pub message: String,
}

impl Output {
    /// Its standard output, as text.
    pub fn out(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("text on standard output")
    }

    /// The same, asserting that the command succeeded and printed nothing on standard error.
    #[track_caller]
    pub fn clean(&self) -> &str {
        assert!(
            self.code == 0 && self.stderr.is_empty() && self.message.is_empty(),
            "{self:?}"
        );
        self.out()
    }

    /// Asserts that malai refused or failed with these words.
    #[track_caller]
    pub fn refused(&self, words: &str) {
        assert!(self.code == 255 && self.stdout.is_empty(), "{self:?}");
        assert!(self.message.contains(words), "no {words:?} in {self:?}");
    }
}
