//! Whether this machine is a member of its cluster, and which members could not be reached, judging by what others do.

use std::collections::HashMap;
use std::time::Instant;

use malai_cluster::{ClusterAlias, ClusterId, MachineId, escape};
use malai_wire::status::MembershipState;
use parking_lot::Mutex;

/// Observations about others.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    objection: Mutex<Option<Objection>>,
    failures: Mutex<HashMap<MachineId, Failure>>,
}

/// Why others do not treat this machine as a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Objection {
    /// The manager refuses this machine's key.
    Refused,
    /// The manager has signed a newer revision than the one in force here, and its content, which only members get, is refused
    /// to this machine.
    LeftOut {
        /// The revision.
        revision: u64,
    },
    /// The supposed manager is a machine of this cluster.
    NotAManager {
        /// The cluster, by the manager's key.
        cluster: ClusterId,
    },
}

/// A member that could not be reached.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    /// When it failed.
    pub(crate) at: Instant,
    /// Why, as text.
    pub(crate) why: String,
}

impl Observed {
    /// Records that a peer could not be reached, or has fallen silent.
    pub(crate) fn failed(&self, peer: MachineId, why: &str) {
        let failure = Failure {
            at: Instant::now(),
            why: why.to_owned(),
        };
        self.failures.lock().insert(peer, failure);
    }

    /// The last failure to reach a peer, unless the peer was heard from since.
    pub(crate) fn failure_of(&self, peer: &MachineId, heard: Option<Instant>) -> Option<Failure> {
        let failure = self.failures.lock().get(peer).cloned()?;
        heard
            .is_none_or(|heard| heard < failure.at)
            .then_some(failure)
    }

    /// Removes all peers but these.
    pub(crate) fn retain(&self, is_kept: impl Fn(&MachineId) -> bool) {
        self.failures.lock().retain(|peer, _| is_kept(peer));
    }

    /// Records that another machine does not treat this one as a member.
    pub(crate) fn object(&self, new: Objection) {
        let mut objection = self.objection.lock();
        // If it is not a manager, that explains its refusals.
        if !matches!(*objection, Some(Objection::NotAManager { .. })) {
            *objection = Some(new);
        }
    }

    /// Records that the manager treats this machine as a member, or that a configuration with it is in force.
    pub(crate) fn accepted(&self) {
        let mut objection = self.objection.lock();
        if !matches!(*objection, Some(Objection::NotAManager { .. })) {
            *objection = None;
        }
    }

    /// Whether this machine is a member of its cluster, and what its owner should know and do about it.
    pub(crate) fn standing(
        &self,
        is_configured: bool,
        alias: &ClusterAlias,
        manager: &ClusterId,
        own: &MachineId,
    ) -> (MembershipState, Option<String>) {
        let objection = self.objection.lock().clone();
        describe(
            objection.as_ref(),
            is_configured,
            alias.as_str(),
            manager,
            own,
        )
    }
}

/// The message for each situation.
fn describe(
    objection: Option<&Objection>,
    is_configured: bool,
    alias: &str,
    manager: &ClusterId,
    own: &MachineId,
) -> (MembershipState, Option<String>) {
    let alias = escape(alias);
    let again = format!(
        "if that is a mistake, add it again on the manager (malai cluster add <alias> <name> {own}); otherwise: malai cluster leave {alias}"
    );
    match (objection, is_configured) {
        (Some(Objection::NotAManager { cluster }), _) => (
            MembershipState::NotAManager,
            Some(format!(
                "{manager}, with which this computer joined, is not a manager's id52: it is a machine that calls itself a member of the cluster {cluster}. Compare that with what `malai id` shows on the manager, and then join with it: malai machine init --replace {cluster} {alias}"
            )),
        ),
        (Some(Objection::Refused), true) => (
            MembershipState::Removed,
            Some(format!(
                "this machine is no longer in the cluster: the manager refuses its key, and so do all machines with the newest configuration; {again}"
            )),
        ),
        (Some(Objection::LeftOut { revision }), true) => (
            MembershipState::Removed,
            Some(format!(
                "this machine is no longer in the cluster: the manager has signed revision {revision}, which is newer than the one in force here and is given only to members; {again}"
            )),
        ),
        (Some(Objection::Refused | Objection::LeftOut { .. }), false) | (None, false) => (
            MembershipState::Waiting,
            Some(format!(
                "no configuration yet: the manager has to add {own} to its cluster.toml"
            )),
        ),
        (None, true) => (MembershipState::Member, None),
    }
}

#[cfg(test)]
mod tests {
    use malai_cluster::SecretSeed;

    use super::*;

    #[test]
    fn each_situation_has_its_own_sentence() {
        let id = |byte| SecretSeed::from_bytes([byte; 32]).id();
        let (manager, other, own) = (ClusterId::new(id(1)), ClusterId::new(id(2)), id(3));
        let not_a_manager = Objection::NotAManager { cluster: other };
        for (objection, is_configured, state, words) in [
            (None, true, MembershipState::Member, ""),
            (None, false, MembershipState::Waiting, "has to add"),
            (
                Some(Objection::Refused),
                false,
                MembershipState::Waiting,
                "has to add",
            ),
            (
                Some(Objection::Refused),
                true,
                MembershipState::Removed,
                "the manager refuses its key",
            ),
            (
                Some(Objection::LeftOut { revision: 7 }),
                true,
                MembershipState::Removed,
                "revision 7",
            ),
            (
                Some(not_a_manager.clone()),
                false,
                MembershipState::NotAManager,
                "machine init --replace",
            ),
            (
                Some(not_a_manager),
                true,
                MembershipState::NotAManager,
                "not a manager's id52",
            ),
        ] {
            let (found, said) = describe(objection.as_ref(), is_configured, "c", &manager, &own);
            assert_eq!(found, state, "{objection:?}");
            let said = said.unwrap_or_default();
            assert!(
                said.contains(words) && said.is_empty() == words.is_empty(),
                "{said}"
            );
        }
    }
}
