//! `malai audit`: shows the audit record. Needs no daemon.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use malai_node::audit::{Entry, Trail};
use malai_node::home::Home;
use malai_node::store::show;
use malai_wire::audit::{Event, Record};
use malai_wire::time::Timestamp;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::args::AuditArgs;
use crate::exit::Exit;
use crate::printer::Printer;
use crate::render;

/// How often it is looked whether there is more.
const LOOK: Duration = Duration::from_millis(200);

/// Lines that are shown first by whoever follows.
const SHOWN_FIRST: usize = 10;

/// Printed at once.
const PIECE: usize = 64 * 1024;

/// Shows what is wanted of it, and what comes, if that is wanted.
pub fn run(home: &Home, args: &AuditArgs, printer: &Printer) -> anyhow::Result<Exit> {
    let since = match args.since.as_deref().map(moment).transpose() {
        Ok(since) => since,
        Err(reason) => {
            printer.say(&reason);
            return Ok(Exit::USAGE);
        }
    };
    let wanted = Wanted { args, since };
    let path = home.audit();
    let mut trail = Trail::open(&path)?;
    if trail.is_absent() && !args.follow {
        printer.say(&format!(
            "there is no audit record yet: nothing was asked of this computer ({})",
            show(&path)
        ));
        return Ok(Exit::OK);
    }
    let most = args.lines.or(args.follow.then_some(SHOWN_FIRST));
    let mut shown = Shown::new(args.json, printer);
    if let Some(most) = most {
        let mut last = VecDeque::new();
        while let Some(entry) = trail.next_entry()? {
            if wanted.is(&entry.record) {
                last.push_back(entry);
                if last.len() > most {
                    last.pop_front();
                }
            }
        }
        last.iter().for_each(|entry| shown.add(entry));
    } else {
        show_all(&mut trail, &wanted, &mut shown)?;
    }
    shown.flush();
    while args.follow && !printer.has_failed() && wait()? {
        trail.look_again()?;
        show_all(&mut trail, &wanted, &mut shown)?;
        shown.flush();
    }
    trail.finish();
    if trail.unreadable() > 0 && !printer.has_failed() {
        printer.say(&format!(
            "lines that are no whole records and were left out: {} (torn by a crash or a full disk, or not malai's)",
            trail.unreadable()
        ));
    }
    Ok(Exit::OK)
}

fn show_all(trail: &mut Trail, wanted: &Wanted<'_>, shown: &mut Shown<'_>) -> anyhow::Result<()> {
    while let Some(entry) = trail.next_entry()? {
        if wanted.is(&entry.record) {
            shown.add(&entry);
        }
        if shown.printer.has_failed() {
            break;
        }
    }
    Ok(())
}

/// Waits a moment; false if the reader of standard output has gone meanwhile.
fn wait() -> anyhow::Result<bool> {
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

/// Which records are wanted.
struct Wanted<'a> {
    args: &'a AuditArgs,
    since: Option<Timestamp>,
}

impl Wanted<'_> {
    fn is(&self, record: &Record) -> bool {
        if self.since.is_some_and(|since| record.time < since) {
            return false;
        }
        // What is missing may be what is looked for.
        if matches!(record.event, Event::Lost(_)) {
            return true;
        }
        if let Some(cluster) = &self.args.cluster {
            let id = record.request().map(|request| request.cluster_id);
            if record.cluster() != Some(cluster) && id.is_none_or(|id| id.to_string() != *cluster) {
                return false;
            }
        }
        if let Some(from) = &self.args.from {
            let matches = record.request().is_some_and(|request| {
                request.machine.as_ref() == Some(from) || request.peer.to_string() == *from
            });
            if !matches {
                return false;
            }
        }
        let refused = match &record.event {
            Event::Decision(decision) => !decision.allowed,
            Event::Strangers(_) => true,
            _ => false,
        };
        refused || !self.args.refused
    }
}

/// What is to be printed, in pieces.
struct Shown<'a> {
    text: String,
    json: bool,
    printer: &'a Printer,
}

impl<'a> Shown<'a> {
    fn new(json: bool, printer: &'a Printer) -> Self {
        Self {
            text: String::new(),
            json,
            printer,
        }
    }

    fn add(&mut self, entry: &Entry) {
        match self.json {
            true => self.text.push_str(&String::from_utf8_lossy(&entry.line)),
            false => self.text.push_str(&render::audit::line(&entry.record)),
        }
        if self.text.len() > PIECE {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if !self.text.is_empty() {
            self.printer.out(&self.text);
            self.text.clear();
        }
    }
}

/// A moment as people write it: a time, or how long ago.
fn moment(text: &str) -> Result<Timestamp, String> {
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
