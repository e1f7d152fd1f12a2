//! Authorization: the only place where a [`Granted`] is made. Everything that serves a request takes one.
//!
//! Only the key that this connection's handshake proved is authorized; no message names its sender. The decision itself is
//! `malai_cluster::decide`, a pure function.

use std::sync::{Arc, Weak};

use malai_cluster::{
    Cluster, Decision, Grant, MachineId, Request, Rule, Run, Snapshot, Upstream, UserName, decide,
};
use malai_wire::action::Asked;
use malai_wire::peer::connect::Destination;
use malai_wire::peer::exec::{Action, ExecRequest};
use malai_wire::{Refusal, RefusalCode, audit};

use crate::audit::{Counts, Origin};
use crate::cluster::state::ClusterState;
use crate::node::sessions::{Live, Located, PathInfo, Session, SessionGuard};
use crate::os::user::{AccountError, RunAs};
use crate::settings::run_as;

/// Authorized work. It cannot be constructed anywhere else.
#[derive(Debug)]
pub(crate) struct Granted<T>(T);

impl<T> Granted<T> {
    /// The work.
    pub(crate) fn into_inner(self) -> T {
        self.0
    }

    /// The work.
    pub(crate) fn inner(&self) -> &T {
        &self.0
    }
}

/// A command that may run.
#[derive(Debug)]
pub(crate) struct Command {
    /// Who asked: the key that the handshake proved, or this machine itself.
    pub from: MachineId,
    /// The requested action.
    pub asked: Action,
    /// The user that the caller asked for.
    pub user: Option<String>,
    /// The environment variables that the caller sent and this machine accepts.
    pub env: Vec<(String, Vec<u8>)>,
    /// Whether standard output and standard error are one stream.
    pub one_output: bool,
    /// What to run, and the rule that allows it.
    pub grant: Grant,
    /// The user it runs as.
    pub run_as: RunAs,
    /// The configuration that the decision is based on.
    pub cluster: Arc<Cluster>,
    /// The session number.
    pub session: u64,
    /// The request, as recorded.
    pub request: audit::Request,
}

/// A connection to a service of this machine, or to what it reaches, that may be opened.
#[derive(Debug)]
pub(crate) struct Connect {
    /// Who asked: the key that the handshake proved, or this machine itself.
    pub from: MachineId,
    /// What was asked for.
    pub destination: Destination,
    /// Where it leads.
    pub upstream: Upstream,
    /// The user that opens it.
    pub run_as: RunAs,
    /// The rule that allows it.
    pub rule: Rule,
    /// The session number.
    pub session: u64,
    /// The request, as recorded.
    pub request: audit::Request,
}

/// Whether a peer may stay connected: it is the manager or a member under the configuration in force.
///
/// # Errors
///
/// The refusal to close the connection with.
pub(crate) fn admit(cluster_state: &ClusterState, peer: &MachineId) -> Result<(), Refusal> {
    if cluster_state.is_member(peer) {
        return Ok(());
    }
    Err(Refusal::new(
        RefusalCode::NotAMember,
        format!("the key {peer} is not in this cluster's configuration"),
    ))
}

/// Decides whether a command or a shell may run here, and records the decision.
///
/// # Errors
///
/// The refusal, including its rule.
pub(crate) fn exec(
    cluster_state: &ClusterState,
    from: MachineId,
    origin: Origin,
    asked: &ExecRequest,
) -> Result<Granted<Command>, Refusal> {
    let recorded = Asked::Run(asked.action.clone());
    let user = asked.user.as_deref();
    let judged = judge(cluster_state, from, origin, recorded, || {
        decide_exec(cluster_state, from, &asked.action, user)
    })?;
    Ok(Granted(Command {
        from,
        asked: asked.action.clone(),
        user: asked.user.clone(),
        env: accepted_env(&judged.cluster, &cluster_state.local_id, asked),
        one_output: asked.one_output,
        grant: judged.grant,
        run_as: judged.run_as,
        cluster: judged.cluster,
        session: judged.session,
        request: judged.request,
    }))
}

/// Decides whether a connection to a service of this machine may be opened, and records the decision.
///
/// # Errors
///
/// The refusal, including its rule.
pub(crate) fn connect(
    cluster_state: &ClusterState,
    from: MachineId,
    origin: Origin,
    destination: &Destination,
) -> Result<Granted<Connect>, Refusal> {
    let recorded = Asked::Connect(destination.clone());
    let judged = judge(cluster_state, from, origin, recorded, || {
        decide_connect(cluster_state, from, destination)
    })?;
    let Run::Connect(upstream) = judged.grant.run else {
        let why = "this is no connection to a service";
        return Err(Refusal::new(RefusalCode::NotAllowed, why));
    };
    Ok(Granted(Connect {
        from,
        destination: destination.clone(),
        upstream,
        run_as: judged.run_as,
        rule: judged.grant.rule,
        session: judged.session,
        request: judged.request,
    }))
}

/// A request that is allowed, and recorded.
struct Judged {
    grant: Grant,
    run_as: RunAs,
    cluster: Arc<Cluster>,
    session: u64,
    request: audit::Request,
}

/// Decides a request, records the decision, and numbers the session.
fn judge(
    cluster_state: &ClusterState,
    from: MachineId,
    origin: Origin,
    asked: Asked,
    decide: impl Fn() -> Result<(Grant, RunAs), Refusal>,
) -> Result<Judged, Refusal> {
    if !cluster_state.node.serves && from != cluster_state.local_id {
        return Err(Refusal::new(
            RefusalCode::NotServing,
            "this side only dials: it is a command that runs without a daemon",
        ));
    }
    let (judged, request) = loop {
        let request =
            cluster_state
                .node
                .audit
                .request(cluster_state.requester(from), origin, &asked);
        let judged = ensure_not_stopping(cluster_state).and_then(|()| decide());
        // The recorded revision is the one that the decision is based on.
        if request.revision == cluster_state.header().map(|header| header.revision) {
            break (judged, request);
        }
    };
    let session = cluster_state.node.sessions.next_id();
    let decided = judged
        .as_ref()
        .map(|(grant, run_as)| (grant, run_as, session));
    // A refusal stays one, whether or not it could be recorded.
    let recorded = cluster_state.node.audit.decided(&request, decided);
    let judged = judged.and_then(|allowed| recorded.map(|()| allowed));
    let (cluster, shown) = (cluster_state.alias(), shown(cluster_state, &asked));
    let machine = cluster_state.name_of(&from);
    match &judged {
        Ok((grant, _)) => {
            tracing::info!(%cluster, peer = %from.short(), machine, session, rule = %grant.rule, "allowed: {shown}");
        }
        Err(refusal) => {
            tracing::info!(%cluster, peer = %from.short(), machine, "refused: {shown}: {}", refusal.message);
        }
    }
    let cluster = in_force(cluster_state)?;
    let (grant, run_as) = judged?;
    Ok(Judged {
        grant,
        run_as,
        cluster,
        session,
        request,
    })
}

/// Adds a command that is about to run to the sessions, and decides once more: a configuration that arrived between its
/// grant and its entry in the list has not been applied to it.
pub(crate) fn begin(
    cluster_state: &ClusterState,
    command: &Command,
    connection: Option<Weak<dyn PathInfo>>,
    counts: Arc<Counts>,
) -> SessionGuard<Session> {
    let asked = Asked::Run(command.asked.clone());
    let alias = cluster_state.alias().clone();
    let guard = cluster_state.node.sessions.begin(Session {
        live: Live::new(command.session, alias, asked, connection, counts),
        from: command.from,
        user: command.user.clone(),
        run_as: command.run_as.clone(),
        upstream: None,
        located: Located::default(),
        rule: command.grant.rule.clone(),
        folder: command.grant.run.folder().cloned(),
    });
    reauthorize(cluster_state, guard.session());
    guard
}

/// The same for a connection that is about to be opened.
pub(crate) fn begin_connection(
    cluster_state: &ClusterState,
    connect: &Connect,
    connection: Option<Weak<dyn PathInfo>>,
    counts: Arc<Counts>,
) -> SessionGuard<Session> {
    let asked = Asked::Connect(connect.destination.clone());
    let alias = cluster_state.alias().clone();
    let guard = cluster_state.node.sessions.begin(Session {
        live: Live::new(connect.session, alias, asked, connection, counts),
        from: connect.from,
        user: None,
        run_as: connect.run_as.clone(),
        upstream: Some(connect.upstream.clone()),
        located: Located::default(),
        rule: connect.rule.clone(),
        folder: None,
    });
    reauthorize(cluster_state, guard.session());
    // The daemon may have ended all connections since this one was granted.
    if let Err(refusal) = ensure_not_stopping(cluster_state) {
        guard.session().live.end(refusal);
    }
    guard
}

/// Authorizes a cluster's live sessions again, under the configuration in force.
pub(crate) fn reauthorize_all(cluster_state: &ClusterState) {
    let sessions = cluster_state.node.sessions.all().into_iter();
    for session in sessions.filter(|session| session.live.alias == *cluster_state.alias()) {
        reauthorize(cluster_state, &session);
    }
}

/// Authorizes a live session again. A session that would not get the same answer (allowed, as the same user, to the same
/// address) is ended, with the reason.
fn reauthorize(cluster_state: &ClusterState, session: &Session) {
    let live = &session.live;
    let decided = match &live.asked {
        Asked::Run(action) => {
            decide_exec(cluster_state, session.from, action, session.user.as_deref())
        }
        Asked::Connect(destination) => decide_connect(cluster_state, session.from, destination),
    };
    let reason = match decided {
        Ok((grant, _)) if grant.run.folder() != session.folder.as_ref() => {
            "the folder is another one now".to_owned()
        }
        Ok((grant, run_as)) => match (&session.upstream, &grant.run) {
            (Some(before), Run::Connect(now))
                if before == now && run_as.uid == session.run_as.uid =>
            {
                return;
            }
            (Some(before), Run::Connect(now)) if before == now => {
                "it would be opened as another user now".to_owned()
            }
            (Some(_), now) => match now {
                Run::Connect(now) => format!("the service is at {now} now"),
                _ => "it is no service now".to_owned(),
            },
            (None, _) if run_as.uid == session.run_as.uid => return,
            (None, _) => match &run_as.name {
                Some(name) => format!(
                    "it would run as user `{}` now",
                    malai_cluster::escape(&name.to_string_lossy())
                ),
                None => "it would run as another user now".to_owned(),
            },
        },
        Err(refusal) => refusal.message,
    };
    let reason = format!("ended because the configuration has changed: {reason}");
    tracing::info!(cluster = %live.alias, peer = %session.from.short(), session = live.id, "{reason}");
    live.end(Refusal::new(RefusalCode::NotAllowed, reason));
}

/// The variables of a request that this machine's `accept_env` admits. Names and values that an environment cannot contain
/// are dropped like those that are not accepted.
fn accepted_env(
    cluster: &Cluster,
    machine: &MachineId,
    asked: &ExecRequest,
) -> Vec<(String, Vec<u8>)> {
    let patterns = cluster
        .machine(machine)
        .and_then(|machine| machine.accept_env());
    let can_be_set = |name: &str, value: &[u8]| {
        !name.contains(['=', '\0']) && !name.is_empty() && !value.contains(&0)
    };
    let accepted = asked.env.iter().filter(|(name, value)| {
        can_be_set(name, value) && malai_cluster::accepts_env(patterns, name)
    });
    accepted.cloned().collect()
}

/// Refuses new sessions while the daemon stops.
fn ensure_not_stopping(cluster_state: &ClusterState) -> Result<(), Refusal> {
    match cluster_state.is_stopping() {
        false => Ok(()),
        true => Err(Refusal::new(
            RefusalCode::Stopping,
            "the daemon of this machine is stopping",
        )),
    }
}

/// The decision alone, under the configuration in force: for a new request, and again for a running one. It includes the
/// user that this computer runs it as.
///
/// # Errors
///
/// The refusal, including its rule.
pub(crate) fn decide_exec(
    cluster_state: &ClusterState,
    from: MachineId,
    action: &Action,
    user: Option<&str>,
) -> Result<(Grant, RunAs), Refusal> {
    let cluster = in_force(cluster_state)?;
    let request = Request {
        from,
        to: cluster_state.local_id,
        action: action.asked(),
        user,
    };
    match decide(&cluster, &request, cluster_state.accept().as_deref()) {
        Decision::Allow(grant) => {
            let run_as = may_run_as(grant.user.as_ref())?;
            if matches!(grant.run, Run::Shell | Run::Line(_)) {
                run_as
                    .login_shell()
                    .map_err(|error| Refusal::new(RefusalCode::Failed, error.to_string()))?;
            }
            Ok((grant, run_as))
        }
        Decision::Refuse(refusal) => {
            Err(Refusal::new(RefusalCode::NotAllowed, refusal.to_string()))
        }
    }
}

/// The decision about a connection alone, as [`decide_exec`].
///
/// # Errors
///
/// The refusal, including its rule.
fn decide_connect(
    cluster_state: &ClusterState,
    from: MachineId,
    destination: &Destination,
) -> Result<(Grant, RunAs), Refusal> {
    let cluster = in_force(cluster_state)?;
    let request = Request {
        from,
        to: cluster_state.local_id,
        action: destination.asked(),
        user: destination.user(),
    };
    match decide(&cluster, &request, cluster_state.accept().as_deref()) {
        // A service is the daemon's to open, and a port is nobody's in particular. A socket that the caller names is opened
        // with the rights of the user that a shell of his would have.
        Decision::Allow(grant) => match destination {
            Destination::Service(_) | Destination::Tcp(_) => Ok((grant, RunAs::own())),
            Destination::Unix { .. } => {
                let run_as = may_run_as(grant.user.as_ref())?;
                Ok((grant, run_as))
            }
        },
        Decision::Refuse(refusal) => {
            Err(Refusal::new(RefusalCode::NotAllowed, refusal.to_string()))
        }
    }
}

/// The configuration that this machine decides by.
fn in_force(cluster_state: &ClusterState) -> Result<Arc<Cluster>, Refusal> {
    // A manager's command line without a daemon may run here before anything was published.
    let cluster = if cluster_state.node.serves {
        cluster_state.config.cluster()
    } else {
        cluster_state.config.names()
    };
    cluster.ok_or_else(|| {
        Refusal::new(
            RefusalCode::NoConfiguration,
            "this machine has no valid configuration of the cluster yet; it denies everything until it gets one from the manager or a member",
        )
    })
}

/// The user to run as, for every kind of request: the one that the configuration names, else this computer's default,
/// else the daemon's own. If this daemon cannot run as that user, nothing runs; it never runs as another user.
fn may_run_as(user: Option<&UserName>) -> Result<RunAs, Refusal> {
    let failed = |why| Refusal::new(RefusalCode::Failed, format!("{why}; nothing was run"));
    if let Some(user) = user {
        let by = "as whom the configuration has this run";
        return RunAs::named(user).map_err(|error| failed(cannot_run_as(&error, by)));
    }
    match run_as::default_user().map_err(|error| failed(error.to_string()))? {
        None => Ok(RunAs::own()),
        Some(user) => RunAs::named(&user).map_err(|error| {
            let by = format!("as whom its commands run ({})", run_as::VARIABLE);
            failed(cannot_run_as(&error, &by))
        }),
    }
}

/// Why nothing runs as a user, for a caller on another machine.
fn cannot_run_as(error: &AccountError, by: &str) -> String {
    match error {
        AccountError::Unknown(user) => format!("this machine has no user `{user}`, {by}"),
        AccountError::MayNot(user) => {
            format!("this machine's daemon may not switch to user `{user}`, {by}")
        }
    }
}

/// Whether a peer may fetch the configuration in force: only its members may.
///
/// # Errors
///
/// The refusal.
pub(crate) fn fetch(
    cluster_state: &ClusterState,
    peer: &MachineId,
) -> Result<Granted<Arc<Snapshot>>, Refusal> {
    match cluster_state.config.snapshot() {
        Some(snapshot) if snapshot.cluster().is_member(peer) => Ok(Granted(snapshot)),
        Some(_) => Err(Refusal::new(
            RefusalCode::NotAMember,
            "content is given only to members of this configuration",
        )),
        None => Err(Refusal::new(
            RefusalCode::NoConfiguration,
            "this machine has no configuration to give",
        )),
    }
}

/// Whether a peer may compare headers here.
///
/// # Errors
///
/// The refusal.
pub(crate) fn compare(
    cluster_state: &ClusterState,
    peer: &MachineId,
) -> Result<Granted<()>, Refusal> {
    admit(cluster_state, peer).map(Granted)
}

/// An argument list for the log: escaped and bounded; only its first word if the owner keeps arguments out of the
/// record.
pub(crate) fn shown(cluster_state: &ClusterState, asked: &Asked) -> String {
    const MOST: usize = 200;
    let action = match asked {
        Asked::Run(action) => action,
        Asked::Connect(destination) => {
            let what = match destination {
                Destination::Service(_) => "service",
                Destination::Tcp(_) | Destination::Unix { .. } => "a connection to",
            };
            return format!("{what} {}", destination.shown());
        }
    };
    let argv = match action {
        Action::Exec(argv) => argv,
        Action::Shell => return "a shell".to_owned(),
        Action::Subsystem(name) => return format!("subsystem {}", malai_cluster::escape(name)),
        Action::Folder { folder, subsystem } => {
            let (folder, subsystem) = (
                malai_cluster::escape(folder),
                malai_cluster::escape(subsystem),
            );
            return format!("subsystem {subsystem} of folder {folder}");
        }
        Action::Line(line) => std::slice::from_ref(line),
    };
    let mut text = String::new();
    let argv = match cluster_state.node.audit.settings().arguments {
        true => argv,
        false if matches!(action, Action::Line(_)) => return "a line".to_owned(),
        false => &argv[..argv.len().min(1)],
    };
    for argument in argv {
        if text.len() > MOST {
            text.push('…');
            break;
        }
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(&malai_cluster::escape_bytes(
            &argument[..argument.len().min(MOST)],
        ));
    }
    text
}
