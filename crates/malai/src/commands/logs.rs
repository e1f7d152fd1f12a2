//! `malai logs`: shows the log of the background daemon. Needs no daemon.

use std::collections::VecDeque;
use std::fs;

use malai_cluster::escape_bytes;
use malai_node::{Home, LockState, RotatedReader, display_path, lock};
use malai_wire::time::Timestamp;

use crate::cli::LogsArgs;
use crate::commands::follow::{BufferedPrinter, SHOWN_FIRST, parse_since, wait_for_change};
use crate::logging;
use crate::output::Printer;
use crate::output::exit::Exit;

/// The maximum length of a line in bytes; the rest is dropped. malai's own lines are shorter.
const LONGEST: usize = 1024 * 1024;

/// Where a foreground daemon logs.
const ELSEWHERE: &str =
    "one in the foreground logs to its standard error (under systemd: journalctl -u malai)";

/// Shows the lines that match, and new ones with `--follow`.
pub fn run(home: &Home, args: &LogsArgs, printer: &Printer) -> anyhow::Result<Exit> {
    let since = match args.since.as_deref().map(parse_since).transpose() {
        Ok(since) => since,
        Err(reason) => {
            printer.say(&reason);
            return Ok(Exit::USAGE);
        }
    };
    let mut lines = RotatedReader::open(logging::files(home), LONGEST)?;
    if lines.is_absent() {
        printer.say(&format!(
            "there is no log file {}: only a daemon in the background writes one; {ELSEWHERE}",
            display_path(&home.log())
        ));
        if !args.follow {
            return Ok(Exit::FAILED);
        }
    } else if let Some(pid) = foreground_daemon(home) {
        printer.say(&format!(
            "the running daemon (pid {pid}) does not write to this log, because it is in the foreground; {ELSEWHERE}"
        ));
    }
    let mut shown = Shown::new(since, printer);
    match args.lines.or(args.follow.then_some(SHOWN_FIRST)) {
        Some(most) => {
            let mut last = VecDeque::new();
            while let Some(line) = lines.next_line()? {
                if shown.wants(&line) {
                    last.push_back(line);
                    if last.len() > most {
                        last.pop_front();
                    }
                }
            }
            last.iter().for_each(|line| shown.add(line));
        }
        None => shown.all(&mut lines)?,
    }
    shown.pieces.flush();
    while args.follow && !printer.has_failed() && wait_for_change()? {
        lines.poll()?;
        shown.all(&mut lines)?;
        shown.pieces.flush();
    }
    Ok(Exit::OK)
}

/// The process id of a running daemon that logs elsewhere, if known.
fn foreground_daemon(home: &Home) -> Option<u32> {
    let LockState::Held { pid: Some(pid) } = lock::probe(home).ok()? else {
        return None;
    };
    let words = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let mut words = words.split(|byte| *byte == 0);
    words.all(|word| word != b"--in-background").then_some(pid)
}

/// Prints the lines that match.
struct Shown<'a> {
    since: Option<Timestamp>,
    /// Whether the last line with a time matched: a line without a time belongs to it.
    wanted: bool,
    pieces: BufferedPrinter<'a>,
}

impl<'a> Shown<'a> {
    fn new(since: Option<Timestamp>, printer: &'a Printer) -> Self {
        Self {
            since,
            wanted: since.is_none(),
            pieces: BufferedPrinter::new(printer),
        }
    }

    fn wants(&mut self, line: &[u8]) -> bool {
        if let Some(since) = self.since
            && let Some(time) = time_of(line)
        {
            self.wanted = time >= since;
        }
        self.wanted
    }

    fn all(&mut self, lines: &mut RotatedReader) -> anyhow::Result<()> {
        while let Some(line) = lines.next_line()? {
            if self.wants(&line) {
                self.add(&line);
            }
            if self.pieces.has_failed() {
                break;
            }
        }
        Ok(())
    }

    /// Text from a crashed process or another program must not control the terminal either.
    fn add(&mut self, line: &[u8]) {
        self.pieces.add(&format!("{}\n", escape_bytes(line)));
    }
}

/// The time of a line, in either format.
fn time_of(line: &[u8]) -> Option<Timestamp> {
    let text = match line.first()? {
        b'{' => {
            let value: serde_json::Value = serde_json::from_slice(line).ok()?;
            value.get("time")?.as_str()?.to_owned()
        }
        _ => std::str::from_utf8(line.split(|byte| *byte == b' ').next()?)
            .ok()?
            .to_owned(),
    };
    // A line of the log never starts with a date alone.
    text.contains('T').then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_a_line_was_written() {
        let moment: Timestamp = "2026-11-23T07:22:48.123Z".parse().unwrap();
        for (line, time) in [
            ("2026-11-23T07:22:48.123Z  INFO ready", Some(moment)),
            (
                "{\"level\":\"INFO\",\"time\":\"2026-11-23T07:22:48.123Z\"}",
                Some(moment),
            ),
            ("2026-11-23 thread main panicked", None),
            ("{\"time\":7}", None),
            ("", None),
            ("note: run with RUST_BACKTRACE=1", None),
        ] {
            assert_eq!(time_of(line.as_bytes()), time, "{line}");
        }
    }
}
