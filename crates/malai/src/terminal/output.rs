//! A session's output on its way to the terminal: passed on, held back while the terminal belongs to another process, and undone
//! if the session is cut off.
//!
//! The output goes through this process rather than directly from the daemon, so that nothing is shown after the user has left,
//! and so that the modes to reset are known if the daemon dies.

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use crate::terminal::modes::Modes;

/// How many bytes are moved at once.
const BUFFER: usize = 16 * 1024;

/// How long the end of a session waits for a terminal that does not accept output.
const STUCK: Duration = Duration::from_millis(250);

/// How often it checks.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// The output of a session, on a terminal.
#[derive(Debug)]
pub struct Output {
    pipe: OwnedFd,
    held: Mutex<bool>,
    released: Condvar,
    shown: Mutex<Shown>,
}

#[derive(Debug, Default)]
struct Shown {
    modes: Modes,
    /// Nothing is passed on any more.
    over: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Passed {
    Some,
    Nothing,
    /// Nothing more can arrive.
    End,
}

impl Output {
    /// The output, and the end that the session writes to; `None` if standard output is not a terminal and is written directly. It is
    /// held back until [`Output::release`].
    ///
    /// # Errors
    ///
    /// No descriptors are left.
    pub fn to_terminal() -> io::Result<Option<(Arc<Self>, OwnedFd)>> {
        if !rustix::termios::isatty(io::stdout()) {
            return Ok(None);
        }
        let (pipe, end) = pipe_with(PipeFlags::CLOEXEC)?;
        // For this end only: the other end is another open file.
        rustix::fs::fcntl_setfl(&pipe, rustix::fs::OFlags::NONBLOCK)?;
        let output = Arc::new(Self {
            pipe,
            held: Mutex::new(true),
            released: Condvar::new(),
            shown: Mutex::default(),
        });
        let passing = output.clone();
        // Ends with the pipe or the process.
        thread::spawn(move || passing.pass_on());
        Ok(Some((output, end)))
    }

    /// Holds output back.
    pub fn hold(&self) {
        *self.held() = true;
    }

    /// Releases output.
    pub fn release(&self) {
        *self.held() = false;
        self.released.notify_all();
    }

    /// The session has ended, and everything it wrote is in the pipe: passes on the rest, and resets what is still set, unless it
    /// ended by itself.
    pub fn finish(&self, by_itself: bool) {
        let mut shown = self.shown();
        while !shown.over {
            shown.over = self.pass_some(&mut shown) != Passed::Some;
            if shown.over && !by_itself {
                undo(&shown);
            }
        }
    }

    /// The user has left: nothing more is passed on, and what is set is reset. A terminal that accepts no output stays as it is.
    pub fn cut(&self) {
        let until = Instant::now() + STUCK;
        let mut shown = loop {
            match self.shown.try_lock() {
                Ok(shown) => break shown,
                Err(TryLockError::Poisoned(shown)) => break shown.into_inner(),
                Err(TryLockError::WouldBlock) if Instant::now() < until => {
                    thread::sleep(POLL_INTERVAL)
                }
                Err(TryLockError::WouldBlock) => return,
            }
        };
        if !std::mem::replace(&mut shown.over, true) {
            undo(&shown);
        }
    }

    fn pass_on(&self) {
        loop {
            let mut readable = [PollFd::new(&self.pipe, PollFlags::IN)];
            match rustix::event::poll(&mut readable, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => return,
            }
            {
                let mut held = self.held();
                while *held {
                    held = self
                        .released
                        .wait(held)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            }
            let mut shown = self.shown();
            if shown.over || self.pass_some(&mut shown) == Passed::End {
                return;
            }
        }
    }

    /// Passes on up to one buffer from the pipe.
    fn pass_some(&self, shown: &mut Shown) -> Passed {
        let mut buffer = [0; BUFFER];
        match rustix::io::read(&self.pipe, &mut buffer) {
            Err(Errno::INTR) => Passed::Some,
            Err(Errno::AGAIN) => Passed::Nothing,
            Ok(0) | Err(_) => Passed::End,
            Ok(count) => {
                shown.modes.read(&buffer[..count]);
                // If it cannot be written, there is no reader.
                write(&buffer[..count]);
                Passed::Some
            }
        }
    }

    fn held(&self) -> MutexGuard<'_, bool> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write(bytes: &[u8]) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(bytes).and_then(|()| stdout.flush());
}

fn undo(shown: &Shown) {
    let undo = shown.modes.undo();
    // In the background, where writing stops a process, nothing is written.
    if !undo.is_empty() && !super::stops_writers(io::stdout().as_fd()) {
        write(&undo);
    }
}
