//! Returns unused heap memory to the system.
//!
//! Memory that many parallel dials, lookups or sessions needed is free afterwards, but not at the end of the heap, so the
//! C library keeps it: a daemon would stay as large as in its busiest second.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// The delay before the first trim. It doubles until it reaches [`LAST`].
const FIRST: Duration = Duration::from_secs(1);

/// The longest delay between two trims.
const LAST: Duration = Duration::from_secs(30);

/// Returns unused memory from time to time, until `stop`.
pub(crate) async fn trim_periodically(stop: CancellationToken) {
    return_large_at_once();
    let mut pause = FIRST;
    while tokio::time::timeout(pause, stop.cancelled()).await.is_err() {
        trim();
        pause = (2 * pause).min(LAST);
    }
}

/// Allocations of this size in bytes and above are returned to the system as soon as they are freed. By default the C
/// library keeps memory up to the size of anything freed before, up to 32 MiB, and twice that at the end of the heap:
/// two configurations of a hostile manager would make the daemon 60 MiB larger.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGE: libc::c_int = 1 << 20;

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn return_large_at_once() {
    // SAFETY: sets a parameter of the allocator, under its own lock.
    #[allow(unsafe_code)]
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE)
    };
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn return_large_at_once() {}

/// Returns unused memory now. Other C libraries do this by themselves.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) fn trim() {
    // SAFETY: takes the allocator's own locks and moves nothing that is in use.
    #[allow(unsafe_code)]
    unsafe {
        libc::malloc_trim(0)
    };
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn trim() {}

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
mod tests {
    /// Resident memory, in KiB.
    fn resident() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.unwrap()
            .trim_end_matches(" kB")
            .trim()
            .parse()
            .unwrap()
    }

    #[test]
    fn a_hole_in_the_heap_is_given_back() {
        let pieces: Vec<Vec<u8>> = (0..1024).map(|_| vec![1; 64 << 10]).collect();
        let above = vec![1; 64 << 10];
        drop(pieces);
        let before = resident();
        super::trim();
        let after = resident();
        // It was 64 MiB. Other tests may run meanwhile: half of it will do.
        assert!(after + (32 << 10) < before, "{before} KiB, {after} KiB");
        drop(above);
    }
}
