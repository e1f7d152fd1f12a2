//! The common part of `malai audit` and `malai logs`: buffered printing, `--since`, and waiting for more.

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use malai_wire::time::Timestamp;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::output::{Printer, duration};

/// How often the file is checked for more.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// How many lines `--follow` shows first.
pub const SHOWN_FIRST: usize = 10;

/// How much is printed at once, in bytes.
const BUFFER: usize = 64 * 1024;

/// Collects text and prints it in large pieces.
pub struct BufferedPrinter<'a> {
    text: String,
    printer: &'a Printer,
}

impl<'a> BufferedPrinter<'a> {
    /// Prints through `printer`.
    pub fn new(printer: &'a Printer) -> Self {
        Self {
            text: String::new(),
            printer,
        }
    }

    /// Adds text, and prints all of it once there is enough.
    pub fn add(&mut self, text: &str) {
        self.text.push_str(text);
        if self.text.len() > BUFFER {
            self.flush();
        }
    }

    /// Prints the rest.
    pub fn flush(&mut self) {
        if !self.text.is_empty() {
            self.printer.verbatim(&self.text);
            self.text.clear();
        }
    }

    /// Whether standard output cannot be written any more.
    pub fn has_failed(&self) -> bool {
        self.printer.has_failed()
    }
}

/// Waits before the file is read again; false if the reader of standard output has gone meanwhile.
pub fn wait_for_change() -> anyhow::Result<bool> {
    let stdout = io::stdout();
    let mut watched = [PollFd::new(&stdout, PollFlags::empty())];
    let timeout = Timespec {
        tv_sec: 0,
        tv_nsec: POLL_INTERVAL.subsec_nanos().into(),
    };
    match poll(&mut watched, Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let gone = PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL;
    Ok(!watched[0].revents().intersects(gone))
}

/// Parses the value of `--since`: a duration (ago) or a time.
pub fn parse_since(text: &str) -> Result<Timestamp, String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.unwrap_or_default();
    if let Ok(ago) = duration::parse(text) {
        let since = now.saturating_sub(ago).as_millis();
        return Ok(Timestamp(u64::try_from(since).unwrap_or(u64::MAX)));
    }
    text.parse().map_err(|_| {
        format!(
            "--since {}: write how long ago, as in 30s, 15m, 1.5h, 7d or 2w, or a time in UTC: 2026-11-23 or 2026-11-23T07:22:48Z",
            malai_cluster::escape(text)
        )
    })
}
