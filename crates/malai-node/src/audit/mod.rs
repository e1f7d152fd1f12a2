//! The audit record of a home, `audit.jsonl`: decisions and sessions.
//!
//! Several processes append to it, a daemon and direct commands: each record is one `write` to a file opened for appending.
//! The record survives the death of any of them at any instant. It is not synced to the disk record by record, so a
//! power failure may lose the last seconds. At [`MAX_FILE`] bytes the file becomes `audit.jsonl.1`, that one
//! `audit.jsonl.2`, and so on up to [`KEPT`].

pub(crate) mod appender;
mod files;
mod gap;
pub(crate) mod reader;
pub(crate) mod session;
mod unended;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use malai_cluster::{ClusterAlias, ClusterId, Grant, InvitationId, MachineId};
use malai_wire::action::{Asked, RecordedAction};
use malai_wire::audit::{Decision, Event, InvitationRecord, Lost, Record, Request, Strangers};
use malai_wire::peer::hello::InstanceId;
use malai_wire::time::Timestamp;
use malai_wire::{Refusal, RefusalCode};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use appender::Appender;
use gap::Gap;

use crate::home::Home;
use crate::os::fs::display_path;
use crate::os::user::RunAs;
use crate::settings::AuditSettings;

pub(crate) use files::FileRecords;
pub use reader::{AuditReader, Entry};
pub(crate) use session::{Counts, EndReason, Running};

/// The size at which the file is rotated, in bytes.
pub(crate) const MAX_FILE: u64 = 10 * 1024 * 1024;

/// How many rotated files are kept.
pub(crate) const KEPT: u32 = 9;

/// How often the number of connections by unknown keys is recorded, if it has changed.
const COUNT_EVERY: Duration = Duration::from_secs(60);

/// How often the log repeats that the record cannot be written.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// The files of a record, newest first, including those that do not exist.
pub(crate) fn files(record: &Path) -> impl Iterator<Item = PathBuf> {
    let aside = (1..=KEPT).map(|number| aside(record, number));
    std::iter::once(record.to_path_buf()).chain(aside)
}

fn aside(record: &Path, number: u32) -> PathBuf {
    let mut name = record.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

/// The origin of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A command line of this computer.
    Here,
    /// A peer at this address.
    Address(SocketAddr),
    /// A peer, through a relay.
    Relay,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Here => f.write_str("here"),
            Origin::Address(address) => address.fmt(f),
            Origin::Relay => f.write_str("relay"),
        }
    }
}

impl From<Option<SocketAddr>> for Origin {
    fn from(address: Option<SocketAddr>) -> Self {
        address.map_or(Origin::Relay, Origin::Address)
    }
}

/// A machine that asks for something, according to the cluster's configuration.
#[derive(Debug)]
pub(crate) struct Requester<'a> {
    /// The cluster's alias here.
    pub alias: &'a ClusterAlias,
    /// The cluster.
    pub cluster: ClusterId,
    /// The revision in force, if there is one.
    pub revision: Option<u64>,
    /// The machine's key.
    pub peer: MachineId,
    /// Its name, if the configuration has one.
    pub machine: Option<String>,
}

/// What became of a machine with an invitation.
#[derive(Debug)]
pub(crate) struct InvitationAnswer<'a> {
    /// The alias of the cluster here.
    pub alias: &'a ClusterAlias,
    /// The cluster.
    pub cluster: ClusterId,
    /// The key that the connection's handshake proved.
    pub peer: MachineId,
    /// Where it asked from.
    pub from: &'a Origin,
    /// The invitation.
    pub invitation: InvitationId,
    /// The name that it gets, or why it gets none.
    pub answer: Result<&'a str, &'a str>,
}

/// This process's writer of the record.
#[derive(Debug)]
pub struct Audit {
    path: PathBuf,
    instance: String,
    settings: Mutex<AuditSettings>,
    state: Mutex<State>,
    gap: Gap,
    strangers: Mutex<BTreeMap<String, u64>>,
}

#[derive(Debug)]
struct State {
    appender: Appender,
    trouble: Option<Trouble>,
    /// When the record was last found deleted.
    removed: Option<Timestamp>,
}

/// Why records are missing at present.
#[derive(Debug)]
struct Trouble {
    since: Timestamp,
    why: String,
    lost: u64,
    said: Instant,
}

impl Audit {
    /// The record of this home, as written by this run of malai.
    pub fn new(home: &Home, instance: &InstanceId, settings: AuditSettings) -> Self {
        let path = home.audit();
        Self {
            state: Mutex::new(State {
                appender: Appender::new(&path, MAX_FILE),
                trouble: None,
                removed: None,
            }),
            gap: Gap::beside(&path),
            path,
            instance: instance.iter().map(|byte| format!("{byte:02x}")).collect(),
            settings: Mutex::new(settings),
            strangers: Mutex::default(),
        }
    }

    /// The settings in force.
    pub fn settings(&self) -> AuditSettings {
        *self.settings.lock()
    }

    /// Applies new settings; returns whether they differ.
    pub fn configure(&self, settings: AuditSettings) -> bool {
        std::mem::replace(&mut *self.settings.lock(), settings) != settings
    }

    /// Opens the record, so that problems with writing it are known from the start, and records what earlier processes could
    /// not.
    pub fn open(&self) {
        self.gap.prepare();
        let mut state = self.state.lock();
        if let Err(error) = state.appender.open() {
            self.failed(&mut state, 0, &error.to_string());
        } else if let Some(lost) = self.gap.known() {
            state.trouble = Some(Trouble {
                since: lost.since,
                why: lost.why,
                lost: 0,
                said: Instant::now(),
            });
            self.recovered(&mut state);
        }
    }

    /// A request as recorded: who asks for what, from where.
    pub(crate) fn request(&self, requester: Requester<'_>, from: Origin, asked: &Asked) -> Request {
        Request {
            cluster: requester.alias.to_string(),
            cluster_id: requester.cluster,
            revision: requester.revision,
            peer: requester.peer,
            machine: requester.machine,
            from: from.to_string(),
            action: RecordedAction::of(asked, self.settings().arguments),
        }
    }

    /// Records a decision: the grant with its session number, or the refusal.
    ///
    /// # Errors
    ///
    /// The refusal, if it is allowed but cannot be recorded although that is required.
    pub fn decided(
        &self,
        request: &Request,
        judged: Result<(&Grant, &RunAs, u64), &Refusal>,
    ) -> Result<(), Refusal> {
        let allowed = judged.ok();
        self.record(Event::Decision(Decision {
            request: request.clone(),
            allowed: allowed.is_some(),
            rule: allowed.map(|(grant, ..)| grant.rule.to_string()),
            reason: judged.err().map(|refusal| refusal.message.clone()),
            user: allowed.map(|(_, run_as, _)| run_as.to_string()),
            session: allowed.map(|(.., session)| session),
        }))
    }

    /// Records what became of a machine with an invitation.
    ///
    /// # Errors
    ///
    /// A refusal, if it cannot be written although that is required.
    pub(crate) fn invitation(&self, asked: &InvitationAnswer<'_>) -> Result<(), Refusal> {
        self.record(Event::Invitation(InvitationRecord {
            cluster: asked.alias.to_string(),
            cluster_id: asked.cluster,
            peer: asked.peer,
            machine: asked.answer.ok().map(str::to_owned),
            from: asked.from.to_string(),
            invitation: asked.invitation.to_string(),
            allowed: asked.answer.is_ok(),
            reason: asked.answer.err().map(str::to_owned),
        }))
    }

    /// Counts a connection by a key that is in no configuration.
    pub fn stranger(&self, alias: &ClusterAlias) {
        let alias = alias.as_str();
        let mut strangers = self.strangers.lock();
        match strangers.get_mut(alias) {
            Some(count) => *count += 1,
            None => drop(strangers.insert(alias.to_owned(), 1)),
        }
    }

    /// Records the counts from time to time, until `stop`.
    pub async fn keep_count(&self, stop: &CancellationToken) {
        while tokio::time::timeout(COUNT_EVERY, stop.cancelled())
            .await
            .is_err()
        {
            self.counted();
        }
    }

    /// Records the counts that have changed since they were last recorded.
    pub fn counted(&self) {
        for (cluster, refused) in std::mem::take(&mut *self.strangers.lock()) {
            // A failure has been reported, and these counts must not be refused.
            let _ = self.record(Event::Strangers(Strangers { cluster, refused }));
        }
    }

    /// Writes one record, and after a failure also the number of missing ones.
    ///
    /// # Errors
    ///
    /// A refusal, if it cannot be written although that is required. Otherwise the failure is only reported.
    fn record(&self, event: Event) -> Result<(), Refusal> {
        match self.write(&self.line(event)) {
            Err(why) if self.settings().required => Err(Refusal::new(
                RefusalCode::Failed,
                format!(
                    "the audit record of this machine cannot be written ({why}), and its malai.toml says audit = \"required\"; nothing was run"
                ),
            )),
            _ => Ok(()),
        }
    }

    /// Writes a line, or remembers that it is missing and why.
    fn write(&self, line: &[u8]) -> Result<(), String> {
        let mut state = self.state.lock();
        let written = state.appender.append(line);
        self.look_for_removal(&mut state);
        match written {
            Ok(()) => {
                self.recovered(&mut state);
                Ok(())
            }
            Err(error) => {
                let why = error.to_string();
                self.failed(&mut state, 1, &why);
                Err(why)
            }
        }
    }

    fn line(&self, event: Event) -> Vec<u8> {
        Record {
            time: now(),
            event,
            instance: self.instance.clone(),
        }
        .to_line()
    }

    fn look_for_removal(&self, state: &mut State) {
        if state.appender.was_removed() {
            state.removed = Some(now());
            tracing::error!(
                "the audit record {} was deleted while malai was running; starting a new one",
                display_path(&self.path)
            );
        }
    }

    fn failed(&self, state: &mut State, lost: u64, why: &str) {
        let trouble = state.trouble.get_or_insert_with(|| Trouble {
            since: now(),
            why: String::new(),
            lost: 0,
            said: Instant::now(),
        });
        if lost > 0 {
            trouble.lost += lost;
            self.gap.add(&Lost {
                records: lost,
                since: now(),
                why: why.to_owned(),
            });
        }
        let again = trouble.said.elapsed() > SAY_AGAIN;
        if trouble.why != why || again {
            trouble.why = why.to_owned();
            trouble.said = Instant::now();
            tracing::error!("{}", self.words(trouble));
        }
    }

    /// After a record was written: records how many are missing before it.
    fn recovered(&self, state: &mut State) {
        let Some(trouble) = state.trouble.take() else {
            return;
        };
        let lost = match self.gap.is_there() {
            // The missing records of this and other processes; `None` if another process has recorded them already.
            true => self.gap.take(),
            false => (trouble.lost > 0).then(|| Lost {
                records: trouble.lost,
                since: trouble.since,
                why: trouble.why.clone(),
            }),
        };
        if let Some(lost) = &lost
            && state
                .appender
                .append(&self.line(Event::Lost(lost.clone())))
                .is_err()
        {
            self.gap.add(lost);
            state.trouble = Some(trouble);
            return;
        }
        tracing::warn!(
            "the audit record {} is writable again; records missing since {}: {}",
            display_path(&self.path),
            lost.as_ref().map_or(trouble.since, |lost| lost.since),
            lost.map_or(0, |lost| lost.records)
        );
    }

    /// Why the record cannot be written now, in complete sentences. Tries again first.
    pub fn trouble(&self) -> Option<String> {
        let mut state = self.state.lock();
        if state.trouble.is_some() && state.appender.open().is_ok() {
            // Opening the file does not show whether there is space; only writing a record does.
            let lost = state.trouble.as_ref().map_or(0, |trouble| trouble.lost);
            if lost == 0 {
                state.trouble = None;
            } else {
                self.recovered(&mut state);
            }
        }
        state.trouble.as_ref().map(|trouble| self.words(trouble))
    }

    /// A notice that the record was deleted while malai was running.
    pub fn removal(&self) -> Option<String> {
        self.state.lock().removed.map(|at| {
            format!(
                "the audit record {} was deleted while malai was running (noticed at {at}); its content is lost, and a new one was started",
                display_path(&self.path)
            )
        })
    }

    /// Notices about the record, in complete sentences.
    pub fn notices(&self) -> Vec<String> {
        self.trouble().into_iter().chain(self.removal()).collect()
    }

    fn words(&self, trouble: &Trouble) -> String {
        let consequence = if self.settings().required {
            "what cannot be recorded is refused (audit = \"required\" in malai.toml)"
        } else {
            "commands run anyway (to refuse them: audit = \"required\" in malai.toml)"
        };
        format!(
            "the audit record {} cannot be written: {}; {} missing since {}; {consequence}",
            display_path(&self.path),
            trouble.why,
            match trouble.lost {
                1 => "1 record is".to_owned(),
                lost => format!("{lost} records are"),
            },
            trouble.since,
        )
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Timestamp(since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }))
}

#[cfg(test)]
mod tests;
