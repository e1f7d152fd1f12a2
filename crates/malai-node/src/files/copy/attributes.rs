//! What is kept of an entry besides its bytes: permissions, times, owners, extended attributes.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use malai_wire::copy::{Kind, Offer, Options, Owner, Time};
use parking_lot::Mutex;
use rustix::fs::{
    AtFlags, Gid, Mode, Stat, Timespec, Timestamps, Uid, chownat, fchmod, fchown, fsetxattr,
    futimens, lgetxattr, lgetxattr_query, llistxattr, llistxattr_query, utimensat,
};
use rustix::io::Errno;

/// The most bytes of extended attributes that travel with one entry.
const MOST: usize = 512 * 1024;

/// Extended attributes: names and values.
pub(super) type Attributes = Vec<(Vec<u8>, Vec<u8>)>;

/// What is told of an entry.
pub(super) struct Metadata {
    pub mode: u32,
    pub modified: Time,
    pub accessed: Time,
    pub owner: Option<Owner>,
    pub attributes: Attributes,
}

impl Metadata {
    pub(super) fn of(stat: &Stat, attributes: Attributes, options: Options) -> Self {
        let time = |seconds: i64, nanoseconds: u64| Time {
            seconds,
            nanoseconds: u32::try_from(nanoseconds).unwrap_or(0),
        };
        Self {
            mode: stat.st_mode & 0o7777,
            modified: time(stat.st_mtime, stat.st_mtime_nsec),
            accessed: time(stat.st_atime, stat.st_atime_nsec),
            owner: options.archive.then(|| names(stat.st_uid, stat.st_gid)),
            attributes,
        }
    }

    /// Of what has none.
    pub(super) fn of_stream() -> Self {
        Self {
            mode: 0o666,
            modified: Time::default(),
            accessed: Time::default(),
            owner: None,
            attributes: Vec::new(),
        }
    }
}

type Names = HashMap<u32, Vec<u8>>;

/// A user and a group with their names, each asked for once.
fn names(user: u32, group: u32) -> Owner {
    static KNOWN: Mutex<Option<(Names, Names)>> = Mutex::new(None);
    let mut known = KNOWN.lock();
    let (users, groups) = known.get_or_insert_default();
    let bytes = |name: &OsStr| name.as_bytes().to_vec();
    let user_name = users.entry(user).or_insert_with(|| {
        uzers::get_user_by_uid(user).map_or_else(Vec::new, |found| bytes(found.name()))
    });
    let group_name = groups.entry(group).or_insert_with(|| {
        uzers::get_group_by_gid(group).map_or_else(Vec::new, |found| bytes(found.name()))
    });
    Owner {
        user: (user, user_name.clone()),
        group: (group, group_name.clone()),
    }
}

/// An owner's ids on this machine: by name if that name exists here, otherwise as sent.
fn numbers(owner: &Owner) -> (Uid, Gid) {
    static KNOWN: Mutex<Option<HashMap<Owner, (u32, u32)>>> = Mutex::new(None);
    let mut known = KNOWN.lock();
    let known = known.get_or_insert_default();
    // A lying sender must not fill the memory.
    if known.len() > 10_000 {
        known.clear();
    }
    let name = |name: &[u8]| OsStr::from_bytes(name).to_owned();
    let (user, group) = *known.entry(owner.clone()).or_insert_with(|| {
        let user = match owner.user.1.is_empty() || owner.user.1.contains(&0) {
            true => None,
            false => uzers::get_user_by_name(&name(&owner.user.1)).map(|user| user.uid()),
        };
        let group = match owner.group.1.is_empty() || owner.group.1.contains(&0) {
            true => None,
            false => uzers::get_group_by_name(&name(&owner.group.1)).map(|group| group.gid()),
        };
        (user.unwrap_or(owner.user.0), group.unwrap_or(owner.group.0))
    });
    (Uid::from_raw(user), Gid::from_raw(group))
}

/// A path to a file by an open descriptor, which leads nowhere else whatever becomes of the names above.
pub(super) fn path_of(fd: &OwnedFd, name: Option<&[u8]>) -> PathBuf {
    let mut path = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
    if let Some(name) = name {
        path.push(OsStr::from_bytes(name));
    }
    path
}

/// The extended attributes of an entry that can be copied.
pub(super) fn read(path: &std::path::Path) -> Result<Attributes, Errno> {
    let size = match llistxattr_query(path) {
        Ok(0) | Err(Errno::NOTSUP | Errno::NOENT) => return Ok(Vec::new()),
        Ok(size) => size,
        Err(error) => return Err(error),
    };
    let mut list = vec![0; size + 1024];
    let used = llistxattr(path, &mut list[..])?;
    let mut found = Vec::new();
    let mut total = 0;
    for name in list[..used]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        // Labels of a security module are the other machine's own business.
        if name == b"security.selinux" {
            continue;
        }
        let mut value = vec![0; lgetxattr_query(path, name)?];
        let used = lgetxattr(path, name, &mut value[..])?;
        value.truncate(used);
        total += name.len() + value.len();
        if total > MOST {
            return Err(Errno::TOOBIG);
        }
        found.push((name.to_vec(), value));
    }
    Ok(found)
}

/// How much of an entry is kept besides its bytes.
#[derive(Clone, Copy)]
pub(super) struct Keep {
    pub options: Options,
    pub umask: u32,
    /// Whether files may get owners, bits and attributes with which they run as another user.
    pub elevates: bool,
}

impl Keep {
    /// Whether owners are preserved, and what depends on them.
    fn owners(self) -> bool {
        self.elevates && self.options.archive && rustix::process::geteuid().is_root()
    }
}

/// Sets the preserved attributes of an offered entry on an open file or folder. `existing` is what it replaces.
///
/// # Errors
///
/// The system's.
pub(super) fn apply(
    fd: impl AsFd,
    offer: &Offer,
    keep: Keep,
    existing: Option<&Stat>,
) -> io::Result<()> {
    let fd = fd.as_fd();
    let Keep { options, umask, .. } = keep;
    let mut mode = match existing {
        _ if options.preserve => offer.mode & 0o777,
        Some(existing) => existing.st_mode & 0o777,
        None => offer.mode & 0o777 & !umask,
    };
    if let (true, Some(owner)) = (keep.owners(), &offer.owner) {
        let (user, group) = numbers(owner);
        fchown(fd, Some(user), Some(group))?;
        // The owner was preserved, so setuid and setgid may be as well.
        mode = offer.mode & 0o7777;
    } else if let (true, Some(existing)) = (rustix::process::geteuid().is_root(), existing) {
        fchown(
            fd,
            Some(Uid::from_raw(existing.st_uid)),
            Some(Gid::from_raw(existing.st_gid)),
        )?;
    }
    fchmod(fd, Mode::from_raw_mode(mode))?;
    if options.archive {
        for (name, value) in &offer.attributes {
            let privileged = name.starts_with(b"security.") || name.starts_with(b"trusted.");
            if privileged && !keep.owners() {
                continue;
            }
            fsetxattr(fd, &name[..], value, rustix::fs::XattrFlags::empty())?;
        }
    }
    if options.preserve {
        futimens(fd, &times(offer))?;
    }
    Ok(())
}

/// The same for a link or a FIFO, by its name in a folder.
pub(super) fn apply_to_name(
    folder: impl AsFd,
    name: &[u8],
    offer: &Offer,
    keep: Keep,
) -> io::Result<()> {
    let folder = folder.as_fd();
    let options = keep.options;
    if let (true, Some(owner)) = (keep.owners(), &offer.owner) {
        let (user, group) = numbers(owner);
        chownat(
            folder,
            name,
            Some(user),
            Some(group),
            AtFlags::SYMLINK_NOFOLLOW,
        )?;
    }
    if options.preserve {
        if !matches!(offer.kind, Kind::Symlink(_)) {
            let mode = Mode::from_raw_mode(offer.mode & 0o777);
            rustix::fs::chmodat(folder, name, mode, AtFlags::empty())?;
        }
        utimensat(folder, name, &times(offer), AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(())
}

fn times(offer: &Offer) -> Timestamps {
    let time = |time: Time| Timespec {
        tv_sec: time.seconds,
        tv_nsec: i64::from(time.nanoseconds.min(999_999_999)),
    };
    Timestamps {
        last_access: time(offer.accessed),
        last_modification: time(offer.modified),
    }
}
