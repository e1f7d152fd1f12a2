//! Joining with an invitation: on a machine, how far it has come; on a manager, who has come with one.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use malai_cluster::{Asked, Claim, ClusterId, InvitationId, MachineId};
use malai_wire::status::{JoiningFacts, JoiningState, MembershipState};
use malai_wire::{Refusal, RefusalCode};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::home::ClusterDir;
use crate::home::joining::{self, Joining};

/// How many machines with an invitation are handled at once, strangers apart.
const AT_ONCE: usize = 16;

/// How many machines with an invitation are remembered.
const REMEMBERED: usize = 32;

/// How long status tells of one.
const TOLD_FOR: Duration = Duration::from_secs(3600);

/// A machine's own invitation.
#[derive(Debug, Default)]
pub(crate) struct OwnInvitation(Mutex<Option<Progress>>);

#[derive(Debug)]
struct Progress {
    joining: Joining,
    facts: JoiningFacts,
}

impl OwnInvitation {
    /// What is in the folder now. Returns whether the manager is to be asked because of it.
    pub(crate) fn load(&self, dir: &ClusterDir) -> bool {
        let loaded = Joining::load(dir).unwrap_or_else(|error| {
            tracing::error!(cluster = %dir.alias, "{error}");
            None
        });
        let mut own = self.0.lock();
        let is_new = match (&loaded, &*own) {
            (Some(joining), Some(known)) => *joining != known.joining,
            (Some(_), None) => true,
            (None, _) => false,
        };
        if is_new || loaded.is_none() {
            *own = loaded.map(|joining| Progress {
                facts: match &joining.refused {
                    Some(text) => JoiningFacts {
                        state: JoiningState::Refused,
                        text: Some(text.clone()),
                    },
                    None => JoiningFacts::default(),
                },
                joining,
            });
        }
        is_new
    }

    /// The claim in the hello to the manager, on a connection with this binding.
    pub(crate) fn claim(
        &self,
        cluster: &ClusterId,
        machine: &MachineId,
        binding: &[u8; 32],
    ) -> Option<Claim> {
        let own = self.0.lock();
        let Progress { joining, .. } = own.as_ref().filter(|own| own.asks())?;
        let asked = Asked {
            cluster,
            machine,
            binding,
            name: joining.name.as_ref().map(|name| name.as_str()),
            host: joining.host.as_str(),
        };
        Some(Claim {
            invitation: joining.invitation.id(),
            name: asked.name.map(str::to_owned),
            host: asked.host.to_owned(),
            proof: joining.invitation.prove(&asked),
        })
    }

    /// Whether the manager is still to be asked.
    pub(crate) fn is_asking(&self) -> bool {
        self.0.lock().as_ref().is_some_and(Progress::asks)
    }

    /// How the manager closed the connection.
    pub(crate) fn answered(&self, refusal: &Refusal, dir: &ClusterDir) {
        let mut own = self.0.lock();
        let Some(progress) = own.as_mut() else {
            return;
        };
        // Shown in status and stored: the manager's text.
        let text = malai_cluster::escape(&refusal.message);
        match refusal.known_code() {
            Some(RefusalCode::NotInvited) => {
                tracing::warn!(cluster = %dir.alias, "the manager refuses the invitation: {text}");
                progress.joining.refused = Some(text.clone());
                if let Err(error) = progress.joining.store(dir) {
                    tracing::warn!(cluster = %dir.alias, "the refusal cannot be kept: {error}");
                }
                progress.set(JoiningState::Refused, text);
            }
            Some(RefusalCode::JoinLater) => progress.set(JoiningState::Waiting, text),
            _ => {}
        }
    }

    /// The manager could not be reached.
    pub(crate) fn unreachable(&self, why: &str) {
        if let Some(progress) = self.0.lock().as_mut().filter(|own| own.asks()) {
            let first = why.lines().next().unwrap_or_default();
            progress.set(JoiningState::Unreachable, first.to_owned());
        }
    }

    /// This machine has joined.
    pub(crate) fn joined(&self, dir: &ClusterDir) {
        if self.0.lock().take().is_some() {
            joining::forget(dir);
        }
    }

    /// How far it has come, for status.
    pub(crate) fn facts(&self) -> Option<JoiningFacts> {
        self.0.lock().as_ref().map(|own| own.facts.clone())
    }

    /// What the owner of this computer should know.
    pub(crate) fn standing(&self, alias: &str) -> Option<(MembershipState, Option<String>)> {
        let JoiningFacts { state, text } = self.facts()?;
        let text = text.unwrap_or_default();
        let sentence = match state {
            JoiningState::Asking | JoiningState::Other => {
                "this computer joins with an invitation: its manager is being asked".to_owned()
            }
            JoiningState::Unreachable => format!(
                "this computer joins with an invitation as soon as its manager can be reached, which may be asleep; it goes on trying ({text})"
            ),
            JoiningState::Waiting => format!(
                "this computer joins with an invitation, but not yet: {text}; it asks again by itself"
            ),
            JoiningState::Refused => joining::refused(&text, alias),
        };
        Some((MembershipState::Waiting, Some(sentence)))
    }
}

impl Progress {
    fn asks(&self) -> bool {
        self.facts.state != JoiningState::Refused
    }

    fn set(&mut self, state: JoiningState, text: String) {
        self.facts = JoiningFacts {
            state,
            text: Some(text),
        };
    }
}

/// The machines that have come to a manager with an invitation.
#[derive(Debug)]
pub(crate) struct InvitedMachines {
    /// Permits to handle one.
    pub(crate) places: Arc<Semaphore>,
    seen: Mutex<VecDeque<Seen>>,
}

#[derive(Debug)]
struct Seen {
    id: MachineId,
    at: Instant,
    text: String,
}

impl Default for InvitedMachines {
    fn default() -> Self {
        Self {
            places: Arc::new(Semaphore::new(AT_ONCE)),
            seen: Mutex::default(),
        }
    }
}

impl InvitedMachines {
    /// Notes what became of a machine.
    pub(crate) fn note(&self, id: MachineId, text: String) {
        let mut seen = self.seen.lock();
        let at = Instant::now();
        seen.retain(|seen| seen.id != id);
        if seen.len() >= REMEMBERED {
            seen.pop_front();
        }
        seen.push_back(Seen { id, at, text });
    }

    /// What became of those that came in the last hour, as sentences.
    pub(crate) fn notices(&self) -> Vec<String> {
        let seen = self.seen.lock();
        let recent = seen.iter().filter(|seen| seen.at.elapsed() < TOLD_FOR);
        recent.map(|seen| seen.text.clone()).collect()
    }
}

/// The sentence about a machine that was let in.
pub(crate) fn let_in(name: &str, invitation: InvitationId) -> String {
    format!("{name} has joined with the invitation {invitation}")
}

/// The sentence about a machine that waits.
pub(crate) fn waits(id: &MachineId, invitation: InvitationId, why: &str) -> String {
    format!(
        "{} waits to join with the invitation {invitation}: {why}",
        id.short()
    )
}
