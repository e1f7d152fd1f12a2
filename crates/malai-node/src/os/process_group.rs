//! Process groups: the one of this process, and signals to others.

use std::collections::BTreeSet;
use std::io;

use rustix::io::Errno;
use rustix::process::{Pid, Signal};

use super::user;

/// The process group of this process. `None` if it has no number here: a container's first process may belong to a
/// group created outside. (`rustix::process::getpgrp` assumes that there is one.)
pub fn own_group() -> Option<Pid> {
    // SAFETY: takes no arguments and cannot fail.
    #[allow(unsafe_code)]
    let group = unsafe { libc::getpgrp() };
    Pid::from_raw(group)
}

/// Signals a process group. Processes of other users are signaled with their users' permissions, if this process may
/// switch to them.
///
/// # Errors
///
/// The system's refusal: there is no such group, or none of it may be signaled.
pub(crate) fn signal(group: Pid, signal: Signal) -> Result<(), Errno> {
    let sent = rustix::process::kill_process_group(group, signal);
    if sent != Err(Errno::PERM) || !user::may_act_as_others() {
        return sent;
    }
    let mut result = sent;
    for owner in owners(group) {
        let sent = user::acting_as(owner, || {
            Ok(rustix::process::kill_process_group(group, signal)?)
        });
        match sent {
            Ok(()) => result = Ok(()),
            Err(error) if result.is_err() => {
                result = Err(Errno::from_io_error(&error).unwrap_or(Errno::PERM));
            }
            Err(_) => {}
        }
    }
    result
}

/// The users that own the processes of a group; proc_pid_status(5).
fn owners(group: Pid) -> BTreeSet<u32> {
    let group = group.as_raw_nonzero().to_string();
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return BTreeSet::new();
    };
    let owner = |entry: io::Result<std::fs::DirEntry>| {
        let path = entry.ok()?.path();
        let stat = std::fs::read_to_string(path.join("stat")).ok()?;
        // The name, in brackets, may hold anything. The state and the parent come before the group.
        let found = stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(2)?;
        if found != group {
            return None;
        }
        let status = std::fs::read_to_string(path.join("status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
        line.split_ascii_whitespace().next()?.parse().ok()
    };
    processes.filter_map(owner).collect()
}
