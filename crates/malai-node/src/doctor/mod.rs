//! `malai doctor`: checks everything about a home and its daemon; reports what is wrong, why it matters, and the command that
//! fixes it. Changes nothing.

pub(crate) mod clock;
pub(crate) mod configuration;
pub(crate) mod daemon;
pub(crate) mod forwards;
pub(crate) mod home;
pub(crate) mod keys;
pub(crate) mod peers;
pub(crate) mod ports;
pub(crate) mod record;
pub(crate) mod space;
pub(crate) mod unit;
pub(crate) mod users;

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use malai_wire::status::{DaemonFacts, MembershipState};
use serde::Serialize;

use crate::control;
use crate::home::Home;
use crate::home::lock::{self, LockState};
use crate::inspect::check::{ClusterReport, verify_home};
use crate::settings::Settings;

/// The result of all checks.
#[derive(Debug, Clone, Serialize)]
pub struct Diagnosis {
    /// The version of this malai.
    pub version: &'static str,
    /// The home.
    pub home: PathBuf,
    /// Whether there are no errors; warnings do not count.
    pub ok: bool,
    /// The findings, in the order of the checks.
    pub findings: Vec<Finding>,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The check, as one word.
    pub check: &'static str,
    /// The severity.
    pub state: State,
    /// What was found.
    pub what: String,
    /// Why that matters.
    pub why: Option<String>,
    /// A command line that fixes it.
    pub remedy: Option<String>,
}

/// The severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// No problem.
    Fine,
    /// No problem, but worth knowing.
    Note,
    /// It works, but may not be intended.
    Warning,
    /// It does not work.
    Error,
}

impl Finding {
    fn new(check: &'static str, state: State, what: impl Into<String>) -> Self {
        Self {
            check,
            state,
            what: what.into(),
            why: None,
            remedy: None,
        }
    }

    fn fine(check: &'static str, what: impl Into<String>) -> Self {
        Self::new(check, State::Fine, what)
    }

    fn note(check: &'static str, what: impl Into<String>) -> Self {
        Self::new(check, State::Note, what)
    }

    fn warning(check: &'static str, what: impl Into<String>) -> Self {
        Self::new(check, State::Warning, what)
    }

    fn error(check: &'static str, what: impl Into<String>) -> Self {
        Self::new(check, State::Error, what)
    }

    fn because(mut self, why: impl Into<String>) -> Self {
        self.why = Some(why.into());
        self
    }

    fn fix(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

/// The input of the checks.
#[derive(Debug)]
struct Context<'a> {
    home: &'a Home,
    /// Its settings; the defaults if they cannot be read, which is a finding of its own.
    settings: Settings,
    clusters: Vec<ClusterReport>,
    lock: Result<LockState, String>,
    /// The daemon's answer; `None` if no daemon is running.
    daemon: Option<Result<DaemonFacts, String>>,
    now: SystemTime,
}

impl Context<'_> {
    fn answered(&self) -> Option<&DaemonFacts> {
        self.daemon.as_ref()?.as_ref().ok()
    }

    /// Whether this computer is a member of a cluster, as far as the daemon knows.
    fn membership(&self, alias: &str) -> Option<MembershipState> {
        let mut clusters = self.answered()?.clusters.iter();
        let found = clusters.find(|cluster| cluster.alias == alias)?;
        Some(found.membership)
    }

    /// The process id of the daemon of this home: by its answer, or by the lock that it holds.
    fn pid(&self) -> Option<u32> {
        let by_lock = match self.lock {
            Ok(LockState::Held { pid }) => pid,
            _ => None,
        };
        self.answered().map(|facts| facts.pid).or(by_lock)
    }

    fn is_held(&self) -> bool {
        matches!(self.lock, Ok(LockState::Held { .. }))
    }

    /// Seconds since 1970.
    fn seconds(&self) -> u64 {
        let because = self.now.duration_since(SystemTime::UNIX_EPOCH);
        because.as_ref().map_or(0, Duration::as_secs)
    }
}

/// Runs all checks. This takes some seconds without a daemon, because peers are then searched one by one.
pub async fn examine(home: &Home) -> Diagnosis {
    let unreadable = home::unreadable(home);
    if !unreadable.is_empty() {
        return diagnosis(home, unreadable);
    }
    let lock = lock::probe(home).map_err(|error| error.to_string());
    let daemon = matches!(lock, Ok(LockState::Held { .. })).then(|| control::facts(home));
    let context = Context {
        home,
        settings: Settings::load(home).unwrap_or_default(),
        // Problems that prevent reading the clusters are found by the check of the home.
        clusters: verify_home(home, None).unwrap_or_default(),
        lock,
        daemon,
        now: SystemTime::now(),
    };
    let mut findings = home::check(&context);
    findings.extend(keys::check(&context));
    findings.extend(daemon::check(&context));
    findings.extend(configuration::check(&context));
    findings.extend(users::check(&context));
    findings.extend(ports::check(&context));
    findings.extend(forwards::check(&context));
    findings.extend(peers::check(&context).await);
    findings.extend(clock::check(&context));
    findings.extend(record::check(&context));
    findings.extend(space::check(&context));
    findings.extend(unit::check(&context));
    diagnosis(home, findings)
}

fn diagnosis(home: &Home, findings: Vec<Finding>) -> Diagnosis {
    Diagnosis {
        version: env!("CARGO_PKG_VERSION"),
        home: home.root().to_path_buf(),
        ok: !findings.iter().any(|finding| finding.state == State::Error),
        findings,
    }
}

/// The first few of many, as text.
fn some_of(all: &[String]) -> String {
    const SHOWN: usize = 5;
    match all.len().checked_sub(SHOWN) {
        None | Some(0) => all.join(", "),
        Some(more) => format!("{} and {more} more", all[..SHOWN].join(", ")),
    }
}
