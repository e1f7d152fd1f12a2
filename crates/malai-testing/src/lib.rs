//! Shared by tests and benchmarks of malai: services of one cluster in this process, and a peer that sends whatever a
//! test wants. Nothing that is installed depends on this.

pub mod cluster;
pub mod machines;
pub mod peer;

use std::time::{Duration, Instant};

/// How long anything may take before it counts as hanging: far longer than on a busy computer.
pub const TEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Runs a test's asynchronous code on this thread.
pub fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(test)
}

/// Waits until a condition holds.
///
/// # Panics
///
/// It does not hold within [`TEST_TIMEOUT`].
pub async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    until_async(what, async || is_so()).await;
}

/// Waits until an asynchronous condition holds.
///
/// # Panics
///
/// It does not hold within [`TEST_TIMEOUT`].
pub async fn until_async(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + TEST_TIMEOUT;
    while !is_so().await {
        assert!(
            Instant::now() < deadline,
            "waited {TEST_TIMEOUT:?} for {what}"
        );
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Whether a process is running; a zombie is not.
pub fn lives(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|stat| Some(stat.rsplit_once(") ")?.1.chars().next()? != 'Z'))
        .unwrap_or(false)
}
