//! The user's terminal: its kind, its size, and raw mode, which is restored on every exit.

pub mod input;
mod modes;
pub mod output;
pub mod tilde;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use malai_node::own_group;
use malai_wire::peer::exec::{Size, Term, Terminal};
use rustix::io::Errno;
use rustix::termios::{LocalModes, OptionalActions, Termios};

/// The modes of the terminal before it was made raw, and whether it is raw now.
static BEFORE: Mutex<Option<Before>> = Mutex::new(None);

struct Before {
    terminal: OwnedFd,
    modes: Termios,
    /// Whether it is raw now.
    raw: bool,
}

/// Whether standard input is a terminal.
pub fn is_here() -> bool {
    rustix::termios::isatty(io::stdin())
}

/// The terminal to request for a command: one like the terminal here, or the closest to it.
pub fn like_here() -> Terminal {
    let term = std::env::var("TERM").ok();
    let term = term.and_then(|name| Term::parse(&name).ok());
    Terminal {
        term: term.unwrap_or_else(Term::dumb),
        size: size().unwrap_or(Size {
            columns: 80,
            rows: 24,
            ..Size::default()
        }),
    }
}

/// The size of the terminal, from whichever standard stream is one.
pub fn size() -> Option<Size> {
    let (input, output, errors) = (io::stdin(), io::stdout(), io::stderr());
    let all = [input.as_fd(), output.as_fd(), errors.as_fd()];
    let size = all
        .into_iter()
        .find_map(|stream| rustix::termios::tcgetwinsize(stream).ok())?;
    Some(Size {
        columns: size.ws_col,
        rows: size.ws_row,
        width_pixels: size.ws_xpixel,
        height_pixels: size.ws_ypixel,
    })
}

/// Keeps the terminal raw until dropped, also by a panic. Code that ends the process in another way calls [`restore`] first.
#[derive(Debug)]
pub struct Raw(());

impl Raw {
    /// Makes this terminal raw: every key is passed on as it is, and nothing is echoed.
    ///
    /// # Errors
    ///
    /// It is not a terminal, or it has hung up.
    pub fn enter(terminal: BorrowedFd<'_>) -> io::Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let others = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                // First, so that the message can be read.
                restore();
                others(panic);
            }));
        });
        let modes = rustix::termios::tcgetattr(terminal)?;
        let mut before = lock();
        if before.is_none() {
            *before = Some(Before {
                terminal: terminal.try_clone_to_owned()?,
                modes,
                raw: false,
            });
        }
        drop(before);
        again()?;
        Ok(Self(()))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
        *lock() = None;
    }
}

/// Makes it raw again after [`restore`], if a session is still running. Call it only in the foreground: a process that changes a
/// terminal in the background is stopped (SIGTTOU).
///
/// # Errors
///
/// It has hung up.
pub fn again() -> io::Result<()> {
    if let Some(before) = &mut *lock() {
        let mut modes = before.modes.clone();
        modes.make_raw();
        set(&before.terminal, &modes)?;
        before.raw = true;
    }
    Ok(())
}

/// Restores the terminal if it is raw. Typed input is not lost. In the background the terminal belongs to another process, which
/// has set its modes, so it is not touched.
pub fn restore() {
    if let Some(before) = &mut *lock()
        && std::mem::take(&mut before.raw)
        && is_foreground(before.terminal.as_fd())
    {
        // A terminal that has hung up needs no restoring.
        let _ = set(&before.terminal, &before.modes);
    }
}

/// Whether this process may change the terminal: it is in the foreground, or there is no job control.
pub fn is_foreground(terminal: BorrowedFd<'_>) -> bool {
    // Also an error if the foreground process group has no number here: then no process here could take it.
    rustix::termios::tcgetpgrp(terminal).map_or(true, |foreground| own_group() == Some(foreground))
}

/// Whether a process that writes to the terminal now is stopped: it is in the background, and the terminal has `stty tostop`.
pub fn stops_writers(terminal: BorrowedFd<'_>) -> bool {
    let stops = |modes: Termios| modes.local_modes.contains(LocalModes::TOSTOP);
    rustix::termios::tcgetattr(terminal).is_ok_and(stops) && !is_foreground(terminal)
}

/// At once: waiting until all output is shown could take forever if the terminal is not read.
fn set(terminal: &OwnedFd, modes: &Termios) -> io::Result<()> {
    loop {
        match rustix::termios::tcsetattr(terminal, OptionalActions::Now, modes) {
            Err(Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

fn lock() -> MutexGuard<'static, Option<Before>> {
    BEFORE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::termios::tcgetattr;

    /// One test: there is one terminal in front of a user, and one place that knows it.
    #[test]
    fn a_terminal_is_as_it_was_after_whatever_ended_a_session() {
        let open = rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY;
        let master = rustix::pty::openpt(open).unwrap();
        rustix::pty::unlockpt(&master).unwrap();
        let name = rustix::pty::ptsname(&master, Vec::new()).unwrap();
        let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY;
        let terminal = rustix::fs::open(name, flags, rustix::fs::Mode::empty()).unwrap();
        let modes = || {
            let modes = tcgetattr(&terminal).unwrap();
            let all = (modes.input_modes, modes.output_modes, modes.local_modes);
            (all, modes.control_modes)
        };
        let before = modes();
        let is_raw = || !modes().0.2.contains(LocalModes::ICANON | LocalModes::ECHO);

        let raw = Raw::enter(terminal.as_fd()).unwrap();
        assert!(is_raw());
        restore();
        assert_eq!(modes(), before);
        again().unwrap();
        assert!(is_raw());
        drop(raw);
        assert_eq!(modes(), before);
        again().unwrap();
        assert_eq!(modes(), before, "nothing is raw without a session");

        let raw = Raw::enter(terminal.as_fd()).unwrap();
        // On another thread: the one that holds the session does not unwind by it.
        let panic = std::thread::spawn(|| panic!("on purpose")).join();
        assert!(panic.is_err());
        assert_eq!(modes(), before, "a panic restores it");
        drop(raw);
    }
}
