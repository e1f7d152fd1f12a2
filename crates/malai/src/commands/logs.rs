//! `malai logs`: shows the log of the daemon that runs in the background. Needs no daemon.

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

/// Of a longer line the rest is left out, in bytes. None of malai's is that long.
const LONGEST: usize = 1024 * 1024;

/// Where the log of a daemon in the foreground is.
const ELSEWHERE: &str =
    "a daemon in the foreground logs to where it was started (under systemd: journalctl -u malai)";

/// Shows what is wanted of it, and what comes, if that is wanted.
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
            "there is no {}: no daemon has run in the background here; {ELSEWHERE}",
            display_path(&home.log())
        ));
        if !args.follow {
            return Ok(Exit::FAILED);
        }
    } else if let Some(pid) = foreground_daemon(home) {
        printer.say(&format!(
            "the daemon that runs now (pid {pid}) does not write here: {ELSEWHERE}"
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

/// The process id of a running daemon that logs somewhere else, where that can be told.
fn foreground_daemon(home: &Home) -> Option<u32> {
    let LockState::Held { pid: Some(pid) } = lock::probe(home).ok()? else {
        return None;
    };
    let words = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let mut words = words.split(|byte| *byte == 0);
    words.all(|word| word != b"--in-background").then_some(pid)
}

/// What is wanted of it, to be printed.
struct Shown<'a> {
    since: Option<Timestamp>,
    /// Whether the last line that has a time is wanted: one without belongs to it.
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

    /// What a crashed process or another program has left in the file is not to move a cursor either.
    fn add(&mut self, line: &[u8]) {
        self.pieces.add(&format!("{}\n", escape_bytes(line)));
    }
}

/// When a line was written, in either format.
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
    // A date alone is nothing that a line of the log begins with.
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
