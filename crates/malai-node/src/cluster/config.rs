//! The configuration in force: one immutable value, replaced as a whole.

use std::sync::Arc;

use malai_cluster::{Cluster, Header, Snapshot, SnapshotError, Standing};
use parking_lot::Mutex;
use tokio::sync::watch;

/// What is in force in one cluster, and what stands in the way of more.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    /// The last good snapshot. Without one everything is denied.
    pub snapshot: Option<Arc<Snapshot>>,
    /// Names for a manager's own command line before anything was published: never used to allow
    /// anything to others.
    pub draft: Option<Arc<Cluster>>,
    /// What is wrong, for people: a damaged file, a broken cluster.toml.
    pub problem: Option<String>,
    /// On a manager: a validly signed revision that is newer than its files. Nothing is published until the
    /// administrator has settled what holds.
    pub newer: Option<Arc<Snapshot>>,
    /// A second content under a revision that this side has.
    pub fork: Option<String>,
    /// What the manager signed last that cannot be used here, and why: it is not fetched again.
    pub refused: Option<(Header, SnapshotError)>,
}

/// The state, and news of it.
#[derive(Debug)]
pub(crate) struct ConfigStore {
    state: watch::Sender<State>,
    /// Held while a snapshot is being stored: the state itself is never held up by the disk.
    installing: Mutex<()>,
}

impl ConfigStore {
    /// Starts with a state.
    pub(crate) fn new(state: State) -> Self {
        Self {
            state: watch::Sender::new(state),
            installing: Mutex::default(),
        }
    }

    /// The snapshot in force.
    pub(crate) fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.state.borrow().snapshot.clone()
    }

    /// The cluster in force.
    pub(crate) fn cluster(&self) -> Option<Arc<Cluster>> {
        self.state
            .borrow()
            .snapshot
            .as_ref()
            .map(|snapshot| snapshot.cluster().clone())
    }

    /// The cluster in which names are looked up: the one in force, else a manager's draft.
    pub(crate) fn names(&self) -> Option<Arc<Cluster>> {
        self.cluster().or_else(|| self.state.borrow().draft.clone())
    }

    /// All of it.
    pub(crate) fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// News: changes each time that a new snapshot is in force.
    pub(crate) fn watch(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Puts a newer snapshot in force; `save` stores it first. Two that arrive at once are settled
    /// here: only the newer one is saved and stays. Blocks while it is stored.
    ///
    /// # Errors
    ///
    /// What `save` says; then nothing has changed.
    pub(crate) fn install<E>(
        &self,
        snapshot: Arc<Snapshot>,
        save: impl FnOnce(&Snapshot) -> Result<(), E>,
    ) -> Result<Standing, E> {
        let _installing = self.installing.lock();
        let current = self.snapshot();
        let standing = snapshot
            .header()
            .standing(current.as_deref().map(Snapshot::header));
        if standing == Standing::Newer {
            save(&snapshot)?;
            self.state.send_modify(|state| {
                state.snapshot = Some(snapshot);
                state.problem = None;
                state.fork = None;
                state.refused = None;
            });
        }
        Ok(standing)
    }

    /// Changes what is said beside the snapshot, without news.
    pub(crate) fn note(&self, change: impl FnOnce(&mut State)) {
        self.state.send_if_modified(|state| {
            change(state);
            false
        });
    }
}
