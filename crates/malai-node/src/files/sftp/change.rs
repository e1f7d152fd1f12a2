//! Attributes of files that are changed, and of file systems.

use std::os::fd::AsFd;

use malai_wire::sftp::{Attributes, Response};
use rustix::fs::{
    Gid, Mode, Timespec, Timestamps, Uid, fchmod, fchown, fstatvfs, ftruncate, futimens,
};

use super::status::{Done, done, status};

/// Changes an open file's attributes; each is tried, and the first failure is the answer.
pub(super) fn change(file: &impl AsFd, given: Attributes) -> Done {
    let mut result = Ok(());
    if let Some(size) = given.size {
        result = result.and(ftruncate(file, size));
    }
    if let Some(mode) = given.mode {
        result = result.and(fchmod(file, Mode::from_raw_mode(mode & 0o7777)));
    }
    if let Some(times) = given.times {
        result = result.and(futimens(file, &timestamps(times)));
    }
    if let Some((user, group)) = given.owner {
        result = result.and(fchown(
            file,
            Some(Uid::from_raw(user)),
            Some(Gid::from_raw(group)),
        ));
    }
    done(result)
}

/// The answer about a file system.
pub(super) fn volume(file: &impl AsFd) -> Done {
    let found = fstatvfs(file).map_err(status)?;
    let flags = u64::from(found.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
        | u64::from(found.f_flag.contains(rustix::fs::StatVfsMountFlags::NOSUID)) << 1;
    Ok(Response::numbers(&[
        found.f_bsize,
        found.f_frsize,
        found.f_blocks,
        found.f_bfree,
        found.f_bavail,
        found.f_files,
        found.f_ffree,
        found.f_favail,
        found.f_fsid,
        flags,
        found.f_namemax,
    ]))
}

/// Times as the system takes them, from seconds.
pub(super) fn timestamps((access, modification): (u32, u32)) -> Timestamps {
    let time = |seconds: u32| Timespec {
        tv_sec: seconds.into(),
        tv_nsec: 0,
    };
    Timestamps {
        last_access: time(access),
        last_modification: time(modification),
    }
}
