//! The reaper: a small process that ends the commands of a daemon that was killed.
//!
//! It reads from a pipe which process groups start and end. The pipe ends when the daemon exits, for any reason; the reaper
//! then ends the registered process groups as the daemon would have. The pipe belongs to the daemon and outlives any
//! single reaper: a reaper that dies is replaced by another one, which is told everything that is live.

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

use crate::os::user::KeptCapability;
use record::{Record, SIZE};

pub use record::Kind;
pub(crate) use watch::groups_of_session;
pub use watch::{Orphans, watch};

/// How long a command whose client has gone may clean up after SIGHUP, before SIGKILL.
pub const GRACE: Duration = Duration::from_secs(5);

/// The delay before a dead reaper is replaced. It doubles each time.
const MIN_RESTART_BACKOFF: Duration = Duration::from_millis(10);

/// The longest delay before a dead reaper is replaced.
const MAX_RESTART_BACKOFF: Duration = Duration::from_secs(60);

/// How to start the reaper's process.
#[derive(Debug, Clone)]
pub struct Program {
    /// The program, which must call [`watch`] on its standard input.
    pub path: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Whether it inherits this process's standard error, for reporting what it cannot end.
    pub keeps_stderr: bool,
}

/// This process's side of its reaper.
#[derive(Debug, Default)]
pub struct Reaper(Option<Inner>);

#[derive(Debug)]
struct Inner {
    program: Program,
    /// Kept open here, too: writing must not fail while there is no reaper.
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
    /// Whether it was told everything that is live, and is told changes.
    told: bool,
}

/// What a new process reports about itself between fork and exec. Built before the fork.
#[derive(Debug)]
pub struct SelfRegistration(Option<(Arc<OwnedFd>, Kind)>);

/// A registered process group. Until [`Registration::ended`] is called, the reaper ends it if this process dies.
#[derive(Debug)]
#[must_use]
pub struct Registration {
    reaper: Arc<Reaper>,
    id: u32,
}

impl Reaper {
    /// A reaper whose process is started when needed: by [`Reaper::start`] or the first command.
    ///
    /// # Errors
    ///
    /// The pipe cannot be created.
    pub fn new(program: Program) -> io::Result<Arc<Self>> {
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        // A reaper that stops reading must not block this process.
        rustix::fs::fcntl_setfl(&write, rustix::fs::OFlags::NONBLOCK)?;
        Ok(Arc::new(Self(Some(Inner {
            program,
            read,
            write: write.into(),
            started: Once::new(),
            state: Mutex::default(),
        }))))
    }

    /// Starts the reaper's process, if that was not done before. If it cannot be started, commands run nevertheless, and the
    /// failure is logged. Must be called within a runtime.
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
                    "the reaper, which ends the commands of a killed daemon, has exited ({status}); starting another one"
                );
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = MAX_RESTART_BACKOFF.min(pause * 2),
                () = stop.cancelled() => return,
            }
            inner.start(&mut inner.state.lock());
        }
    }

    /// The registration that a process to be started here makes itself, so that it is registered even if this process is
    /// killed right after the fork.
    pub fn announcement(&self, kind: Kind) -> SelfRegistration {
        SelfRegistration(self.0.as_ref().map(|inner| (inner.write.clone(), kind)))
    }

    /// Registers a process that leads a group or session.
    ///
    /// A process that does not register itself is unknown to the reaper between the return of `posix_spawn` and this call
    /// (some ten microseconds). To register itself it would have to be forked, which costs more than all the rest of a
    /// short command.
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

    /// The reaper's process id, while one is running.
    pub fn id(&self) -> Option<u32> {
        let id = self.0.as_ref()?.state.lock().id?;
        Some(id.as_raw_nonzero().get().cast_unsigned())
    }
}

impl Registration {
    /// The process group has ended, or what remains of it must not be ended.
    pub fn ended(self) {
        if let Some(inner) = &self.reaper.0 {
            let mut state = inner.state.lock();
            state.live.remove(&self.id);
            inner.say(&mut state, Record::Ended(self.id));
        }
    }
}

impl SelfRegistration {
    /// Registers the calling process. One system call after `getpid`: it allocates nothing and takes no lock. If the pipe is
    /// full, the parent's registration has to suffice.
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
        // Discards what the last reaper has not read: everything that counts is sent again.
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
                "cannot start the reaper: {error}; if this process is killed, its commands keep running"
            ),
        }
    }

    fn spawn(&self) -> io::Result<Child> {
        let mut spawn = tokio::process::Command::new(&self.program.path);
        // By its name rather than by the path of its program, and without the daemon's environment, except for the variables
        // that say where and how to log.
        spawn.arg0("malai").args(&self.program.arguments);
        spawn.current_dir("/").env_clear();
        for registration in ["PATH", "MALAI_HOME", "MALAI_LOG", "RUST_LOG"] {
            spawn.envs(std::env::var_os(registration).map(|value| (registration, value)));
        }
        spawn.stdin(self.read.try_clone()?).stdout(Stdio::null());
        if !self.program.keeps_stderr {
            spawn.stderr(Stdio::null());
        }
        let kept = KeptCapability::new();
        if kept.is_needed() {
            // SAFETY: system calls only; nothing is allocated or locked.
            #[allow(unsafe_code)]
            unsafe {
                spawn.pre_exec(move || kept.keep())
            };
        }
        spawn.spawn()
    }

    /// Empties the pipe while no reaper reads it.
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
        // The pipe may be full because the reaper hangs. It is ended before it can take this process for dead, and the next
        // one is told everything.
        if let Err(error) = rustix::io::write(&self.write, &record.to_bytes()) {
            tracing::error!("the reaper is not reading: {error}; replacing it");
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
