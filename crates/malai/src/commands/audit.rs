//! `malai audit`: shows the audit record. Needs no daemon.

use std::collections::VecDeque;

use malai_node::{AuditReader, Entry, Home, display_path};
use malai_wire::audit::{Change, Event, Record};
use malai_wire::time::Timestamp;

use crate::cli::AuditArgs;
use crate::commands::follow::{BufferedPrinter, SHOWN_FIRST, parse_since, wait_for_change};
use crate::output::exit::Exit;
use crate::output::text::counted;
use crate::output::{self, Printer};

/// Shows the records that match, and new ones with `--follow`.
pub fn run(home: &Home, args: &AuditArgs, printer: &Printer) -> anyhow::Result<Exit> {
    let since = match args.since.as_deref().map(parse_since).transpose() {
        Ok(since) => since,
        Err(reason) => {
            printer.say(&reason);
            return Ok(Exit::USAGE);
        }
    };
    let wanted = Wanted { args, since };
    let path = home.audit();
    let mut trail = AuditReader::open(&path)?;
    if trail.is_absent() && !args.follow {
        printer.say(&format!(
            "there is no audit record yet, because this computer has had no requests ({})",
            display_path(&path)
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
    shown.pieces.flush();
    while args.follow && !printer.has_failed() && wait_for_change()? {
        trail.poll()?;
        show_all(&mut trail, &wanted, &mut shown)?;
        shown.pieces.flush();
    }
    trail.finish();
    if shown.count == 0 && !printer.has_failed() && (args.from.is_some() || args.cluster.is_some())
    {
        printer.say(
            "no record matches; --from takes a machine's name or id52, --cluster an alias or id52",
        );
    }
    if trail.unreadable() > 0 && !printer.has_failed() {
        printer.say(&format!(
            "skipped {} (cut off by a crash or a full disk, or not written by malai)",
            counted(
                trail.unreadable().try_into().unwrap_or(usize::MAX),
                "damaged line"
            )
        ));
    }
    Ok(Exit::OK)
}

fn show_all(
    trail: &mut AuditReader,
    wanted: &Wanted<'_>,
    shown: &mut Shown<'_>,
) -> anyhow::Result<()> {
    while let Some(entry) = trail.next_entry()? {
        if wanted.is(&entry.record) {
            shown.add(&entry);
        }
        if shown.pieces.has_failed() {
            break;
        }
    }
    Ok(())
}

/// Which records to show.
struct Wanted<'a> {
    args: &'a AuditArgs,
    since: Option<Timestamp>,
}

impl Wanted<'_> {
    fn is(&self, record: &Record) -> bool {
        if self.since.is_some_and(|since| record.time < since) {
            return false;
        }
        // A missing record may be one that would have matched.
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
            Event::File(file) => file.change == Change::Refused,
            _ => false,
        };
        refused || !self.args.refused
    }
}

/// Prints records in the requested format.
struct Shown<'a> {
    json: bool,
    count: usize,
    pieces: BufferedPrinter<'a>,
}

impl<'a> Shown<'a> {
    fn new(json: bool, printer: &'a Printer) -> Self {
        Self {
            json,
            count: 0,
            pieces: BufferedPrinter::new(printer),
        }
    }

    fn add(&mut self, entry: &Entry) {
        self.count += 1;
        match self.json {
            true => self.pieces.add(&String::from_utf8_lossy(&entry.line)),
            false => self.pieces.add(&output::audit::line(&entry.record)),
        }
    }
}
