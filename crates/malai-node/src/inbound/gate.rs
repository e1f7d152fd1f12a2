//! The gate: the only place where a [`Granted`] is made. Whatever serves a request takes one.
//!
//! Only the key that this connection's handshake proved is judged; nothing in a message says who the
//! sender is. The decision itself is `malai_cluster::decide`, a pure function.

use std::sync::Arc;

use malai_cluster::{Cluster, Decision, Grant, MachineId, Request, Snapshot, UserName, decide};
use malai_wire::peer::exec::Action;
use malai_wire::{Refusal, RefusalCode, audit};

use crate::account::Account;
use crate::audit::Origin;
use crate::member::Membership;

/// Work that the gate has allowed. It cannot be made anywhere else.
#[derive(Debug)]
pub struct Granted<T>(T);

impl<T> Granted<T> {
    /// The work.
    pub fn into_inner(self) -> T {
        self.0
    }

    /// The work.
    pub fn inner(&self) -> &T {
        &self.0
    }
}

/// A command that may run, for whom, and by which rule.
#[derive(Debug)]
pub struct Command {
    /// Who asked: the key that the handshake proved, or this machine itself.
    pub from: MachineId,
    /// What was asked for: an argument list, or a shell.
    pub asked: Action,
    /// What to run and by which rule.
    pub grant: Grant,
    /// The user it runs as.
    pub account: Account,
    /// The configuration under which it was decided.
    pub cluster: Arc<Cluster>,
    /// The number of its session.
    pub session: u64,
    /// The request as it is recorded.
    pub request: audit::Request,
}

/// Whether a peer may stay connected: it is a member under the configuration in force, or the manager.
///
/// # Errors
///
/// The refusal to close the connection with.
pub fn admit(membership: &Membership, peer: &MachineId) -> Result<(), Refusal> {
    if membership.knows(peer) {
        return Ok(());
    }
    Err(Refusal::new(
        RefusalCode::NotAMember,
        format!("the key {peer} is not in this cluster's configuration"),
    ))
}

/// Whether a command, or a shell, may run here: the decision, which is recorded, and work that is allowed.
///
/// # Errors
///
/// The refusal, with the rule that made it.
pub fn exec(
    membership: &Membership,
    from: MachineId,
    origin: Origin,
    action: &Action,
) -> Result<Granted<Command>, Refusal> {
    if !membership.serves && from != membership.me {
        return Err(Refusal::new(
            RefusalCode::NotServing,
            "this side only dials: it is a command that runs without a daemon",
        ));
    }
    let (judged, request) = loop {
        let request = membership.audit.request(membership, from, origin, action);
        let judged = may_begin(membership).and_then(|()| judge(membership, from, action));
        // The revision that is recorded is the one that was judged by.
        if request.revision == membership.header().map(|header| header.revision) {
            break (judged, request);
        }
    };
    let session = membership.sessions.number();
    let decided = judged
        .as_ref()
        .map(|(grant, account)| (grant, account, session));
    // A refusal stays one, whether or not it could be recorded.
    let recorded = membership.audit.decided(&request, decided);
    let judged = judged.and_then(|allowed| recorded.map(|()| allowed));
    let (cluster, shown) = (membership.alias(), shown(membership, action));
    let machine = membership.name_of(&from);
    match &judged {
        Ok((grant, _)) => {
            tracing::info!(%cluster, peer = %from.short(), machine, session, rule = %grant.rule, "allowed: {shown}");
        }
        Err(refusal) => {
            tracing::info!(%cluster, peer = %from.short(), machine, "refused: {shown}: {}", refusal.message);
        }
    }
    let cluster = in_force(membership)?;
    let (grant, account) = judged?;
    Ok(Granted(Command {
        from,
        asked: action.clone(),
        grant,
        account,
        cluster,
        session,
        request,
    }))
}

/// Whether anything may begin here any more.
fn may_begin(membership: &Membership) -> Result<(), Refusal> {
    match membership.is_stopping() {
        false => Ok(()),
        true => Err(Refusal::new(
            RefusalCode::Stopping,
            "the daemon of this machine is stopping",
        )),
    }
}

/// The decision alone, under what is in force now: for a request, and again for what runs already.
/// It includes the user whom it is for this computer to run it as.
///
/// # Errors
///
/// The refusal, with the rule that made it.
pub fn judge(
    membership: &Membership,
    from: MachineId,
    action: &Action,
) -> Result<(Grant, Account), Refusal> {
    let cluster = in_force(membership)?;
    let request = Request {
        from,
        to: membership.me,
        action: action.asked(),
    };
    match decide(&cluster, &request, membership.accept().as_deref()) {
        Decision::Allow(grant) => {
            let account = may_run_as(grant.user.as_ref())?;
            if *action == Action::Shell {
                account
                    .login_shell()
                    .map_err(|error| Refusal::new(RefusalCode::Failed, error.to_string()))?;
            }
            Ok((grant, account))
        }
        Decision::Refuse(refusal) => {
            Err(Refusal::new(RefusalCode::NotAllowed, refusal.to_string()))
        }
    }
}

/// The configuration by which this machine decides.
fn in_force(membership: &Membership) -> Result<Arc<Cluster>, Refusal> {
    // A manager's command line without a daemon may run here before anything was published.
    let cluster = if membership.serves {
        membership.configuration.cluster()
    } else {
        membership.configuration.names()
    };
    cluster.ok_or_else(|| {
        Refusal::new(
            RefusalCode::NoConfiguration,
            "this machine has no valid configuration of the cluster yet; it denies everything until it gets one from the manager or a member",
        )
    })
}

/// The user to run as, for every kind of request: the one that the configuration names, else the
/// daemon's own. Where this daemon cannot run as it, nothing runs: never as somebody else.
fn may_run_as(user: Option<&UserName>) -> Result<Account, Refusal> {
    let Some(user) = user else {
        return Ok(Account::own());
    };
    Account::named(user).map_err(|error| {
        Refusal::new(
            RefusalCode::Failed,
            format!(
                "the configuration says that this runs as user `{user}`, and {error}; nothing was run"
            ),
        )
    })
}

/// Whether a peer may have the configuration in force: content is given only to members of it.
///
/// # Errors
///
/// The refusal.
pub fn fetch(membership: &Membership, peer: &MachineId) -> Result<Granted<Arc<Snapshot>>, Refusal> {
    match membership.configuration.snapshot() {
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

/// Whether a peer may exchange headers here.
///
/// # Errors
///
/// The refusal.
pub fn compare(membership: &Membership, peer: &MachineId) -> Result<Granted<()>, Refusal> {
    admit(membership, peer).map(Granted)
}

/// An argument list for the log: escaped, and bounded; only its first word if the owner keeps
/// arguments out of the record.
fn shown(membership: &Membership, action: &Action) -> String {
    const MOST: usize = 200;
    let Action::Exec(argv) = action else {
        return "a shell".to_owned();
    };
    let mut text = String::new();
    let argv = match membership.audit.settings().arguments {
        true => &argv[..],
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
