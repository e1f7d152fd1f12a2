//! The reaper's process: reads registrations until the daemon is gone, then ends what is left.
//!
//! It has no runtime, no threads, and nothing open except the pipe.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::node::reaper::GRACE;
use crate::node::reaper::record::{Kind, Record, SIZE};
use crate::os::process_group;

/// How often to check whether signaled processes have ended.
const EXIT_POLL_INTERVAL: Duration = Duration::from_millis(50);

/// How long processes may take to end after SIGKILL.
const KILLED: Duration = Duration::from_secs(2);

/// Above this number of entries, those that have ended are removed: nobody reports the end of a process that registered
/// itself and could not be started.
const MANY: usize = 64;

/// What was registered when the daemon's end of the pipe was closed.
#[derive(Debug, Default)]
pub struct Orphans(BTreeMap<u32, Entry>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    kind: Kind,
    /// The leader when it was registered: its process id may be reused later.
    leader: Option<Stat>,
}

/// The parts of `/proc/<pid>/stat` that matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    id: u32,
    ended: bool,
    group: u32,
    session: u32,
    /// Its start time, in clock ticks since the computer started.
    begun: u64,
}

/// Leaves the caller's session and reads the pipe to its end.
///
/// # Errors
///
/// The pipe cannot be read.
pub fn watch(pipe: OwnedFd) -> io::Result<Orphans> {
    // Fails only for a session leader.
    let _ = rustix::process::setsid();
    let mut pipe = std::fs::File::from(pipe);
    let mut left = Orphans::default();
    let mut prune_at = MANY;
    let mut buffer = [0; 64 * SIZE];
    let mut filled = 0;
    loop {
        let count = match pipe.read(&mut buffer[filled..]) {
            Ok(0) => return Ok(left),
            Ok(count) => filled + count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let (records, rest) = buffer[..count].as_chunks::<SIZE>();
        for record in records {
            left.note(Record::parse(*record));
        }
        filled = rest.len();
        buffer.copy_within(count - filled..count, 0);
        if left.0.len() > prune_at {
            left.forget_ended();
            prune_at = MANY.max(2 * left.0.len());
        }
    }
}

impl Orphans {
    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn note(&mut self, record: Option<Record>) {
        match record {
            Some(Record::Begun(kind, id)) => {
                let leader = stat(id);
                // Nothing is left to end of a process that has ended. Its entry would refer to the next process with that id. (While
                // a group has a member, its id is not reused.)
                if leader.is_none() && has_ended(id) {
                    self.0.remove(&id);
                } else {
                    self.0.insert(id, Entry { kind, leader });
                }
            }
            Some(Record::Ended(id)) => drop(self.0.remove(&id)),
            None => {}
        }
    }

    fn forget_ended(&mut self) {
        let processes = processes();
        self.0
            .retain(|id, entry| !groups(*id, entry, &processes).is_empty());
    }

    /// Ends everything: SIGHUP, then SIGKILL for what is left after [`GRACE`]. Processes that left the session with `setsid`
    /// are not touched. Processes that must not be signaled live on, which is logged.
    pub fn end(mut self) {
        self.forget_ended();
        if self.is_empty() {
            return;
        }
        tracing::warn!(
            "the daemon exited without ending its commands; sending SIGHUP to {} command(s), and SIGKILL after {} s",
            self.0.len(),
            GRACE.as_secs()
        );
        self.signal(Signal::HUP);
        self.wait(GRACE);
        if !self.is_empty() {
            self.signal(Signal::KILL);
            self.wait(KILLED);
        }
        for id in self.0.keys() {
            tracing::warn!(
                group = id,
                "cannot end a process group of a command; its processes keep running"
            );
        }
    }

    fn signal(&self, signal: Signal) {
        let processes = processes();
        let all: BTreeSet<u32> = self
            .0
            .iter()
            .flat_map(|(id, entry)| groups(*id, entry, &processes))
            .collect();
        for id in all {
            let Some(group) = Pid::from_raw(id.cast_signed()) else {
                continue;
            };
            match process_group::signal(group, signal) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(error) => {
                    tracing::warn!(group = id, "cannot signal a process group: {error}")
                }
            }
        }
    }

    /// Waits until all have ended, and removes those that have.
    fn wait(&mut self, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        loop {
            self.forget_ended();
            let left = deadline.saturating_duration_since(Instant::now());
            if self.is_empty() || left.is_zero() {
                return;
            }
            std::thread::sleep(EXIT_POLL_INTERVAL.min(left));
        }
    }
}

/// The process groups of a session that have a living process.
pub(crate) fn groups_of_session(id: u32) -> BTreeSet<u32> {
    let entry = Entry {
        kind: Kind::Session,
        leader: None,
    };
    groups(id, &entry, &processes())
}

/// The process groups of an entry that are alive.
fn groups(id: u32, entry: &Entry, processes: &[Stat]) -> BTreeSet<u32> {
    let now = processes.iter().find(|process| process.id == id);
    // The process id was reused. (It is not reused while a group or session with that id has a member.)
    if let Some(now) = now
        && entry.leader.is_none_or(|then| then.begun != now.begun)
    {
        return BTreeSet::new();
    }
    let session = entry.leader.map(|leader| leader.session);
    let is_member = |process: &&Stat| match entry.kind {
        Kind::Group => {
            process.group == id && session.is_none_or(|session| process.session == session)
        }
        Kind::Session => process.session == id,
    };
    let members = processes.iter().filter(|process| !process.ended);
    members
        .filter(is_member)
        .map(|process| process.group)
        .collect()
}

/// Whether no process group with this id exists, not even one of zombies.
fn has_ended(id: u32) -> bool {
    Pid::from_raw(id.cast_signed()).is_none_or(|group| {
        rustix::process::test_kill_process_group(group) == Err(rustix::io::Errno::SRCH)
    })
}

/// All processes of this computer.
fn processes() -> Vec<Stat> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| stat(entry.ok()?.file_name().to_str()?.parse().ok()?))
        .collect()
}

fn stat(id: u32) -> Option<Stat> {
    let bytes = std::fs::read(format!("/proc/{id}/stat")).ok()?;
    parse_stat(id, &String::from_utf8_lossy(&bytes))
}

/// The name, in parentheses, may contain anything; the relevant fields follow the last parenthesis.
fn parse_stat(id: u32, text: &str) -> Option<Stat> {
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
    let ended = matches!(fields.next()?, "Z" | "X");
    // The parent comes in between.
    let group = fields.nth(1)?.parse().ok()?;
    let session = fields.next()?.parse().ok()?;
    // The 22nd field of all; the session is the sixth.
    let begun = fields.nth(15)?.parse().ok()?;
    Some(Stat {
        id,
        ended,
        group,
        session,
        begun,
    })
}

#[cfg(test)]
mod tests;
