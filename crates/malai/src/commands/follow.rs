//! What reading the record and reading the log have in common: from when on, and waiting for more.

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use malai_wire::time::Timestamp;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::output::Printer;

/// How often it is looked whether there is more.
const LOOK: Duration = Duration::from_millis(200);

/// Lines that are shown first by whoever follows.
pub const SHOWN_FIRST: usize = 10;

/// Printed at once, in bytes.
const PIECE: usize = 64 * 1024;

/// What is to be printed, in pieces.
pub struct Pieces<'a> {
    text: String,
    printer: &'a Printer,
}

impl<'a> Pieces<'a> {
    /// Nothing yet.
    pub fn new(printer: &'a Printer) -> Self {
        Self {
            text: String::new(),
            printer,
        }
    }

    /// Adds text; prints what has come together when it is a piece.
    pub fn add(&mut self, text: &str) {
        self.text.push_str(text);
        if self.text.len() > PIECE {
            self.flush();
        }
    }

    /// Prints the rest.
    pub fn flush(&mut self) {
        if !self.text.is_empty() {
            self.printer.out(&self.text);
            self.text.clear();
        }
    }

    /// Whether nobody reads it any more.
    pub fn has_failed(&self) -> bool {
        self.printer.has_failed()
    }
}

/// Waits a moment; false if the reader of standard output has gone meanwhile.
pub fn wait() -> anyhow::Result<bool> {
    let stdout = io::stdout();
    let mut watched = [PollFd::new(&stdout, PollFlags::empty())];
    let timeout = Timespec {
        tv_sec: 0,
        tv_nsec: LOOK.subsec_nanos().into(),
    };
    match poll(&mut watched, Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let gone = PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL;
    Ok(!watched[0].revents().intersects(gone))
}

/// A moment as people write it: a time, or how long ago.
pub fn moment(text: &str) -> Result<Timestamp, String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
    ago(text)
        .map(|ago| Timestamp(now.saturating_sub(ago)))
        .or_else(|| text.parse().ok())
        .ok_or_else(|| {
            format!(
                "--since {}: it is 30s, 15m, 12h, 7d or 2w (ago), 2026-11-23, or 2026-11-23T07:22:48Z",
                malai_cluster::escape(text)
            )
        })
}

/// Milliseconds.
fn ago(text: &str) -> Option<u64> {
    let (count, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        "w" => 7 * 86_400,
        _ => return None,
    };
    count.parse::<u64>().ok()?.checked_mul(seconds * 1000)
}

#[cfg(test)]
mod tests {
    use super::ago;

    #[test]
    fn how_long_ago() {
        for (text, seconds) in [
            ("30s", Some(30)),
            ("15m", Some(900)),
            ("2h", Some(7200)),
            ("1d", Some(86_400)),
            ("2w", Some(14 * 86_400)),
            ("h", None),
            ("", None),
            ("-1h", None),
            ("1y", None),
            ("1ä", None),
            ("99999999999999999999d", None),
            ("18446744073709551615d", None),
        ] {
            assert_eq!(
                ago(text),
                seconds.map(|seconds: u64| seconds * 1000),
                "{text}"
            );
        }
    }
}
