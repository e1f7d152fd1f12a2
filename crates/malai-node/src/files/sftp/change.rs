//! Changes attributes of files, and reads those of file systems.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;

use malai_wire::sftp::{Attributes, Response};
use rustix::fs::{
    FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, chmod, fchmod, fchown, fstat, fstatvfs,
    ftruncate, futimens, openat,
};
use rustix::io::Errno;

use super::status::{Done, done, status};
use crate::files::root::Root;

/// The results of several changes.
#[derive(Debug, Default)]
pub(super) struct Results(Option<Errno>);

impl Results {
    /// Adds a result.
    pub(super) fn add(&mut self, result: Result<(), Errno>) {
        self.0 = result.err().or(self.0);
    }

    /// The last failure, which is what OpenSSH's server returns.
    pub(super) fn last_failure(self) -> Result<(), Errno> {
        self.0.map_or(Ok(()), Err)
    }
}

/// A file's length, if files can be that long.
pub(super) fn length(size: u64) -> Result<u64, Errno> {
    match i64::try_from(size) {
        Ok(_) => Ok(size),
        Err(_) => Err(Errno::INVAL),
    }
}

/// Changes an open file's attributes. Each is tried, even if another fails.
pub(super) fn change(root: &Root, file: &impl AsFd, given: Attributes) -> Done {
    let mut results = Results::default();
    if let Some(size) = given.size {
        results.add(length(size).and_then(|size| ftruncate(file, size)));
    }
    if let Some(mode) = given.mode {
        results.add(fchmod(file, root.mode(mode)));
    }
    if let Some(times) = given.times {
        results.add(futimens(file, &timestamps(times)));
    }
    if let Some((user, group)) = given.owner {
        let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
        results.add(fchown(file, Some(user), Some(group)));
    }
    done(results.last_failure())
}

/// Changes the mode of a file itself, never that of a link's target.
pub(super) fn chmod_itself(folder: BorrowedFd<'_>, name: &Path, mode: Mode) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(folder, name, flags, Mode::empty())?;
    if FileType::from_raw_mode(fstat(&file)?.st_mode) == FileType::Symlink {
        return Err(Errno::OPNOTSUPP);
    }
    // A descriptor opened with O_PATH does not support fchmod.
    chmod(format!("/proc/self/fd/{}", file.as_raw_fd()), mode)
}

/// The statistics of a file system.
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

/// Converts seconds to the system's times.
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
