//! `malai doctor`: everything about a home and its daemon that can be looked at, what is wrong with it, why that
//! matters, and the command that fixes it. Looks and changes nothing.

pub(crate) mod clock;
pub(crate) mod configuration;
pub(crate) mod daemon;
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

use malai_wire::status::DaemonFacts;
use serde::Serialize;

use crate::control;
use crate::home::Home;
use crate::home::lock::{self, LockState};
use crate::inspect::check::{ClusterReport, verify_home};
use crate::settings::Settings;

/// Everything that was looked at.
#[derive(Debug, Clone, Serialize)]
pub struct Diagnosis {
    /// The version of the malai that looks.
    pub version: &'static str,
    /// The home.
    pub home: PathBuf,
    /// Whether nothing is wrong; warnings do not count.
    pub ok: bool,
    /// What was found, in the order in which it was looked at.
    pub findings: Vec<Finding>,
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at: a word.
    pub check: &'static str,
    /// How it is.
    pub state: State,
    /// What was found.
    pub what: String,
    /// Why that matters.
    pub why: Option<String>,
    /// A command line that fixes it.
    pub remedy: Option<String>,
}

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// In order.
    Fine,
    /// In order; worth knowing.
    Note,
    /// It works, and may not be what is meant.
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

/// What the checks look at.
#[derive(Debug)]
struct Context<'a> {
    home: &'a Home,
    /// Its settings; the defaults where they cannot be read, which is a finding of its own.
    settings: Settings,
    clusters: Vec<ClusterReport>,
    lock: Result<LockState, String>,
    /// What the daemon answered; none where none runs.
    daemon: Option<Result<DaemonFacts, String>>,
    now: SystemTime,
}

impl Context<'_> {
    fn answered(&self) -> Option<&DaemonFacts> {
        self.daemon.as_ref()?.as_ref().ok()
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

/// Looks at everything. Takes some seconds where no daemon runs, since peers are then asked for one by one.
pub async fn examine(home: &Home) -> Diagnosis {
    let unreadable = home::unreadable(home);
    if !unreadable.is_empty() {
        return diagnosis(home, unreadable);
    }
    let lock = lock::probe(home).map_err(|error| error.to_string());
    let daemon = matches!(lock, Ok(LockState::Held { .. })).then(|| control::facts(home));
    let patient = Context {
        home,
        settings: Settings::load(home).unwrap_or_default(),
        // What keeps the clusters from being looked at is found by the check of the home.
        clusters: verify_home(home, None).unwrap_or_default(),
        lock,
        daemon,
        now: SystemTime::now(),
    };
    let mut findings = home::check(&patient);
    findings.extend(keys::check(&patient));
    findings.extend(daemon::check(&patient));
    findings.extend(configuration::check(&patient));
    findings.extend(users::check(&patient));
    findings.extend(ports::check(&patient));
    findings.extend(peers::check(&patient).await);
    findings.extend(clock::check(&patient));
    findings.extend(record::check(&patient));
    findings.extend(space::check(&patient));
    findings.extend(unit::check(&patient));
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

/// The first few of many, in words.
fn some_of(all: &[String]) -> String {
    const SHOWN: usize = 5;
    match all.len().checked_sub(SHOWN) {
        None | Some(0) => all.join(", "),
        Some(more) => format!("{} and {more} more", all[..SHOWN].join(", ")),
    }
}
