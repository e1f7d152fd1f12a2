//! The current variables of `malai.toml` for every command here.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::settings::environment::Environment;

/// One value for all clusters, replaced when the file is read again.
#[derive(Debug, Default)]
pub(crate) struct CommandEnvironment(Mutex<Arc<Environment>>);

impl CommandEnvironment {
    /// Starts with these variables.
    pub(crate) fn new(environment: &Environment) -> Self {
        Self(Mutex::new(Arc::new(environment.clone())))
    }

    /// The variables.
    pub(crate) fn get(&self) -> Arc<Environment> {
        self.0.lock().clone()
    }

    /// Replaces the variables, for commands that start later. Returns whether they differ.
    pub(crate) fn replace(&self, environment: &Environment) -> bool {
        let mut current = self.0.lock();
        let changed = **current != *environment;
        if changed {
            *current = Arc::new(environment.clone());
        }
        changed
    }
}
