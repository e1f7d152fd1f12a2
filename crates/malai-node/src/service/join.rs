//! Lets machines in that have an invitation: records the use, adds the machine to cluster.toml, publishes. A process that
//! is killed between two of these steps lets in neither two nor none: the same key asks again, and the rest is done.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use malai_cluster::{Asked, Claim, MachineId, MachineName, escape};
use malai_wire::{Refusal, RefusalCode};
use tokio::sync::oneshot;

use crate::audit::{InvitationAnswer, Origin};
use crate::cluster::invited::{let_in, waits};
use crate::home::Role;
use crate::home::admission::{Admission, Newcomer, NotAdmitted};
use crate::home::invitations::{self, Invited, Use, now};
use crate::os::fault;
use crate::peer::arrival::{Arrival, Greeted};
use crate::service::{Service, distribute};
use crate::sync::publish;

/// How long a manager that has published nothing in this run asks members for newer revisions, before it lets anyone in.
const ASK_FOR_NEWER: Duration = Duration::from_millis(1500);

/// How often a file that is being edited is planned again.
const ATTEMPTS: usize = 5;

/// A machine's request that was proven.
#[derive(Debug)]
struct Request {
    claim: Claim,
    newcomer: Newcomer,
    origin: Origin,
}

impl Service {
    /// Decides about a machine that is in no configuration here and claims an invitation. When this succeeds, it is a
    /// member.
    ///
    /// # Errors
    ///
    /// The refusal to close the connection with.
    pub(super) async fn admit_invited(
        self: &Arc<Self>,
        arrival: &Arrival,
        greeted: &Greeted,
        claim: &Claim,
    ) -> Result<(), Refusal> {
        let cluster_state = &self.cluster_state;
        let origin = Origin::from(arrival.address());
        let request = match self.proven(arrival, greeted.peer, claim, origin).await {
            Ok(request) => request,
            Err(refusal) => {
                cluster_state.node.audit.stranger(cluster_state.alias());
                return Err(refusal);
            }
        };
        // A place of its own: those of strangers may be taken.
        let places = cluster_state.invited.places.clone();
        let Ok(place) = places.try_acquire_owned() else {
            return Err(later(
                "many machines are joining at once; this one asks again",
            ));
        };
        // Not ended with the connection: what has begun is finished.
        let (answer, answered) = oneshot::channel();
        let service = self.clone();
        self.spawn(async move {
            let _ = answer.send(service.let_in(request).await);
            drop(place);
        });
        let answered = answered.await;
        answered.unwrap_or_else(|_| Err(Refusal::new(RefusalCode::Stopping, "the daemon stops")))
    }

    /// Checks the proof.
    async fn proven(
        &self,
        arrival: &Arrival,
        peer: MachineId,
        claim: &Claim,
        origin: Origin,
    ) -> Result<Request, Refusal> {
        let cluster_state = &self.cluster_state;
        let id = claim.invitation;
        let not_a_manager = || not_invited("this computer is not the cluster's manager".to_owned());
        if cluster_state.role != Role::Manager {
            return Err(not_a_manager());
        }
        let invited = self.invitation(claim).await?;
        let asked = Asked {
            cluster: &cluster_state.cluster,
            machine: &peer,
            binding: &arrival.binding().ok_or_else(not_a_manager)?,
            name: claim.name.as_deref(),
            host: &claim.host,
        };
        let proven = invited.filter(|invited| asked.is_proven(&invited.key, &claim.proof));
        if proven.is_none() {
            // Whether such an invitation exists is not told.
            let text = format!(
                "this manager does not know the invitation {id}: is it an old one, or for another cluster?"
            );
            if cluster_state.node.limiter.wrong_invitation() {
                tracing::warn!(cluster = %cluster_state.alias(), peer = %peer, from = %origin, invitation = %id, "a stranger claims an invitation and cannot prove it");
            }
            return Err(not_invited(text));
        }
        let name = |text: &str| {
            MachineName::parse(text)
                .map_err(|error| not_invited(format!("the name is refused: {error}")))
        };
        Ok(Request {
            claim: claim.clone(),
            newcomer: Newcomer {
                id: peer,
                insisted: claim.name.as_deref().map(name).transpose()?,
                host: name(&claim.host)?,
            },
            origin,
        })
    }

    async fn invitation(&self, claim: &Claim) -> Result<Option<Invited>, Refusal> {
        let (dir, id) = (self.cluster_state.dir.clone(), claim.invitation);
        let loaded = tokio::task::spawn_blocking(move || invitations::load(&dir, id)).await;
        match loaded {
            Ok(Ok(invited)) => Ok(invited),
            Ok(Err(error)) => {
                tracing::error!(cluster = %self.cluster_state.alias(), "{error}");
                Err(later("the manager cannot read the invitation"))
            }
            Err(_) => Err(later("the manager could not decide")),
        }
    }

    /// Lets a machine in whose request was proven, and records the answer.
    async fn let_in(self: Arc<Self>, request: Request) -> Result<(), Refusal> {
        let cluster_state = &self.cluster_state;
        let _publishing = cluster_state.publishing.lock().await;
        let id = request.newcomer.id;
        // It may have asked twice.
        if cluster_state.is_member(&id) {
            return Ok(());
        }
        let let_in = self.try_let_in(&request).await;
        match &let_in {
            Ok(()) => drop(distribute::push(&self)),
            Err(refusal) => {
                let why = escape(&refusal.message);
                let invitation = request.claim.invitation;
                if refusal.known_code() == Some(RefusalCode::JoinLater) {
                    let text = waits(&id, invitation, &why);
                    cluster_state.invited.note(id, text);
                }
                if cluster_state.node.limiter.wrong_invitation() {
                    tracing::warn!(cluster = %cluster_state.alias(), peer = %id, %invitation, "not admitted: {why}");
                    let _ = self.record(&request, Err(&why));
                }
            }
        }
        let_in
    }

    async fn try_let_in(self: &Arc<Self>, request: &Request) -> Result<(), Refusal> {
        let cluster_state = &self.cluster_state;
        let alias = cluster_state.alias();
        // A backup may have brought an invitation back to life that was used: members know.
        if !self.has_asked_for_newer.swap(true, Ordering::Relaxed) {
            let members: Vec<MachineId> = cluster_state
                .config
                .cluster()
                .map(|cluster| cluster.members().collect())
                .unwrap_or_default();
            distribute::ask_members_for_newer(self, members.into_iter(), ASK_FOR_NEWER).await;
        }
        let state = cluster_state.config.state();
        if state.newer.is_some() {
            return Err(later(format!(
                "the manager was restored from a backup, and its administrator has to decide first: malai rescan {alias} there says how"
            )));
        }
        let Some(in_force) = state.snapshot else {
            return Err(later(format!(
                "the manager has published nothing yet: malai rescan {alias} there"
            )));
        };
        for _ in 0..ATTEMPTS {
            let Some(invited) = self.invitation(&request.claim).await? else {
                return Err(not_invited("the invitation was deleted".to_owned()));
            };
            if self.admit_as_planned(request, &invited, &in_force).await? {
                return Ok(());
            }
        }
        Err(later(
            "the manager's cluster.toml is being changed; this machine asks again",
        ))
    }

    /// One attempt. Returns false if the file has changed meanwhile.
    async fn admit_as_planned(
        self: &Arc<Self>,
        request: &Request,
        invited: &Invited,
        in_force: &Arc<malai_cluster::Snapshot>,
    ) -> Result<bool, Refusal> {
        let cluster_state = &self.cluster_state;
        let (id, invitation) = (request.newcomer.id, request.claim.invitation);
        let unfit = |why: invitations::Unfit| {
            not_invited(format!("the invitation {invitation} cannot be used: {why}"))
        };
        let begun = invited.judge(&id, now()).map_err(unfit)?;
        let dir = &cluster_state.dir;
        let plan = Admission::plan(dir, in_force, invited, begun, &request.newcomer);
        let plan = plan.map_err(|error| match error {
            NotAdmitted::Name(error) => not_invited(error.to_string()),
            NotAdmitted::Later(text) => later(text),
        })?;
        let using = Use {
            name: plan.name.clone(),
            id52: id,
            at: now(),
            from: request.origin.to_string(),
            joined: false,
        };
        let broken = |what: &str, error: &dyn std::fmt::Display| {
            tracing::error!(cluster = %cluster_state.alias(), %invitation, "{what}: {error}");
            later("the manager cannot write its files; its log says why")
        };
        fault::point("before-use");
        invitations::record_use(dir, invitation, &using)
            .map_err(|error| broken("a use cannot be recorded", &error))?
            .map_err(unfit)?;
        fault::point("after-use");
        self.record(request, Ok(plan.name.as_str()))
            .map_err(|refusal| later(refusal.message))?;
        let is_written = plan
            .write(dir)
            .map_err(|error| broken("the machine cannot be added", &error))?;
        if !is_written {
            return Ok(false);
        }
        fault::point("after-edit");
        let mode = publish::PublishMode::Current;
        publish::publish(cluster_state, &plan.cluster, mode)
            .map_err(|error| broken("the machine cannot be published", &error))?;
        fault::point("after-publish");
        invitations::finish_uses(dir, &plan.cluster);
        cluster_state.remove_pending_join(&id);
        let text = let_in(plan.name.as_str(), invitation);
        tracing::info!(cluster = %cluster_state.alias(), peer = %id, "{text}");
        cluster_state.invited.note(id, text);
        Ok(true)
    }

    /// Records the answer to a machine with an invitation.
    fn record(&self, request: &Request, answer: Result<&str, &str>) -> Result<(), Refusal> {
        let cluster_state = &self.cluster_state;
        cluster_state.node.audit.invitation(&InvitationAnswer {
            alias: cluster_state.alias(),
            cluster: cluster_state.cluster,
            peer: request.newcomer.id,
            from: &request.origin,
            invitation: request.claim.invitation,
            answer,
        })
    }
}

fn not_invited(text: String) -> Refusal {
    Refusal::new(RefusalCode::NotInvited, text)
}

fn later(text: impl Into<String>) -> Refusal {
    Refusal::new(RefusalCode::JoinLater, text)
}
