//! Progress of a copy, for people or scripts: one line that is redrawn, or JSON lines.

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use malai_cluster::escape;
use malai_node::copy::Observer;
use parking_lot::Mutex;
use serde_json::json;

use super::There;
use crate::cli::cp::Location;
use crate::output::{Printer, duration};

/// How often the line is drawn.
const EVERY: Duration = Duration::from_millis(100);

/// Progress is shown only after this time.
const SOON: Duration = Duration::from_millis(400);

/// The rate is computed over this many draws.
const SAMPLES: usize = 30;

/// What is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// Problems alone.
    Plain,
    /// And a line on the terminal.
    Bar,
    /// Lines of JSON.
    Json,
}

impl Style {
    /// What fits where this process writes.
    pub(super) fn of(json: bool) -> Self {
        let plain = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        match json {
            true => Self::Json,
            false if io::stderr().is_terminal() && !plain => Self::Bar,
            false => Self::Plain,
        }
    }
}

#[derive(Debug)]
struct State {
    begun: Instant,
    /// Bytes that are to be copied, as far as known.
    total: u64,
    /// Bytes that were sent or received.
    moved: u64,
    /// Bytes that did not have to be.
    skipped: u64,
    verified: u64,
    files: u64,
    stored: u64,
    unchanged: u64,
    failed: u64,
    all_offered: u64,
    current: String,
    samples: VecDeque<(Instant, u64)>,
    drawn: bool,
}

/// Everything that is copied by one command.
pub(super) struct Progress {
    state: Arc<Mutex<State>>,
    style: Style,
    /// The number of copies: the total is known once all have reported theirs.
    copies: u64,
    ticker: Option<(mpsc::Sender<()>, JoinHandle<()>)>,
}

impl Progress {
    pub(super) fn new(style: Style, copies: u64) -> Self {
        let state = Arc::new(Mutex::new(State {
            begun: Instant::now(),
            total: 0,
            moved: 0,
            skipped: 0,
            verified: 0,
            files: 0,
            stored: 0,
            unchanged: 0,
            failed: 0,
            all_offered: 0,
            current: String::new(),
            samples: VecDeque::new(),
            drawn: false,
        }));
        let ticker = (style != Style::Plain).then(|| {
            let (stop, stopped) = mpsc::channel();
            let shared = state.clone();
            let every = if style == Style::Json {
                Duration::from_secs(1)
            } else {
                EVERY
            };
            let thread = std::thread::spawn(move || {
                while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                    shared.lock().tick(style, copies);
                }
            });
            (stop, thread)
        });
        Self {
            state,
            style,
            copies,
            ticker,
        }
    }

    /// The observer of one copy, to a target or to here.
    pub(super) fn report(&self, to: Option<&There>, sources: &[Location]) -> Report {
        let machine = to.and_then(|to| to.one_of.as_deref());
        Report {
            state: self.state.clone(),
            style: self.style,
            prefix: machine
                .map(|machine| format!("{machine}: "))
                .unwrap_or_default(),
            sources: sources.iter().map(Location::shown).collect(),
            destination: to.map(|to| format!("{}:", to.target)).unwrap_or_default(),
        }
    }

    /// Says something besides.
    pub(super) fn say(&self, message: &str) {
        say(&self.state, self.style, message);
    }

    /// Ends what is shown. Whether something was not copied.
    pub(super) fn end(mut self) -> bool {
        if let Some((stop, thread)) = self.ticker.take() {
            drop(stop);
            // It does nothing that fails.
            let _ = thread.join();
        }
        let mut state = self.state.lock();
        state.erase();
        if self.style == Style::Json {
            let event = json!({
                "event": "end", "bytes": state.moved, "skipped": state.skipped, "verified": state.verified,
                "stored": state.stored, "unchanged": state.unchanged, "failed": state.failed,
                "copies": self.copies, "seconds": state.begun.elapsed().as_secs_f64(),
            });
            Printer::default().out(&format!("{event}\n"));
        }
        state.failed > 0
    }
}

fn say(state: &Mutex<State>, style: Style, message: &str) {
    let mut state = state.lock();
    state.erase();
    if style == Style::Json {
        let event = json!({"event": "message", "text": message});
        Printer::default().out(&format!("{event}\n"));
    }
    Printer::default().say(message);
}

impl State {
    fn tick(&mut self, style: Style, copies: u64) {
        let now = Instant::now();
        self.samples.push_back((now, self.moved));
        if self.samples.len() > SAMPLES {
            self.samples.pop_front();
        }
        if style == Style::Json {
            let event = json!({
                "event": "progress", "bytes": self.moved, "skipped": self.skipped, "total": self.total,
                "total_known": self.all_offered >= copies, "files": self.files,
                "done": self.stored + self.unchanged, "failed": self.failed,
            });
            Printer::default().out(&format!("{event}\n"));
        } else if now.duration_since(self.begun) >= SOON {
            let columns =
                rustix::termios::tcgetwinsize(io::stderr()).map_or(80, |size| size.ws_col);
            let columns = if columns == 0 { 80 } else { columns };
            let line = self.line(now, usize::from(columns), copies);
            // If this fails, nobody sees it.
            let _ = io::stderr().write_all(format!("\r\x1b[K{line}\r").as_bytes());
            self.drawn = true;
        }
    }

    fn erase(&mut self) {
        if std::mem::take(&mut self.drawn) {
            let _ = io::stderr().write_all(b"\r\x1b[K");
        }
    }

    /// Bytes a second, lately.
    fn rate(&self, now: Instant) -> f64 {
        let (begun, before) = self.samples.front().copied().unwrap_or((self.begun, 0));
        let seconds = now.duration_since(begun).as_secs_f64();
        (self.moved - before) as f64 / seconds.max(0.001)
    }

    fn line(&self, now: Instant, columns: usize, copies: u64) -> String {
        let done = (self.moved + self.skipped).min(self.total.max(self.moved));
        let is_known = self.all_offered >= copies && self.total > 0;
        let rate = self.rate(now);
        let mut text = match is_known {
            true => {
                let share = done as f64 / self.total.max(1) as f64;
                let filled = (share * 20.0) as usize;
                let bar = format!("{:-<20}", "#".repeat(filled.min(20)));
                format!(
                    "[{bar}] {:3.0}%  {} of {}",
                    share * 100.0,
                    size(done),
                    size(self.total)
                )
            }
            false => size(done),
        };
        text += &format!("  {}/s", size(rate as u64));
        if is_known && rate >= 1.0 {
            let left = ((self.total - done.min(self.total)) as f64 / rate).min(1e9);
            text += &format!(
                "  {} left",
                duration::format(Duration::from_secs(left as u64))
            );
        }
        if self.files > 1 {
            text += &format!("  {} of {} files", self.stored + self.unchanged, self.files);
        }
        if self.moved == 0 && self.verified > 0 {
            text += &format!("  {} verified", size(self.verified));
        }
        text += &format!("  {}", self.current);
        text.chars()
            .take(columns.saturating_sub(1).max(10))
            .collect()
    }
}

/// A number of bytes as people read it.
fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    match unit {
        "B" => format!("{bytes} B"),
        _ => format!("{value:.1} {unit}"),
    }
}

/// The observer of one copy.
pub(super) struct Report {
    state: Arc<Mutex<State>>,
    style: Style,
    prefix: String,
    sources: Vec<Vec<u8>>,
    /// `<target>:`, if the destination is a machine.
    destination: String,
}

impl Report {
    fn shown(&self, source: u32, path: &[u8]) -> String {
        let mut shown = self
            .sources
            .get(source as usize)
            .cloned()
            .unwrap_or_default();
        if !path.is_empty() {
            if !shown.ends_with(b"/") {
                shown.push(b'/');
            }
            shown.extend(path);
        }
        escape(&String::from_utf8_lossy(&shown))
    }
}

impl Observer for Report {
    fn offered(&mut self, source: u32, path: &[u8], size: u64) {
        let current = match self.style {
            Style::Bar => self.shown(source, path),
            _ => String::new(),
        };
        let mut state = self.state.lock();
        state.total += size;
        state.files += 1;
        state.current = current;
    }

    fn all_offered(&mut self) {
        self.state.lock().all_offered += 1;
    }

    fn moved(&mut self, bytes: u64) {
        self.state.lock().moved += bytes;
    }

    fn skipped(&mut self, bytes: u64) {
        self.state.lock().skipped += bytes;
    }

    fn verified(&mut self, bytes: u64) {
        self.state.lock().verified += bytes;
    }

    fn stored(&mut self, _source: u32, _path: &[u8], unchanged: bool) {
        let mut state = self.state.lock();
        match unchanged {
            true => state.unchanged += 1,
            false => state.stored += 1,
        }
    }

    fn problem(&mut self, source: u32, path: &[u8], why: &str) {
        self.state.lock().failed += 1;
        let message = format!(
            "{}{}: {}",
            self.prefix,
            self.shown(source, path),
            escape(why)
        );
        say(&self.state, self.style, &message);
    }

    fn not_written(&mut self, what: &str) {
        self.state.lock().failed += 1;
        let message = escape(&format!("{}{what}", self.destination));
        say(&self.state, self.style, &message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_much_how_fast_and_how_long() {
        let progress = Progress::new(Style::Plain, 1);
        let mut state = progress.state.lock();
        let begun = state.begun;
        state.total = 4 << 20;
        state.moved = 1 << 20;
        state.skipped = 1 << 20;
        state.current = "a".into();
        let now = begun + Duration::from_secs(2);
        assert_eq!(state.line(now, 80, 1), "2.0 MiB  512.0 KiB/s  a");
        state.all_offered = 1;
        state.files = 3;
        state.stored = 1;
        assert_eq!(
            state.line(now, 90, 1),
            "[##########----------]  50%  2.0 MiB of 4.0 MiB  512.0 KiB/s  4s left  1 of 3 files  a"
        );
        assert_eq!(state.line(now, 24, 1), "[##########----------] ");
        assert_eq!(size(1023), "1023 B");
    }
}
