//! A peer that is cut off is told of the end of its commands before its connection ends.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use malai_wire::Refusal;

use super::Link;

/// How long a peer that is cut off may take to hear why its commands were ended.
const TELLING: Duration = Duration::from_secs(1);

/// A command of the peer's that runs here, or whose end the peer has not been told yet.
#[derive(Debug)]
pub struct Serving(Arc<Link>);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.serving.send_modify(|serving| *serving -= 1);
    }
}

impl Link {
    /// Waits until the peer has received the greeting: its acknowledgement is not visible here, so
    /// a round trip's worth of time has to do.
    pub(super) async fn await_farewell(&self) {
        let pause = self
            .round_trip()
            .unwrap_or_default()
            .max(Duration::from_millis(20))
            * 3;
        let _ = tokio::time::timeout(pause, self.connection.closed()).await;
    }

    /// Marks the link as serving a command, until the peer has been told of its end.
    pub fn serving(self: &Arc<Self>) -> Serving {
        self.serving.send_modify(|serving| *serving += 1);
        Serving(self.clone())
    }

    /// Closes the connection with a peer that is no member any more. Its commands have been ended; it
    /// is told of each before the end of the connection overtakes that.
    pub async fn cut_off(&self, refusal: &Refusal) {
        self.turning_away.store(true, Ordering::Relaxed);
        let mut serving = self.serving.subscribe();
        let told = serving.wait_for(|serving| *serving == 0);
        let _ = tokio::time::timeout(TELLING, told).await;
        self.close(refusal);
    }
}
