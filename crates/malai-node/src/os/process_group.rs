//! The process group of this process.

use rustix::process::Pid;

/// The process group of this process. `None` if it has no number here: a container's first process may belong to a
/// group created outside. (`rustix::process::getpgrp` assumes that there is one.)
pub fn own_group() -> Option<Pid> {
    // SAFETY: takes no arguments and cannot fail.
    #[allow(unsafe_code)]
    let group = unsafe { libc::getpgrp() };
    Pid::from_raw(group)
}
