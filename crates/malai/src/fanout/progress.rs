//! The live progress on a terminal: which machines are still running, and how many are done.

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::FileType;

use crate::output::duration;

/// Erases the lines: the cursor stays where they start, so that anything the terminal echoes (`^C`) is inside them and is
/// erased too.
pub(super) const ERASE: &str = "\r\x1b[J";

/// How often it is redrawn.
pub const EVERY: Duration = Duration::from_millis(100);

/// Runs shorter than this show no progress.
const SOON: Duration = Duration::from_millis(400);

/// The live lines; hidden unless a person sees them.
#[derive(Debug)]
pub struct Progress {
    is_shown: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    total: usize,
    done: usize,
    failed: usize,
    begun: Instant,
    /// In the order in which they started.
    running: Vec<(String, Instant)>,
    turn: usize,
    /// What is on the screen.
    drawn: Option<String>,
    /// Nothing is drawn any more.
    over: bool,
}

impl Progress {
    /// None of `total` done yet.
    pub fn new(total: usize) -> Self {
        let state = Mutex::new(State {
            total,
            done: 0,
            failed: 0,
            begun: Instant::now(),
            running: Vec::new(),
            turn: 0,
            drawn: None,
            over: false,
        });
        Self {
            is_shown: watched(),
            state,
        }
    }

    /// Whether a person may see it.
    pub fn is_shown(&self) -> bool {
        self.is_shown
    }

    /// Writes something else to the terminal.
    pub fn aside<T>(&self, write: impl FnOnce() -> T) -> T {
        let mut state = self.state();
        let drawn = state.drawn.clone();
        state.erase();
        let result = write();
        if let Some(drawn) = drawn {
            state.put(drawn);
        }
        result
    }

    /// A machine has started.
    pub fn begun(&self, label: &str) {
        self.state()
            .running
            .push((label.to_owned(), Instant::now()));
    }

    /// A machine has finished.
    pub fn ended(&self, label: &str, succeeded: bool) {
        let mut state = self.state();
        state.running.retain(|(running, _)| running != label);
        state.done += 1;
        state.failed += usize::from(!succeeded);
    }

    /// Redraws it.
    pub fn draw(&self) {
        let mut state = self.state();
        if !self.is_shown || state.over || state.begun.elapsed() < SOON {
            return;
        }
        state.turn += 1;
        let size = rustix::termios::tcgetwinsize(io::stderr());
        let (rows, columns) = size.map_or((24, 80), |size| (size.ws_row, size.ws_col));
        let lines = state.shown(Instant::now(), rows.into(), columns.into());
        state.put(lines);
    }

    /// Removes it until it is drawn again.
    pub fn hide(&self) {
        self.state().erase();
    }

    /// Removes it for good.
    pub fn clear(&self) {
        let mut state = self.state();
        state.erase();
        state.over = true;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a person sees it: standard error is a terminal, and standard output has no reader that may write to that terminal
/// itself.
pub(super) fn watched() -> bool {
    let plain = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    let piped = rustix::fs::fstat(io::stdout()).is_ok_and(|stat| {
        matches!(
            FileType::from_raw_mode(stat.st_mode),
            FileType::Fifo | FileType::Socket
        )
    });
    io::stderr().is_terminal() && !plain && !piped
}

/// How long a machine has been running, in whole seconds.
fn running_for(now: Instant, begun: Instant) -> String {
    let seconds = now.duration_since(begun).as_secs();
    duration::format(Duration::from_secs(seconds))
}

impl State {
    /// Erases what is on the screen, if anything.
    fn erase(&mut self) {
        if self.drawn.take().is_some() {
            // If it cannot be written, there is no reader.
            let _ = io::stderr().write_all(ERASE.as_bytes());
        }
    }

    /// Replaces the lines on the screen.
    fn put(&mut self, lines: String) {
        let mut text = ERASE.to_owned() + &lines.replace('\n', "\r\n") + "\r";
        let below = lines.matches('\n').count();
        if below > 0 {
            text += &format!("\x1b[{below}A");
        }
        let _ = io::stderr().write_all(text.as_bytes());
        self.drawn = Some(lines);
    }

    /// A line for each machine that has been running for a while, as far as they fit, and one for all of them.
    fn shown(&self, now: Instant, rows: usize, columns: usize) -> String {
        const TURNS: [char; 4] = ['|', '/', '-', '\\'];
        let sign = TURNS[self.turn % TURNS.len()];
        let long = |(_, begun): &&(String, Instant)| now.duration_since(*begun) >= SOON;
        let long: Vec<_> = self.running.iter().filter(long).collect();
        let room = (rows / 2).clamp(1, 10);
        let mut lines: Vec<String> = long
            .iter()
            .take(room)
            .map(|(label, begun)| format!("{sign} {label}  {}", running_for(now, *begun)))
            .collect();
        let State {
            total,
            done,
            failed,
            ..
        } = self;
        let mut all = format!("  {done} of {total} done");
        if *failed > 0 {
            all += &format!(", {failed} failed");
        }
        all += &format!(", {} running", self.running.len());
        if long.len() > room
            && let Some((label, begun)) = long.first()
        {
            let time = running_for(now, *begun);
            all += &format!("; the slowest: {label}, {time}");
        }
        lines.push(all);
        let width = columns.saturating_sub(1).max(10);
        let cut = |line: String| line.chars().take(width).collect::<String>();
        lines.into_iter().map(cut).collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_come_first_and_there_is_room_for_the_rest_of_the_screen() {
        let begun = Instant::now();
        let running = |count: u64| {
            (1..=count)
                .map(|number| (format!("m{number}"), begun + Duration::from_millis(number)))
                .collect()
        };
        let mut state = State {
            total: 200,
            done: 3,
            failed: 0,
            begun,
            running: running(2),
            turn: 1,
            drawn: None,
            over: false,
        };
        let now = begun + Duration::from_secs(9);
        assert_eq!(
            state.shown(now, 24, 80),
            "/ m1  8s\n/ m2  8s\n  3 of 200 done, 2 running"
        );
        assert_eq!(
            state.shown(begun + SOON, 24, 80),
            "  3 of 200 done, 2 running"
        );
        state.running = running(64);
        state.failed = 1;
        let shown = state.shown(now, 24, 30);
        assert_eq!(shown.lines().count(), 11, "{shown}");
        assert!(
            shown.ends_with("\n  3 of 200 done, 1 failed, 64"),
            "{shown}"
        );
        let wide = state.shown(now, 6, 80);
        assert_eq!(wide.lines().count(), 4, "{wide}");
        assert!(wide.ends_with("64 running; the slowest: m1, 8s"), "{wide}");
    }
}
