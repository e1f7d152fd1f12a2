//! Pseudo-terminals for sessions here: size, foreground process group, input and output.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;

use malai_wire::peer::exec::{Size, Terminal};
use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::process::Pid;
use rustix::pty::OpenptFlags;
use rustix::termios::{InputModes, OptionalActions, SpecialCodeIndex, Winsize};

use crate::os::fd::{Direction, Fd};
use crate::os::user;

/// How much is read after the command has exited, at most. A pty buffers less than a quarter of that; more comes from
/// processes that the command left in the background.
const REST: usize = 64 * 1024;

/// A pty. When it is dropped, and all its readers and writers, the terminal hangs up.
#[derive(Debug)]
pub(crate) struct Pty {
    master: OwnedFd,
    /// Kept open: a terminal that no process has open is not at its end, because what runs on it can open it again.
    slave: OwnedFd,
}

impl Pty {
    /// Opens a terminal of this size. It belongs to `owner`, or else to the user of this process.
    ///
    /// # Errors
    ///
    /// The system has no more terminals, or none at all.
    pub(crate) fn open(terminal: &Terminal, owner: Option<u32>) -> io::Result<Self> {
        match owner {
            // The process that makes it owns it. Only root may give it away afterwards.
            Some(owner) if !user::is_root() => {
                user::acting_as(owner, || Self::open_for(terminal, Some(owner)))
            }
            _ => Self::open_for(terminal, owner),
        }
    }

    fn open_for(terminal: &Terminal, owner: Option<u32>) -> io::Result<Self> {
        let master =
            rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        rustix::fs::fcntl_setfl(&master, OFlags::RDWR | OFlags::NONBLOCK)?;
        rustix::pty::grantpt(&master)?;
        rustix::pty::unlockpt(&master)?;
        let name = rustix::pty::ptsname(&master, Vec::new())?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave = rustix::fs::open(name, flags, Mode::empty())?;
        if let Some(owner) = owner {
            if user::is_root() {
                rustix::fs::fchown(&slave, Some(Uid::from_raw(owner)), None::<Gid>)?;
            }
            // Mode as for every login: only for the user, except that others may write to it (write(1), wall(1)).
            rustix::fs::fchmod(&slave, Mode::RUSR | Mode::WUSR | Mode::WGRP)?;
        }
        let mut modes = rustix::termios::tcgetattr(&slave)?;
        // Makes erasing a character erase all its bytes.
        #[cfg(target_os = "linux")]
        modes.input_modes.insert(InputModes::IUTF8);
        rustix::termios::tcsetattr(&slave, OptionalActions::Now, &modes)?;
        let pty = Self { master, slave };
        pty.resize(terminal.size)?;
        Ok(pty)
    }

    /// The path of the command's side.
    ///
    /// # Errors
    ///
    /// The system refuses.
    pub(crate) fn name(&self) -> io::Result<OsString> {
        let name = rustix::pty::ptsname(&self.master, Vec::new())?;
        Ok(OsString::from_vec(name.into_bytes()))
    }

    /// The command's side, for its standard input, output and error.
    ///
    /// # Errors
    ///
    /// No descriptors are left.
    pub(crate) fn side_of_command(&self) -> io::Result<OwnedFd> {
        self.slave.try_clone()
    }

    /// Resizes the terminal; the system notifies its foreground process group (SIGWINCH).
    ///
    /// # Errors
    ///
    /// The system refuses.
    pub(crate) fn resize(&self, size: Size) -> io::Result<()> {
        let size = Winsize {
            ws_col: size.columns,
            ws_row: size.rows,
            ws_xpixel: size.width_pixels,
            ws_ypixel: size.height_pixels,
        };
        Ok(rustix::termios::tcsetwinsize(&self.master, size)?)
    }

    /// Its foreground process group.
    pub(crate) fn foreground(&self) -> Option<Pid> {
        rustix::termios::tcgetpgrp(&self.master).ok()
    }

    /// The bytes to type at the end of the input: the end-of-file character, twice after an unfinished line, which the
    /// first one only passes on.
    pub(crate) fn end_of_input(&self, unfinished: bool) -> Vec<u8> {
        let modes = rustix::termios::tcgetattr(&self.master);
        let end = modes.map_or(4, |modes| modes.special_codes[SpecialCodeIndex::VEOF]);
        // It is disabled, so this input has no end.
        match end {
            0 => Vec::new(),
            end => vec![end; if unfinished { 2 } else { 1 }],
        }
    }

    /// Its output.
    ///
    /// # Errors
    ///
    /// It cannot be awaited.
    pub(crate) fn reader(&self) -> io::Result<Fd> {
        Fd::own(self.master.try_clone()?, Direction::Read)
    }

    /// Its input: what would be typed.
    ///
    /// # Errors
    ///
    /// It cannot be awaited.
    pub(crate) fn writer(&self) -> io::Result<Fd> {
        Fd::own(self.master.try_clone()?, Direction::Write)
    }

    /// What it holds now, and nothing that comes later. The system moves what was written to the reader before it reports
    /// that there is nothing.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub(crate) fn rest(&self) -> io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        let mut buffer = [0; 4096];
        while rest.len() < REST {
            match rustix::io::read(&self.master, &mut buffer) {
                Ok(0) | Err(Errno::AGAIN | Errno::IO) => break,
                Err(Errno::INTR) => {}
                Ok(count) => rest.extend_from_slice(&buffer[..count]),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(rest)
    }
}

#[cfg(test)]
mod tests;
