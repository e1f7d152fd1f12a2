//! What a process has once for all its clusters.

pub(crate) mod accept;
pub(crate) mod environment;
pub(crate) mod limits;
pub mod reaper;
pub(crate) mod sessions;

use std::sync::Arc;

use malai_wire::peer::hello::InstanceId;
use tokio::sync::Semaphore;

use crate::audit::Audit;
use crate::home::Home;
use crate::net::discovery::probe_pool::ProbePool;
use crate::node::accept::AcceptPolicies;
use crate::node::environment::CommandEnvironment;
use crate::node::limits::Limiter;
use crate::node::reaper::Reaper;
use crate::node::sessions::Sessions;
use crate::os::clock::BoundedInstant;
use crate::settings::{Reach, Settings};

/// A process: what all its clusters share.
#[derive(Debug)]
pub struct Node {
    /// Whether requests are served (a daemon), or this process only dials (a command without a daemon). Only a daemon writes
    /// what it learns into the home.
    pub serves: bool,
    /// Its reach.
    pub reach: Reach,
    /// Identifies the run of the program.
    pub instance: InstanceId,
    /// When it started.
    pub started_at: BoundedInstant,
    /// What this computer's owner accepts.
    pub(crate) accept_policies: AcceptPolicies,
    /// The variables for every command here.
    pub(crate) environment: CommandEnvironment,
    /// The sessions here, and those of this computer's command lines on other machines.
    pub(crate) sessions: Sessions,
    /// The audit record.
    pub audit: Arc<Audit>,
    /// Enforces the limits.
    pub(crate) limiter: Arc<Limiter>,
    /// Ends commands if this process is killed. Does nothing unless it is set.
    pub reaper: Arc<Reaper>,
    /// The endpoints that probe for members.
    pub(crate) probes: Arc<ProbePool>,
    /// The turns to begin a dial.
    pub(crate) dials: Semaphore,
    /// The searches for silent peers that may have been restarted.
    pub(crate) searches: Semaphore,
    /// The pings of silent peers that are given up soon.
    pub(crate) quick_pings: Semaphore,
}

/// How many dials may begin at once. Each costs milliseconds of computing; of hundreds that begin together, none would send its
/// hello before its peer gives it up (`greeting_seconds`).
const DIALS_AT_ONCE: usize = 32;

/// How many silent peers are given up and searched at once. If more are silent, it is this computer or its network that is slow,
/// and dialing all of them would only make it slower.
const SEARCHES_AT_ONCE: usize = 32;

impl Node {
    /// A daemon for this home.
    pub fn daemon(reach: Reach, home: &Home, settings: &Settings) -> Self {
        Self::new(true, reach, home, settings)
    }

    /// A process that runs commands of this home without a daemon.
    pub fn command(reach: Reach, home: &Home, settings: &Settings) -> Self {
        Self::new(false, reach, home, settings)
    }

    fn new(serves: bool, reach: Reach, home: &Home, settings: &Settings) -> Self {
        let instance = rand::random();
        Self {
            serves,
            reach,
            instance,
            started_at: BoundedInstant::now(),
            accept_policies: AcceptPolicies::new(&settings.accept),
            environment: CommandEnvironment::new(&settings.environment),
            sessions: Sessions::default(),
            limiter: Arc::new(Limiter::new(settings.limits.clone())),
            audit: Arc::new(Audit::new(home, &instance, settings.audit)),
            reaper: Arc::default(),
            probes: Arc::default(),
            dials: Semaphore::new(DIALS_AT_ONCE),
            searches: Semaphore::new(SEARCHES_AT_ONCE),
            quick_pings: Semaphore::new(SEARCHES_AT_ONCE),
        }
    }
}
