//! What this process itself belongs to.

use rustix::process::Pid;

/// The process group of this process. None where it has no number here: a container's first process may belong
/// to a group that was made outside. (`rustix::process::getpgrp` takes for granted that there is one.)
pub fn own_group() -> Option<Pid> {
    // SAFETY: it takes nothing and cannot fail.
    #[allow(unsafe_code)]
    let group = unsafe { libc::getpgrp() };
    Pid::from_raw(group)
}
