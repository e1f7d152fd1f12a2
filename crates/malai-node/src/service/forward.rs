//! Passes connections of this computer on to services of its clusters: the same code for the daemon and for a command
//! without one.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use malai_cluster::{MachineId, MachineRef, Target, escape};
use malai_wire::control::Forwarded;
use malai_wire::peer::connect::Destination;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Service, dispatch};
use crate::audit::Origin;
use crate::client::connect;
use crate::cluster::authorize;
use crate::forward::bridge::End;
use crate::forward::socket::{Listener, Socket};
use crate::forward::upstream;

/// How long no connection is accepted after the system has refused one, for want of descriptors for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How many problems wait to be shown. Further ones are only logged.
const PROBLEMS: usize = 16;

/// Where connections are passed on to.
#[derive(Clone)]
pub struct ForwardRoute {
    /// The clusters in use now.
    pub services: Arc<dyn Fn() -> Vec<Arc<Service>> + Send + Sync>,
    /// The service.
    pub target: Target,
}

impl fmt::Debug for ForwardRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ForwardRoute({})", self.target)
    }
}

/// What has become of the connections, for whom it concerns.
#[derive(Debug)]
pub struct ForwardBoard {
    counts: watch::Sender<Forwarded>,
    problems: mpsc::Sender<String>,
}

impl ForwardBoard {
    /// A board, and what is written on it: the counts, without a problem, and problems.
    pub fn new() -> (Self, watch::Receiver<Forwarded>, mpsc::Receiver<String>) {
        let (counts, seen) = watch::channel(Forwarded::default());
        let (problems, heard) = mpsc::channel(PROBLEMS);
        (Self { counts, problems }, seen, heard)
    }

    fn opened(&self) {
        self.counts.send_modify(|counts| {
            counts.open += 1;
            counts.total += 1;
        });
    }

    fn closed(&self) {
        self.counts.send_modify(|counts| counts.open -= 1);
    }

    fn problem(&self, why: String) {
        tracing::info!("{why}");
        let _ = self.problems.try_send(why);
    }
}

/// A service, where it is now.
struct Found {
    /// As `db.company`.
    name: String,
    service: Arc<Service>,
    machine: MachineId,
    machine_name: String,
    destination: Destination,
}

impl ForwardRoute {
    /// Checks that the target is a service.
    ///
    /// # Errors
    ///
    /// Why it cannot be used.
    pub fn check(&self) -> Result<(), String> {
        self.find().map(drop)
    }

    /// Looks the service up. Each connection does, because a new configuration may move it.
    fn find(&self) -> Result<Found, String> {
        let target = &self.target;
        let services = (self.services)();
        let service = dispatch::find_service(&services, &target.cluster, Some(&target.machine))?;
        let cluster = dispatch::names(service)?;
        let alias = service.cluster_state.alias();
        let wanted = match &target.machine {
            MachineRef::Name(name) => name.as_str(),
            MachineRef::Id(id) => return Err(format!("{id} is a machine, not a service")),
        };
        let Some(found) = cluster.service_named(wanted) else {
            let name = escape(wanted);
            if cluster.machine_named(wanted).is_some() {
                return Err(format!(
                    "`{name}.{alias}` is a machine, not a service; services are `[service.<name>]` in cluster.toml"
                ));
            }
            let names = cluster.services().map(|service| service.name().as_str());
            let near = malai_cluster::nearest(wanted, names)
                .map(|near| format!("; did you mean `{near}.{alias}`?"));
            let near = near.unwrap_or_default();
            return Err(format!("cluster `{alias}` has no service `{name}`{near}"));
        };
        let machine = cluster.machine_named(found.machine().as_str());
        let machine = machine.ok_or_else(|| format!("`{wanted}.{alias}` has no machine"))?;
        Ok(Found {
            name: format!("{wanted}.{alias}"),
            service: service.clone(),
            machine: machine.id(),
            machine_name: format!("{}.{alias}", machine.name()),
            destination: Destination::Service(wanted.to_owned()),
        })
    }

    /// Passes one connection on, to its end. A reset of one of its ends is no error.
    ///
    /// # Errors
    ///
    /// Why it was not opened, or was cut off, with the name of the service.
    pub async fn pass(&self, socket: Socket, gone: &CancellationToken) -> Result<(), String> {
        let found = self.find()?;
        let Found {
            name,
            service,
            machine,
            machine_name,
            destination,
        } = &found;
        let limiter = &service.cluster_state.node.limiter;
        let _counted = limiter.local_forward().map_err(|refusal| refusal.message)?;
        let failed = |why: &dyn fmt::Display| format!("{name}: {why}");
        if *machine == service.cluster_state.local_id {
            let state = &service.cluster_state;
            let opened = async {
                let granted = authorize::connect(state, *machine, Origin::Here, destination)?;
                upstream::open(state, granted, None).await
            };
            let opened = opened
                .await
                .map_err(|refusal| failed(&escape(&refusal.message)))?;
            opened.pass(End::Socket(socket), gone).await;
            return Ok(());
        }
        let passing = async {
            let opened = connect::open(&service.peers, *machine, machine_name, destination).await?;
            opened.pass(name, destination, socket).await
        };
        tokio::select! {
            passed = passing => passed.map_err(|error| failed(&error)),
            // Dropping both ends resets them.
            () = gone.cancelled() => Ok(()),
        }
    }

    /// Accepts connections and passes them on, until it is cancelled.
    pub async fn listen(&self, listener: Listener, board: &ForwardBoard, gone: &CancellationToken) {
        let mut open = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok(socket) => {
                        board.opened();
                        let (route, gone) = (self.clone(), gone.clone());
                        open.spawn(Box::pin(async move { route.pass(socket, &gone).await }));
                    }
                    Err(error) => {
                        board.problem(format!("cannot accept a connection: {error}"));
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(ended) = open.join_next() => {
                    board.closed();
                    match ended {
                        Ok(Ok(())) => {}
                        Ok(Err(why)) => board.problem(why),
                        Err(error) => tracing::error!("passing a connection on failed: {error}"),
                    }
                }
                () = gone.cancelled() => break,
            }
        }
        while open.join_next().await.is_some() {}
    }
}
