//! The configuration in force: one immutable value, replaced as a whole.

use std::sync::Arc;

use malai_cluster::{Cluster, Snapshot, Standing};
use tokio::sync::watch;

/// What is in force in one cluster, and what stands in the way of more.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// The last good snapshot. Without one everything is denied.
    pub snapshot: Option<Arc<Snapshot>>,
    /// Names for a manager's own command line before anything was published: never used to allow
    /// anything to others.
    pub draft: Option<Arc<Cluster>>,
    /// What is wrong, for people: a damaged file, a broken cluster.toml.
    pub problem: Option<String>,
    /// On a manager: a validly signed revision above its own that a member has shown. Until the
    /// administrator rescans, nothing is published.
    pub newer: Option<u64>,
    /// A second content under a revision that this side has.
    pub fork: Option<String>,
}

/// The state, and news of it.
#[derive(Debug)]
pub struct ConfigStore(watch::Sender<State>);

impl ConfigStore {
    /// Starts with a state.
    pub fn new(state: State) -> Self {
        Self(watch::Sender::new(state))
    }

    /// The snapshot in force.
    pub fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.0.borrow().snapshot.clone()
    }

    /// The cluster in force.
    pub fn cluster(&self) -> Option<Arc<Cluster>> {
        self.0
            .borrow()
            .snapshot
            .as_ref()
            .map(|snapshot| snapshot.cluster().clone())
    }

    /// The cluster in which names are looked up: the one in force, else a manager's draft.
    pub fn names(&self) -> Option<Arc<Cluster>> {
        self.cluster().or_else(|| self.0.borrow().draft.clone())
    }

    /// All of it.
    pub fn state(&self) -> State {
        self.0.borrow().clone()
    }

    /// News: changes each time that a new snapshot is in force.
    pub fn watch(&self) -> watch::Receiver<State> {
        self.0.subscribe()
    }

    /// Puts a newer snapshot in force; `save` stores it first. Two that arrive at once are settled
    /// here: only the newer one is saved and stays.
    ///
    /// # Errors
    ///
    /// What `save` says; then nothing has changed.
    pub fn install<E>(
        &self,
        snapshot: Arc<Snapshot>,
        save: impl FnOnce(&Snapshot) -> Result<(), E>,
    ) -> Result<Standing, E> {
        let mut outcome = Ok(Standing::Same);
        self.0.send_if_modified(|state| {
            let standing = snapshot
                .header()
                .standing(state.snapshot.as_deref().map(Snapshot::header));
            outcome = match standing {
                Standing::Newer => save(&snapshot).map(|()| {
                    state.snapshot = Some(snapshot);
                    state.problem = None;
                    state.fork = None;
                    Standing::Newer
                }),
                other => Ok(other),
            };
            matches!(outcome, Ok(Standing::Newer))
        });
        outcome
    }

    /// Changes what is said beside the snapshot, without news.
    pub fn note(&self, change: impl FnOnce(&mut State)) {
        self.0.send_if_modified(|state| {
            change(state);
            false
        });
    }
}
