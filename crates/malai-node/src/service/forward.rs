//! Passes connections of this computer on to services of its clusters, or to what a machine reaches: the same code for the daemon and for a command
//! without one.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use malai_cluster::{MachineId, MachineRef, Target, Upstream, escape};
use malai_wire::control::{ForwardTo, Forwarded};
use malai_wire::peer::connect::Destination;
use malai_wire::socks::Outcome;
use malai_wire::{Refusal, RefusalCode};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Service, dispatch, http};
use crate::audit::Origin;
use crate::client::connect::{self, ConnectError};
use crate::cluster::authorize;
use crate::forward::bridge::End;
use crate::forward::socket::{Listener, Socket};
use crate::forward::{socks, upstream};

/// How long no connection is accepted after the system has refused one, for want of descriptors for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How many problems wait to be shown. Further ones are only logged.
const PROBLEMS: usize = 16;

/// Where connections are passed on to.
#[derive(Clone)]
pub struct ForwardRoute {
    /// The clusters in use now.
    pub services: Arc<dyn Fn() -> Vec<Arc<Service>> + Send + Sync>,
    /// The service, or the machine through which it goes.
    pub target: Target,
    /// What of it is reached.
    pub to: ForwardTo,
}

impl fmt::Debug for ForwardRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ForwardRoute({}, {:?})", self.target, self.to)
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

/// Where a connection leads now.
pub(super) struct Found {
    /// As `db.company`, or `web01.company:localhost:80`.
    pub(super) name: String,
    pub(super) service: Arc<Service>,
    pub(super) machine: MachineId,
    pub(super) machine_name: String,
    pub(super) destination: Destination,
    is_http: bool,
}

impl ForwardRoute {
    /// Checks that the target exists.
    ///
    /// # Errors
    ///
    /// Why it cannot be used.
    pub fn check(&self) -> Result<(), String> {
        self.find(&self.to).map(drop)
    }

    /// Checks that the target is a service that speaks HTTP; its name, and that of its cluster here.
    ///
    /// # Errors
    ///
    /// Why it cannot be used.
    pub(crate) fn http_service(&self) -> Result<(String, String), String> {
        let found = self.find(&self.to)?;
        match found.destination {
            Destination::Service(service) if found.is_http => {
                Ok((service, found.service.cluster_state.alias().to_string()))
            }
            _ => Err(format!(
                "{} is not an HTTP service: in cluster.toml it has no `http`; `malai forward` passes its connections on",
                found.name
            )),
        }
    }

    /// Looks up where a connection leads. Each one does, because a new configuration may move a service.
    fn find(&self, to: &ForwardTo) -> Result<Found, String> {
        let target = &self.target;
        let services = (self.services)();
        let service = dispatch::find_service(&services, &target.cluster, Some(&target.machine))?;
        match to {
            ForwardTo::Service => find_named(service, target),
            ForwardTo::Through(destination) => {
                find_through(service, target, Some(destination.clone()))
            }
            ForwardTo::Socks => find_through(service, target, None),
        }
    }

    /// Passes one connection on, to its end. A reset of one of its ends is no error.
    ///
    /// # Errors
    ///
    /// Why it was not opened, or was cut off, with the name of the service.
    pub async fn pass(&self, socket: Socket, gone: &CancellationToken) -> Result<(), String> {
        if self.to != ForwardTo::Socks {
            return self.pass_to(&self.to, socket, None, gone).await;
        }
        tokio::select! {
            asked = socks::negotiate(&socket) => match asked {
                Ok(None) => Ok(()),
                Ok(Some((to, answer))) => {
                    let to = ForwardTo::Through(Destination::Tcp(to));
                    self.pass_to(&to, socket, Some(answer), gone).await
                }
                Err(why) => Err(format!("{} (SOCKS): {why}", self.target)),
            },
            () = gone.cancelled() => Ok(()),
        }
    }

    async fn pass_to(
        &self,
        to: &ForwardTo,
        socket: Socket,
        answer: Option<socks::Answer>,
        gone: &CancellationToken,
    ) -> Result<(), String> {
        let found = self.find(to)?;
        if found.is_http {
            return http::pass(&found, socket, gone).await;
        }
        let limiter = &found.service.cluster_state.node.limiter;
        let _counted = limiter.local_forward().map_err(|refusal| refusal.message)?;
        // Dropping both ends resets them.
        let opened = tokio::select! {
            opened = found.open() => opened,
            () = gone.cancelled() => return Ok(()),
        };
        if let Some(answer) = answer {
            let outcome = opened
                .as_ref()
                .map_or_else(NotOpened::outcome, |_| Outcome::Open);
            answer.send(&socket, outcome).await;
        }
        let opened = opened.map_err(|why| format!("{}: {why}", found.name))?;
        opened.pass(&found, socket, gone).await
    }

    /// Accepts connections and passes them on, until it is cancelled.
    pub async fn listen(&self, listener: Listener, board: &ForwardBoard, gone: &CancellationToken) {
        let mut open = JoinSet::new();
        let ending = CancellationToken::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok(socket) => {
                        board.opened();
                        let (route, ending) = (self.clone(), ending.clone());
                        open.spawn(Box::pin(async move { route.pass(socket, &ending).await }));
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
        // First: a client that sees its connection end and connects again must be refused, not left waiting.
        drop(listener);
        ending.cancel();
        while open.join_next().await.is_some() {}
    }
}

/// The service of this name.
fn find_named(service: &Arc<Service>, target: &Target) -> Result<Found, String> {
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
                "`{name}.{alias}` is a machine, not a service; name what it reaches, as in {name}.{alias}:localhost:80"
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
        is_http: matches!(found.upstream(), Upstream::Http { .. }),
    })
}

/// What a machine reaches. Without a destination it only has to be a machine.
fn find_through(
    service: &Arc<Service>,
    target: &Target,
    destination: Option<Destination>,
) -> Result<Found, String> {
    if let MachineRef::Name(name) = &target.machine
        && dispatch::names(service)?
            .service_named(name.as_str())
            .is_some()
    {
        return Err(format!(
            "`{target}` is a service, not a machine: leave out what follows it"
        ));
    }
    let machine = dispatch::find_machine(service, target)?;
    let alias = service.cluster_state.alias();
    let named = service.cluster_state.name_of(&machine);
    let named = named.unwrap_or_else(|| machine.to_string());
    let destination = destination.unwrap_or_else(|| Destination::Tcp(String::new()));
    Ok(Found {
        name: format!("{target}:{}", destination.shown()),
        service: service.clone(),
        machine,
        machine_name: format!("{named}.{alias}"),
        destination,
        is_http: false,
    })
}

/// A connection that the other end has accepted.
pub(super) enum Opened {
    /// On this computer.
    Here(Box<upstream::Opened>),
    /// On another machine.
    There(connect::Opened),
}

/// Why a connection was not opened.
pub(super) enum NotOpened {
    /// This computer refuses it.
    Here(Refusal),
    /// Another machine refuses it, or was not reached.
    There(ConnectError),
}

impl fmt::Display for NotOpened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here(refusal) => f.write_str(&escape(&refusal.message)),
            Self::There(error) => error.fmt(f),
        }
    }
}

impl NotOpened {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Here(refusal) => outcome(refusal.known_code()),
            Self::There(ConnectError::Reach(_)) => Outcome::Unreachable,
            Self::There(ConnectError::Refused { code, .. }) => outcome(*code),
            Self::There(ConnectError::Cut { .. }) => Outcome::Failed,
        }
    }
}

impl Found {
    /// Opens a connection, to this computer or another.
    pub(super) async fn open(&self) -> Result<Opened, NotOpened> {
        let state = &self.service.cluster_state;
        if self.machine == state.local_id {
            let opened = async {
                let to = &self.destination;
                let granted = authorize::connect(state, self.machine, Origin::Here, to)?;
                upstream::open(state, granted, None).await
            };
            let opened = opened.await.map_err(NotOpened::Here)?;
            return Ok(Opened::Here(Box::new(opened)));
        }
        let (peers, name) = (&self.service.peers, &self.machine_name);
        let opened = connect::open(peers, self.machine, name, &self.destination).await;
        opened.map(Opened::There).map_err(NotOpened::There)
    }
}

impl Opened {
    /// Passes bytes on, to the connection's end. A reset of one of its ends is no error.
    ///
    /// # Errors
    ///
    /// It was cut off; with the name of what it leads to.
    pub(super) async fn pass(
        self,
        found: &Found,
        socket: Socket,
        gone: &CancellationToken,
    ) -> Result<(), String> {
        match self {
            Self::Here(opened) => opened.pass(End::Socket(socket), gone).await,
            Self::There(opened) => tokio::select! {
                passed = opened.pass(&found.name, &found.destination, socket) => {
                    passed.map_err(|error| format!("{}: {error}", found.name))?;
                }
                // Dropping both ends resets them.
                () = gone.cancelled() => {}
            },
        }
        Ok(())
    }
}

/// A refusal, as SOCKS says it.
fn outcome(code: Option<RefusalCode>) -> Outcome {
    match code {
        Some(RefusalCode::NotAllowed | RefusalCode::NotAMember) => Outcome::NotAllowed,
        Some(RefusalCode::Failed) => Outcome::Refused,
        _ => Outcome::Failed,
    }
}
