//! The configuration in force: one immutable value, replaced as a whole.

use std::sync::Arc;

use malai_cluster::{Cluster, Header, Snapshot, SnapshotError, Standing};
use parking_lot::Mutex;
use tokio::sync::watch;

/// What is in force in one cluster, and what prevents an update.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    /// The last valid snapshot. Without one, everything is denied.
    pub snapshot: Option<Arc<Snapshot>>,
    /// The names for a manager's own command line before anything was published. It never allows anything to others.
    pub draft: Option<Arc<Cluster>>,
    /// What is wrong, as text: a damaged file, an invalid cluster.toml.
    pub problem: Option<String>,
    /// On a manager: a validly signed revision newer than its files. Nothing is published until the administrator has decided
    /// which one counts.
    pub newer: Option<Arc<Snapshot>>,
    /// The message about another content under a revision that this side has.
    pub fork: Option<String>,
    /// The manager's latest snapshot if it cannot be used here, and why. It is not fetched again.
    pub refused: Option<(Header, SnapshotError)>,
}

/// The state, with change notifications.
#[derive(Debug)]
pub(crate) struct ConfigStore {
    state: watch::Sender<State>,
    /// Held while a snapshot is stored, so that the state itself never waits for the disk.
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

    /// The cluster for looking up names: the one in force, else a manager's draft.
    pub(crate) fn names(&self) -> Option<Arc<Cluster>> {
        self.cluster().or_else(|| self.state.borrow().draft.clone())
    }

    /// The whole state.
    pub(crate) fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// Notifies whenever a new snapshot takes effect.
    pub(crate) fn watch(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Puts a newer snapshot in force; `save` stores it first. If two arrive at once, only the newer one is saved and stays.
    /// Blocks while it is stored.
    ///
    /// # Errors
    ///
    /// The error of `save`. Nothing has changed then.
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

    /// Changes the rest of the state, without a notification.
    pub(crate) fn note(&self, change: impl FnOnce(&mut State)) {
        self.state.send_if_modified(|state| {
            change(state);
            false
        });
    }
}
