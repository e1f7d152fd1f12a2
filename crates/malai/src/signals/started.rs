//! Whether the command runs. Before that, a signal ends malai itself; from then on it is forwarded to the command.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// How long a signal waits for the report that the command runs. Its output may be seen, and a signal sent because of it,
/// before that report is read here.
pub const START_GRACE: Duration = Duration::from_millis(100);

/// Set once, when the command runs.
#[derive(Debug, Clone, Default)]
pub struct Started(Arc<(Mutex<bool>, Condvar)>);

impl Started {
    /// Marks that it runs.
    pub fn set(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_all();
    }

    /// Whether it runs, or is reported to within the grace period. Blocks for that time.
    pub fn is_set(&self) -> bool {
        let started = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .0
            .1
            .wait_timeout_while(started, START_GRACE, |started| !*started);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}
