//! A partial file: it has a temporary name in the same folder until it is complete.

use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::fs::{
    Advice, AtFlags, FileType, FlockOperation, Mode, OFlags, RenameFlags, Stat, fadvise, flock,
    fstat, openat, renameat, renameat_with, statat, syncfs, unlinkat,
};
use rustix::io::Errno;

/// What a file's name ends with while it is not whole.
const SUFFIX: &[u8] = b".malai-part";

/// The longest name of a file, in bytes, on Linux.
const LONGEST: usize = 255;

/// How long another copy of the same file is waited for. One that was cut off ends within that time.
const LOCK_TIMEOUT: Duration = Duration::from_secs(30);

/// The name of a file on its way.
pub(super) fn part_name(name: &[u8]) -> Vec<u8> {
    if name.len() + SUFFIX.len() <= LONGEST {
        return [name, SUFFIX].concat();
    }
    let hash = blake3::hash(name).to_hex();
    [&name[..200], b"-", &hash.as_bytes()[..16], SUFFIX].concat()
}

/// Identifies a partial file that has not changed since it was checked.
pub(super) type Stamp = (u64, i64, i64, i64);

/// A file on its way.
pub(super) struct Part {
    pub file: File,
    pub folder: Rc<OwnedFd>,
    part_name: Vec<u8>,
    pub name: Vec<u8>,
    /// The file system that it is on.
    pub device: u64,
}

impl Part {
    /// Opens and locks a partial file. With `create`, creates it if it does not exist.
    pub(super) fn open(
        folder: &Rc<OwnedFd>,
        name: &[u8],
        create: bool,
    ) -> io::Result<Option<(Self, Stat)>> {
        let part_name = part_name(name);
        let mut flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        if create {
            flags |= OFlags::CREATE;
        }
        let begun = Instant::now();
        loop {
            let fd = match openat(&**folder, &part_name[..], flags, Mode::RUSR | Mode::WUSR) {
                Err(Errno::NOENT) if !create => return Ok(None),
                opened => opened?,
            };
            let stat = fstat(&fd)?;
            let is_own = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
                && stat.st_nlink == 1
                && stat.st_uid == rustix::process::geteuid().as_raw();
            if !is_own {
                return Err(io::Error::other(
                    "something else has the name of its .malai-part file; remove that first",
                ));
            }
            match flock(&fd, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) if begun.elapsed() < LOCK_TIMEOUT => {
                    std::thread::sleep(Duration::from_millis(10));
                    continue;
                }
                Err(Errno::WOULDBLOCK) => {
                    return Err(io::Error::other(
                        "it is being copied by somebody else right now",
                    ));
                }
                Err(error) => return Err(error.into()),
            }
            // It may have become whole while it was waited for, and have another name now.
            match statat(&**folder, &part_name[..], AtFlags::SYMLINK_NOFOLLOW) {
                Ok(now) if now.st_ino == stat.st_ino && now.st_dev == stat.st_dev => {}
                Ok(_) | Err(Errno::NOENT) => continue,
                Err(error) => return Err(error.into()),
            }
            let stat = fstat(&fd)?;
            let part = Self {
                file: fd.into(),
                folder: folder.clone(),
                part_name,
                name: name.to_vec(),
                device: stat.st_dev,
            };
            return Ok(Some((part, stat)));
        }
    }

    /// What tells that it is still the one that was looked at.
    pub(super) fn stamp(stat: &Stat) -> Stamp {
        (
            stat.st_ino,
            stat.st_size,
            stat.st_ctime,
            stat.st_ctime_nsec as i64,
        )
    }

    /// Renames it to its final name. With `keep`, if that name is taken, removes it instead.
    ///
    /// # Errors
    ///
    /// The system's.
    pub(super) fn finish(&self, keep: bool) -> io::Result<bool> {
        finish(&self.folder, &self.part_name, &self.name, keep)
    }

    /// What a message adds about it, if the file could not be written to its end. An empty one is removed.
    pub(super) fn kept(&self) -> String {
        if self
            .file
            .metadata()
            .is_ok_and(|metadata| metadata.len() == 0)
        {
            self.remove();
            return String::new();
        }
        format!(
            "; what arrived is kept in {}, and the same command continues from there",
            String::from_utf8_lossy(&self.part_name)
        )
    }

    /// Removes it.
    pub(super) fn remove(&self) {
        // What cannot be removed is verified the next time.
        let _ = unlinkat(&*self.folder, &self.part_name[..], AtFlags::empty());
    }
}

/// Renames `part` to `name`. Returns whether it did: with `keep`, nothing is replaced.
pub(super) fn finish(folder: &OwnedFd, part: &[u8], name: &[u8], keep: bool) -> io::Result<bool> {
    let done = match keep {
        true => match renameat_with(folder, part, folder, name, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => Ok(false),
            done => done.map(|()| true),
        },
        false => renameat(folder, part, folder, name).map(|()| true),
    };
    if !matches!(done, Ok(true)) {
        let _ = unlinkat(folder, part, AtFlags::empty());
    }
    Ok(done?)
}

/// What has to be written to the disk before a batch of files gets its names: each file, or their file systems if there are
/// many.
pub(super) struct Unsynced {
    files: Vec<File>,
    are_many: bool,
}

impl Unsynced {
    /// That of these files.
    ///
    /// # Errors
    ///
    /// There are too many open files.
    pub(super) fn of<'p>(parts: impl ExactSizeIterator<Item = &'p Part>) -> io::Result<Self> {
        let are_many = parts.len() > 4;
        let (mut files, mut devices) = (Vec::new(), Vec::new());
        for part in parts {
            if !are_many || !devices.contains(&part.device) {
                devices.push(part.device);
                files.push(part.file.try_clone()?);
            }
        }
        Ok(Self { files, are_many })
    }

    /// Writes it, and waits until that is done.
    ///
    /// # Errors
    ///
    /// The system's.
    pub(super) fn sync(self) -> io::Result<()> {
        self.files.iter().try_for_each(|file| match self.are_many {
            true => Ok(syncfs(file)?),
            false => file.sync_all(),
        })
    }
}

/// Starts to write this range of a file to the disk, so that less is left for the sync at its end. The system may do
/// nothing.
pub(super) fn begin_to_write(file: &File, offset: u64, length: u64) {
    if let Some(length) = NonZeroU64::new(length) {
        let _ = fadvise(file, offset, Some(length), Advice::DontNeed);
    }
}
