//! Where files are copied to: into a folder, to one name, or to a stream.

use std::ffi::OsStr;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

use malai_wire::copy::{Options, names_of};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, fstat, openat2, statat};
use rustix::io::Errno;
use rustix::path::Arg;

use super::reason;
use crate::files::root::Root;

/// Where files are written.
pub struct Destination {
    pub(super) place: Place,
    /// The name of each source; an empty one stands for the content of a folder.
    pub(super) names: Vec<Vec<u8>>,
    /// The path of each source here, for people.
    pub(super) shown: Vec<Vec<u8>>,
    /// Whether files may get owners, bits and attributes with which they run as somebody else.
    pub(super) elevates: bool,
}

impl std::fmt::Debug for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Destination")
            .field("names", &self.names)
            .finish()
    }
}

pub(super) enum Place {
    /// In this folder, each source under its own name.
    Into(Rc<OwnedFd>),
    /// In this folder, the one source under this name.
    As(Rc<OwnedFd>, Vec<u8>),
    /// In a stream, one source.
    Stream(Box<dyn Write>),
}

impl Destination {
    /// A destination that is a stream.
    pub fn stream(stream: Box<dyn Write>) -> Self {
        Self {
            place: Place::Stream(stream),
            names: vec![Vec::new()],
            shown: vec![b"standard output".to_vec()],
            elevates: true,
        }
    }

    /// Resolves a target: an existing folder receives the sources under their own names; otherwise it is the new name of
    /// the one source.
    ///
    /// # Errors
    ///
    /// Nothing can be written there, and why.
    pub(super) fn find(
        root: Root,
        target: &[u8],
        names: &[Vec<u8>],
        options: Options,
    ) -> Result<Self, String> {
        let names = names.to_vec();
        if names.is_empty() {
            return Err("there is nothing to copy".to_owned());
        }
        // Names come from the other side. The kernel confines only what is below the destination.
        if !names.iter().all(|name| is_one_name(name)) {
            return Err("a source has a name that no file can have".to_owned());
        }
        if root.may_write().is_err() {
            return Err("this folder is read-only".to_owned());
        }
        let target = match target {
            b"" => b".",
            target => target,
        };
        let path = Path::new(OsStr::from_bytes(target));
        let found = root.open_inside(path, OFlags::PATH, Mode::empty());
        let found = found.and_then(|fd| fstat(&fd).map(|stat| (fd, stat)));
        let kind = match &found {
            Ok((_, stat)) => Some(FileType::from_raw_mode(stat.st_mode)),
            Err(Errno::NOENT) => None,
            Err(error) => return Err(format!("cannot open it: {}", reason(*error))),
        };
        let one = names.len() == 1;
        match kind {
            Some(FileType::Directory) => {
                let fd = found.map_err(reason)?.0;
                return Ok(Self {
                    place: Place::Into(Rc::new(fd)),
                    shown: names.iter().map(|name| below(target, name)).collect(),
                    names,
                    elevates: root.may_elevate(),
                });
            }
            Some(_) if !one => {
                return Err(
                    "several things can only be copied into a folder, and it is a file".to_owned(),
                );
            }
            None if !one => {
                return Err(
                    "several things can only be copied into a folder, and it is not there"
                        .to_owned(),
                );
            }
            Some(_) if target.ends_with(b"/") => return Err("it is not a folder".to_owned()),
            None if target.ends_with(b"/") && !options.recursive => {
                return Err("there is no such folder".to_owned());
            }
            Some(FileType::RegularFile) | None => {}
            Some(_) => {
                return Err("it is neither a file nor a folder, so it is not replaced".to_owned());
            }
        }
        // A link that is named as the target is followed, as cp does.
        let followed = match (&root, kind) {
            (Root::Everything, Some(_)) => std::fs::canonicalize(path).ok(),
            _ => None,
        };
        let path = followed.as_deref().unwrap_or(path);
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let Some(name) = path.file_name() else {
            return Err("it has no name".to_owned());
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let folder = root
            .open_inside(parent, flags, Mode::empty())
            .map_err(|error| {
                format!(
                    "the folder that it would be in cannot be opened: {}",
                    reason(error)
                )
            })?;
        Ok(Self {
            place: Place::As(Rc::new(folder), name.as_bytes().to_vec()),
            shown: vec![target.to_vec()],
            names,
            elevates: root.may_elevate(),
        })
    }

    /// The path of an entry of a source here, for people.
    pub(super) fn shown(&self, source: u32, path: &[u8]) -> String {
        let top = self.shown.get(source as usize);
        let path = below(top.map_or(&b""[..], |top| top), path);
        String::from_utf8_lossy(&path).into_owned()
    }

    /// The folder that all begins in, and the path from there, of an entry of a source. None in a stream.
    pub(super) fn path(&self, source: u32, below: &[u8]) -> Option<(Rc<OwnedFd>, Vec<u8>)> {
        let (folder, mut path) = match &self.place {
            Place::Into(folder) => (folder, self.names.get(source as usize)?.clone()),
            Place::As(folder, name) => (folder, name.clone()),
            Place::Stream(_) => return None,
        };
        if !path.is_empty() && !below.is_empty() {
            path.push(b'/');
        }
        path.extend(below);
        Some((folder.clone(), path))
    }
}

/// The path of something in a folder, for people. One that begins where paths begin has its name alone.
pub(super) fn below(folder: &[u8], path: &[u8]) -> Vec<u8> {
    match folder {
        _ if path.is_empty() => folder.to_vec(),
        b"" | b"." => path.to_vec(),
        _ if folder.ends_with(b"/") => [folder, path].concat(),
        _ => [folder, b"/", path].concat(),
    }
}

/// Whether a source's name is one name of a file, or empty for the content of a folder.
fn is_one_name(name: &[u8]) -> bool {
    names_of(name).is_ok_and(|names| names.len() <= 1)
}

/// Opens a path whose resolution the kernel keeps within bounds.
pub(super) fn open_resolved<P: Arg + Copy>(
    folder: impl AsFd,
    path: P,
    flags: OFlags,
    mode: Mode,
    resolve: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    // While names are being changed, the kernel cannot rule out an escape and returns EAGAIN.
    for _ in 0..16 {
        match openat2(folder.as_fd(), path, flags, mode, resolve) {
            Err(Errno::AGAIN) => {}
            done => return done,
        }
    }
    Err(Errno::AGAIN)
}

/// What stands under a name, if something does.
pub(super) fn existing(folder: &OwnedFd, name: &[u8]) -> Result<Option<rustix::fs::Stat>, Errno> {
    match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}
