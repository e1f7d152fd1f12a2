//! The variables that `malai.toml` gives every command here, as it says them now.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::settings::environment::Environment;

/// One value for all clusters, replaced when the file is read again.
#[derive(Debug, Default)]
pub(crate) struct CommandEnvironment(Mutex<Arc<Environment>>);

impl CommandEnvironment {
    /// These variables.
    pub(crate) fn new(environment: &Environment) -> Self {
        Self(Mutex::new(Arc::new(environment.clone())))
    }

    /// The variables.
    pub(crate) fn get(&self) -> Arc<Environment> {
        self.0.lock().clone()
    }

    /// Puts other variables in force, for commands that begin later. Returns whether they are others.
    pub(crate) fn replace(&self, environment: &Environment) -> bool {
        let mut current = self.0.lock();
        let changed = **current != *environment;
        if changed {
            *current = Arc::new(environment.clone());
        }
        changed
    }
}
