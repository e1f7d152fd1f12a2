//! The only place that prints malai's own text, to standard output and standard error.

pub mod audit;
pub mod check;
pub mod doctor;
pub mod duration;
pub mod error;
pub mod exit;
pub mod explain;
pub mod init;
pub mod list;
pub mod ping;
pub mod sessions;
pub mod status;
pub mod style;
pub mod table;
pub mod text;
pub mod whois;

use std::cell::RefCell;
use std::io::{self, Write};

use malai_cluster::without_error_numbers;

use crate::output::exit::Exit;

/// The prefix of [`Printer::say`], which distinguishes malai's messages from a remote command's.
const NAME: &str = "malai: ";

/// Writes to standard output and standard error, and remembers when that failed.
#[derive(Debug, Default)]
pub struct Printer {
    failed: RefCell<Option<io::Error>>,
    /// Whether messages are dropped.
    quiet: bool,
}

impl Printer {
    /// A printer without messages, for `ssh -q`.
    pub fn quiet() -> Self {
        Self {
            quiet: true,
            ..Self::default()
        }
    }

    /// Writes to standard output, without the numbers of system errors.
    pub fn out(&self, text: &str) {
        self.verbatim(&without_error_numbers(text));
    }

    /// Writes records to standard output, unchanged.
    pub fn verbatim(&self, text: &str) {
        let mut failed = self.failed.borrow_mut();
        if failed.is_some() {
            return;
        }
        let mut stdout = io::stdout().lock();
        if let Err(error) = stdout
            .write_all(text.as_bytes())
            .and_then(|()| stdout.flush())
        {
            *failed = Some(error);
        }
    }

    /// Whether writing to standard output has failed: its reader may have gone.
    pub fn has_failed(&self) -> bool {
        self.failed.borrow().is_some()
    }

    /// Writes a message to standard error, with malai's name before it and a newline after it.
    pub fn say(&self, message: &str) {
        if self.quiet {
            return;
        }
        let message = without_error_numbers(message);
        // If this fails, there is no other place to report it.
        let _ = io::stderr().write_all(format!("{NAME}{message}\n").as_bytes());
    }

    /// Writes a line to standard error as it is: one that programs know from ssh.
    pub fn say_as_ssh(&self, line: &str) {
        if !self.quiet {
            let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
        }
    }

    /// The exit code, given the command's own code and whether everything could be written.
    ///
    /// A reader that went away (`malai status | head -1`) has what it wanted and does not count as a failure: a health
    /// check with `pipefail` must not fail because `grep -q` exited early.
    pub fn finish(self, exit: Exit) -> Exit {
        match self.failed.take() {
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                self.say(&format!("cannot write to standard output: {error}"));
                if exit == Exit::OK { Exit::FAILED } else { exit }
            }
            _ => exit,
        }
    }
}
