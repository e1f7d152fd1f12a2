//! The reaper: a small process that ends the commands of a daemon that was killed, and cannot any more.
//!
//! It reads from a pipe which process groups begin and end. The end of the pipe is the end of the daemon,
//! whatever brought that about: what is registered then is ended as the daemon would have ended it.
//! The pipe belongs to the daemon for as long as it lives, and outlives any one reaper: one that dies
//! is replaced by another, which is told everything that is live.

pub mod record;
pub mod watch;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Once};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::{Pid, Signal};
use tokio::process::Child;
use tokio_util::sync::CancellationToken;

use record::{Record, SIZE};

pub use record::Kind;
pub(crate) use watch::groups_of_session;
pub use watch::{Orphans, watch};

/// How long a command whose client has gone may take to clean up after SIGHUP, before SIGKILL.
pub const GRACE: Duration = Duration::from_secs(5);

/// How soon a reaper that died is replaced at first; then twice that, and so on.
const MIN_RESTART_BACKOFF: Duration = Duration::from_millis(10);

/// The longest wait before a reaper is replaced.
const MAX_RESTART_BACKOFF: Duration = Duration::from_secs(60);

/// How the reaper's process is started.
#[derive(Debug, Clone)]
pub struct Program {
    /// The program that calls [`watch`] on its standard input.
    pub path: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Whether it has this process's standard error: what it cannot end is said there.
    pub keeps_stderr: bool,
}

/// This process's side of its reaper.
#[derive(Debug, Default)]
pub struct Reaper(Option<Inner>);

#[derive(Debug)]
struct Inner {
    program: Program,
    /// Held here too: writing to it must not fail while there is no reaper.
    read: OwnedFd,
    write: Arc<OwnedFd>,
    started: Once,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    live: BTreeMap<u32, Kind>,
    process: Option<Child>,
    /// Its process id, from its start until it is known to have ended.
    id: Option<Pid>,
    /// Whether it was told all that is live, and is told what changes.
    told: bool,
}

/// What a new process says of itself between fork and exec. Made before the fork.
#[derive(Debug)]
pub struct SelfRegistration(Option<(Arc<OwnedFd>, Kind)>);

/// A process group that is registered. Until [`Registration::ended`] the reaper ends it if this process dies.
#[derive(Debug)]
#[must_use]
pub struct Registration {
    reaper: Arc<Reaper>,
    id: u32,
}

impl Reaper {
    /// A reaper whose process is started when it is needed: by [`Reaper::start`] or the first command.
    ///
    /// # Errors
    ///
    /// There is no pipe.
    pub fn new(program: Program) -> io::Result<Arc<Self>> {
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        // A reaper that reads no more must not hold this process up.
        rustix::fs::fcntl_setfl(&write, rustix::fs::OFlags::NONBLOCK)?;
        Ok(Arc::new(Self(Some(Inner {
            program,
            read,
            write: write.into(),
            started: Once::new(),
            state: Mutex::default(),
        }))))
    }

    /// Starts the reaper's process, if that was not done before. A reaper that cannot be started is no
    /// reason not to run a command; it is logged. Within a runtime.
    pub fn start(&self) {
        if let Some(inner) = &self.0 {
            inner
                .started
                .call_once(|| inner.start(&mut inner.state.lock()));
        }
    }

    /// Replaces a reaper that dies, until `stop`.
    pub async fn replace(self: Arc<Self>, stop: CancellationToken) {
        let Some(inner) = &self.0 else { return };
        let mut pause = MIN_RESTART_BACKOFF;
        loop {
            let process = inner.state.lock().process.take();
            if let Some(mut process) = process {
                let begun = tokio::time::Instant::now();
                let status = tokio::select! {
                    status = process.wait() => status,
                    () = stop.cancelled() => return,
                };
                {
                    let mut state = inner.state.lock();
                    (state.id, state.told) = (None, false);
                }
                if begun.elapsed() > MAX_RESTART_BACKOFF {
                    pause = MIN_RESTART_BACKOFF;
                }
                let status = status.map_or_else(|error| error.to_string(), |end| end.to_string());
                tracing::error!(
                    "the reaper, which ends commands of a daemon that was killed, has ended ({status}); another one is started"
                );
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = MAX_RESTART_BACKOFF.min(pause * 2),
                () = stop.cancelled() => return,
            }
            inner.start(&mut inner.state.lock());
        }
    }

    /// What a process that is about to be started here will say of itself, so that it is registered
    /// even if this process is killed right after the fork.
    pub fn announcement(&self, kind: Kind) -> SelfRegistration {
        SelfRegistration(self.0.as_ref().map(|inner| (inner.write.clone(), kind)))
    }

    /// Registers a process that leads a group or session.
    ///
    /// Between the return of `posix_spawn` and this (some ten microseconds) a process that did not
    /// announce itself is unknown to the reaper. To announce itself it would have to be forked, which
    /// costs more than the whole rest of a short command.
    pub fn begun(self: &Arc<Self>, id: u32, kind: Kind) -> Registration {
        if let Some(inner) = &self.0 {
            let mut state = inner.state.lock();
            state.live.insert(id, kind);
            inner.say(&mut state, Record::Begun(kind, id));
        }
        Registration {
            reaper: self.clone(),
            id,
        }
    }

    /// The reaper's process id, while one runs.
    pub fn id(&self) -> Option<u32> {
        let id = self.0.as_ref()?.state.lock().id?;
        Some(id.as_raw_nonzero().get().cast_unsigned())
    }
}

impl Registration {
    /// It has ended, or what is left of it is nobody's to end.
    pub fn ended(self) {
        if let Some(inner) = &self.reaper.0 {
            let mut state = inner.state.lock();
            state.live.remove(&self.id);
            inner.say(&mut state, Record::Ended(self.id));
        }
    }
}

impl SelfRegistration {
    /// Says it, of the process that calls this. One system call after `getpid`: it allocates nothing and
    /// takes no lock. If the pipe is full the parent's word has to do.
    pub fn make(&self) {
        if let Some((pipe, kind)) = &self.0 {
            let id = rustix::process::getpid().as_raw_nonzero().get();
            let record = Record::Begun(*kind, id.cast_unsigned());
            let _ = rustix::io::write(pipe, &record.to_bytes());
        }
    }
}

impl Inner {
    fn start(&self, state: &mut State) {
        // What the last one has not read: all of it that counts is said again.
        self.drain();
        match self.spawn() {
            Ok(process) => {
                state.id = process.id().and_then(|id| Pid::from_raw(id.cast_signed()));
                state.process = Some(process);
                state.told = true;
                for (id, kind) in state.live.clone() {
                    self.say(state, Record::Begun(kind, id));
                }
            }
            Err(error) => tracing::error!(
                "the reaper cannot be started: {error}; if this process is killed, its commands run on"
            ),
        }
    }

    fn spawn(&self) -> io::Result<Child> {
        let mut spawn = tokio::process::Command::new(&self.program.path);
        // By its name, not by the way its program was found, and with nothing of the daemon's environment but
        // what says where and how to log.
        spawn.arg0("malai").args(&self.program.arguments);
        spawn.current_dir("/").env_clear();
        for registration in ["PATH", "MALAI_HOME", "MALAI_LOG", "RUST_LOG"] {
            spawn.envs(std::env::var_os(registration).map(|value| (registration, value)));
        }
        spawn.stdin(self.read.try_clone()?).stdout(Stdio::null());
        if !self.program.keeps_stderr {
            spawn.stderr(Stdio::null());
        }
        spawn.spawn()
    }

    /// Empties the pipe, while there is no reaper that reads it.
    fn drain(&self) {
        while rustix::io::ioctl_fionread(&self.read).is_ok_and(|unread| unread > 0) {
            let mut buffer = [0; 512 * SIZE];
            if rustix::io::read(&self.read, &mut buffer).is_err() {
                return;
            }
        }
    }

    fn say(&self, state: &mut State, record: Record) {
        if !state.told {
            return;
        }
        // The pipe may be full of what a reaper that hangs does not read. It is ended before it can
        // take this process for dead, and the next one is told everything.
        if let Err(error) = rustix::io::write(&self.write, &record.to_bytes()) {
            tracing::error!("the reaper does not read: {error}; it is replaced");
            state.told = false;
            if let Some(id) = state.id {
                let _ = rustix::process::kill_process(id, Signal::KILL);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One that never reads fills the pipe and must not hold anything up.
    #[tokio::test]
    async fn a_reaper_that_hangs_is_replaced() {
        let reaper = Reaper::new(Program {
            path: "sleep".into(),
            arguments: vec!["1000".into()],
            keeps_stderr: false,
        })
        .unwrap();
        reaper.start();
        let first = reaper.id().unwrap();
        let stop = CancellationToken::new();
        let replacing = tokio::spawn(reaper.clone().replace(stop.clone()));
        let stays = reaper.begun(7, Kind::Group);
        for id in 1000..6000 {
            reaper.begun(id, Kind::Group).ended();
        }
        while reaper.id().is_none_or(|id| id == first) {
            tokio::task::yield_now().await;
        }
        // The next one is told what is live, and nothing else is in its pipe.
        let mut told = [0; 2 * SIZE];
        let inner = reaper.0.as_ref().unwrap();
        let count = rustix::io::read(&inner.read, &mut told).unwrap();
        assert_eq!(told[..count], Record::Begun(Kind::Group, 7).to_bytes());
        stays.ended();
        stop.cancel();
        replacing.await.unwrap();
        let second = inner.state.lock().id.unwrap();
        rustix::process::kill_process(second, Signal::KILL).unwrap();
    }
}
