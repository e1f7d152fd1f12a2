//! What may end a demo early: a signal, and a command that hangs.

use std::io;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;

/// Records Ctrl-C and similar signals, so that the demo ends between two commands and cleans up.
#[derive(Debug, Clone)]
pub struct Interrupts(Arc<AtomicU8>);

impl Interrupts {
    /// Catches signals from now on.
    pub fn catch() -> io::Result<Self> {
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGQUIT])?;
        let caught = Arc::new(AtomicU8::new(0));
        let seen = caught.clone();
        // Ends with the process.
        thread::spawn(move || {
            for signal in signals.forever() {
                seen.store(u8::try_from(signal).unwrap_or(1), Ordering::Relaxed);
            }
        });
        Ok(Self(caught))
    }

    /// The signal that came, if one did.
    pub fn caught(&self) -> Option<u8> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            signal => Some(signal),
        }
    }
}

/// Kills a process that takes too long. Drop it when the process has exited, before it is reaped.
#[derive(Debug)]
pub struct Watchdog(Option<(mpsc::Sender<()>, thread::JoinHandle<()>)>);

impl Watchdog {
    /// Gives the process this long.
    pub fn over(child: &Child, limit: Duration) -> Self {
        let pid = Pid::from_child(child);
        let (ended, wait) = mpsc::channel::<()>();
        let watching = thread::spawn(move || {
            if wait.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                // It may have exited by itself just now.
                let _ = rustix::process::kill_process(pid, Signal::KILL);
            }
        });
        Self(Some((ended, watching)))
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        if let Some((ended, watching)) = self.0.take() {
            drop(ended);
            // It only waits and kills, so nothing in it can fail.
            let _ = watching.join();
        }
    }
}

/// A process that is not a child of this one.
#[derive(Debug)]
pub struct ForeignProcess {
    pid: Pid,
    #[cfg(target_os = "linux")]
    handle: Option<std::os::fd::OwnedFd>,
}

impl ForeignProcess {
    /// The process with this id, while it lives.
    pub fn of(pid: Pid) -> Self {
        Self {
            pid,
            #[cfg(target_os = "linux")]
            handle: rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok(),
        }
    }

    /// Kills it.
    pub fn kill(&self) {
        // If it has exited already, that is fine.
        let _ = rustix::process::kill_process(self.pid, Signal::KILL);
    }

    /// Waits for its end; false if it is still alive after `limit`.
    #[cfg(target_os = "linux")]
    pub fn ended(&self, limit: Duration) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let Some(handle) = &self.handle else {
            // It had exited before a handle was opened.
            return true;
        };
        let limit = Timespec {
            tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(limit.subsec_nanos()),
        };
        let mut fds = [PollFd::new(handle, PollFlags::IN)];
        matches!(poll(&mut fds, Some(&limit)), Ok(1..))
    }

    /// Waits for its end; false if it is still alive after `limit`.
    #[cfg(not(target_os = "linux"))]
    pub fn ended(&self, limit: Duration) -> bool {
        let begun = std::time::Instant::now();
        // Without a handle to wait for, its end can only be polled.
        while rustix::process::test_kill_process(self.pid).is_ok() {
            if begun.elapsed() > limit {
                return false;
            }
            thread::sleep(Duration::from_millis(5));
        }
        true
    }
}
