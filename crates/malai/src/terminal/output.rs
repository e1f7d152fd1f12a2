//! What a session shows, on its way to the terminal: passed on as it comes, held back while the terminal is somebody
//! else's, and undone where the session ends in the middle.
//!
//! It goes through this process, and is not written by the daemon, so that nothing is shown any more once the user has
//! left, and what was switched on is known when the daemon is gone.

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use crate::terminal::modes::Modes;

/// Bytes that are moved at once.
const BUFFER: usize = 16 * 1024;

/// How long the end of a session waits for a terminal that does not take what is written to it.
const STUCK: Duration = Duration::from_millis(250);

/// How often it looks.
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
    /// Nothing can come any more.
    End,
}

impl Output {
    /// The output, and the end that the session writes to; none where standard output is not a terminal, and is
    /// written to as it is. It is held until [`Output::release`].
    ///
    /// # Errors
    ///
    /// No more descriptors.
    pub fn to_terminal() -> io::Result<Option<(Arc<Self>, OwnedFd)>> {
        if !rustix::termios::isatty(io::stdout()) {
            return Ok(None);
        }
        let (pipe, end) = pipe_with(PipeFlags::CLOEXEC)?;
        // Of this end alone: the other one is another open file.
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

    /// Holds it back.
    pub fn hold(&self) {
        *self.held() = true;
    }

    /// Passes it on.
    pub fn release(&self) {
        *self.held() = false;
        self.released.notify_all();
    }

    /// The session has ended, and everything that it wrote is in the pipe: passes on the rest, and undoes what is
    /// still switched on, if it did not end by itself.
    pub fn finish(&self, by_itself: bool) {
        let mut shown = self.shown();
        while !shown.over {
            shown.over = self.pass_some(&mut shown) != Passed::Some;
            if shown.over && !by_itself {
                undo(&shown);
            }
        }
    }

    /// The user has left: nothing is passed on any more, and what is switched on is undone. A terminal that takes
    /// nothing stays as it is.
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

    /// Passes on what is in the pipe, up to a buffer.
    fn pass_some(&self, shown: &mut Shown) -> Passed {
        let mut buffer = [0; BUFFER];
        match rustix::io::read(&self.pipe, &mut buffer) {
            Err(Errno::INTR) => Passed::Some,
            Err(Errno::AGAIN) => Passed::Nothing,
            Ok(0) | Err(_) => Passed::End,
            Ok(count) => {
                shown.modes.read(&buffer[..count]);
                // Where it cannot be written nobody looks any more.
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
