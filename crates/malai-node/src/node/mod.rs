//! What one process has once, for all its clusters.

pub(crate) mod accept;
pub(crate) mod environment;
pub(crate) mod limits;
pub mod reaper;
pub(crate) mod sessions;

use std::sync::Arc;

use malai_wire::peer::hello::InstanceId;

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

/// One process: what all its clusters share.
#[derive(Debug)]
pub struct Node {
    /// Whether requests are served (a daemon), or this process only dials (a command by itself). Only a daemon
    /// writes what it learns into the home.
    pub serves: bool,
    /// How far it reaches.
    pub reach: Reach,
    /// Which run of the program this is.
    pub instance: InstanceId,
    /// When it began.
    pub started_at: BoundedInstant,
    /// What this computer's owner accepts.
    pub(crate) accept_policies: AcceptPolicies,
    /// Which variables every command here finds.
    pub(crate) environment: CommandEnvironment,
    /// What runs here now, and on other machines for this computer's command lines.
    pub(crate) sessions: Sessions,
    /// Where that is recorded.
    pub audit: Arc<Audit>,
    /// What counts for the limits.
    pub(crate) limiter: Arc<Limiter>,
    /// What ends commands if this process is killed. Nothing unless it is set.
    pub reaper: Arc<Reaper>,
    /// From where members are looked for.
    pub(crate) probes: Arc<ProbePool>,
}

impl Node {
    /// A process that serves this home.
    pub fn daemon(reach: Reach, home: &Home, settings: &Settings) -> Self {
        Self::new(true, reach, home, settings)
    }

    /// A process that runs commands of this home by itself, without a daemon.
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
        }
    }
}
