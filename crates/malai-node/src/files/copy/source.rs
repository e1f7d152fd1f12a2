//! What is to be sent: the entries of the sources, one after the other, and their files.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use malai_wire::copy::{Kind, Options, name_of};
use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, fstatfs, openat, readlinkat,
    statat,
};
use rustix::io::Errno;

use super::attributes::{self, Metadata};
use super::{length, reason};
use crate::files::root::Root;

/// What a machine or this computer is asked for, by path, or one stream.
pub struct Sources {
    root: Root,
    paths: Vec<PathBuf>,
    stream: Option<Box<dyn Read>>,
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources")
            .field("paths", &self.paths)
            .finish()
    }
}

impl Sources {
    pub(super) fn new(root: Root, paths: Vec<PathBuf>) -> Self {
        Self {
            root,
            paths,
            stream: None,
        }
    }

    /// One source, which is read once from its beginning to its end, under this name.
    pub fn stream(name: PathBuf, stream: Box<dyn Read>) -> Self {
        Self {
            root: Root::Everything,
            paths: vec![name],
            stream: Some(stream),
        }
    }

    /// The name of each at its target; an empty one stands for the content of a folder.
    pub fn names(&self) -> Vec<Vec<u8>> {
        let name = |path: &PathBuf| {
            name_of(path.as_os_str().as_bytes())
                .unwrap_or_default()
                .to_vec()
        };
        self.paths.iter().map(name).collect()
    }
}

/// An entry of a source.
pub(super) struct Entry {
    pub source: u32,
    pub path: Vec<u8>,
    /// What it is; or why it cannot be copied.
    pub what: Result<(Kind, Metadata), String>,
}

/// The entries of a folder that are still to come.
struct Level {
    prefix: Vec<u8>,
    entries: std::vec::IntoIter<(Vec<u8>, Result<Listed, String>)>,
}

/// An entry of a folder as it was found.
struct Listed {
    stat: Stat,
    /// The length of a file's content, if its status tells.
    length: Option<u64>,
    /// Where a link leads.
    link: Vec<u8>,
    attributes: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Goes through the entries of all sources, folders before what is in them.
pub(super) struct Walk {
    sources: Sources,
    options: Options,
    next: u32,
    levels: Vec<Level>,
    /// The folder of one source, which is kept open.
    top: Option<(u32, Rc<OwnedFd>)>,
    /// The first name of each file with several hard links, by device and inode.
    linked: HashMap<(u64, u64), (u32, Vec<u8>)>,
}

impl Walk {
    pub(super) fn new(sources: Sources, options: Options) -> Self {
        Self {
            sources,
            options,
            next: 0,
            levels: Vec::new(),
            top: None,
            linked: HashMap::new(),
        }
    }

    /// The next entry.
    pub(super) fn next(&mut self) -> Option<Entry> {
        while let Some(level) = self.levels.last_mut() {
            let Some((name, listed)) = level.entries.next() else {
                self.levels.pop();
                continue;
            };
            let mut path = level.prefix.clone();
            path.extend(name);
            let source = self.next - 1;
            let what = listed.and_then(|listed| self.entry(source, &path, listed));
            return Some(Entry { source, path, what });
        }
        let source = self.next;
        let path = self.sources.paths.get(source as usize)?.clone();
        self.next += 1;
        let what = match self.sources.stream {
            Some(_) => Ok((Kind::File(None), Metadata::of_stream())),
            None => self
                .list_top(&path)
                .map_err(|error| top_reason(&path, error))
                .and_then(|listed| self.entry(source, b"", listed)),
        };
        Some(Entry {
            source,
            path: Vec::new(),
            what,
        })
    }

    fn list_top(&self, path: &Path) -> Result<Listed, Errno> {
        let nofollow = match self.options.archive {
            true => OFlags::NOFOLLOW,
            false => OFlags::empty(),
        };
        let fd = self
            .sources
            .root
            .open_inside(path, OFlags::PATH | nofollow, Mode::empty())?;
        let stat = fstat(&fd)?;
        let link = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => readlinkat(&fd, "", Vec::new())?.into_bytes(),
            _ => Vec::new(),
        };
        Ok(Listed {
            length: length::of(&stat, || fstatfs(&fd)),
            stat,
            link,
            attributes: match self.options.archive {
                true => attributes::read(&attributes::path_of(&fd, None))?,
                false => Vec::new(),
            },
        })
    }

    /// An entry as it was found: what it is, and for a folder its own entries, which come next.
    fn entry(
        &mut self,
        source: u32,
        path: &[u8],
        listed: Listed,
    ) -> Result<(Kind, Metadata), String> {
        let Listed {
            stat,
            length,
            link,
            attributes,
        } = listed;
        let options = self.options;
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory if !options.recursive => {
                return Err("it is a folder; -r copies folders".to_owned());
            }
            FileType::Directory => {
                // The entry is known to be a folder, but listing it may fail.
                let level = self.list(source, path).map_err(reason)?;
                self.levels.push(level);
                Kind::Folder
            }
            FileType::RegularFile if options.archive && stat.st_nlink > 1 => {
                match self.linked.entry((stat.st_dev, stat.st_ino)) {
                    std::collections::hash_map::Entry::Occupied(first) => {
                        let (source, path) = first.get().clone();
                        Kind::HardLink(source, path)
                    }
                    std::collections::hash_map::Entry::Vacant(free) => {
                        free.insert((source, path.to_vec()));
                        Kind::File(length)
                    }
                }
            }
            FileType::RegularFile => Kind::File(length),
            FileType::Symlink => Kind::Symlink(link),
            FileType::Fifo if options.archive => Kind::Fifo,
            FileType::Fifo => return Err("it is a FIFO; -a copies FIFOs".to_owned()),
            FileType::Socket => return Err("it is a socket, which cannot be copied".to_owned()),
            _ => return Err("it is a device, which cannot be copied".to_owned()),
        };
        Ok((kind, Metadata::of(&stat, attributes, options)))
    }

    /// The entries of a folder, in the order of their names.
    fn list(&mut self, source: u32, path: &[u8]) -> Result<Level, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let folder = match path {
            b"" => {
                let top = self.sources.paths[source as usize].clone();
                self.sources.root.open_inside(&top, flags, Mode::empty())?
            }
            path => self.open_below(source, path, flags)?,
        };
        let mut entries = Vec::new();
        for entry in Dir::read_from(&folder)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                let listed = self.look(&folder, name);
                entries.push((name.to_vec(), listed.map_err(reason)));
            }
        }
        entries.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        let mut prefix = path.to_vec();
        if !prefix.is_empty() {
            prefix.push(b'/');
        }
        Ok(Level {
            prefix,
            entries: entries.into_iter(),
        })
    }

    fn look(&self, folder: &OwnedFd, name: &[u8]) -> Result<Listed, Errno> {
        let stat = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let link = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => readlinkat(folder, name, Vec::new())?.into_bytes(),
            _ => Vec::new(),
        };
        Ok(Listed {
            length: length::of(&stat, || {
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                fstatfs(openat(folder, name, flags, Mode::empty())?)
            }),
            stat,
            link,
            attributes: match self.options.archive {
                true => attributes::read(&attributes::path_of(folder, Some(name)))?,
                false => Vec::new(),
            },
        })
    }

    /// Opens a path below a source folder, following no links, even if it has changed since.
    fn open_below(&mut self, source: u32, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let top = match &self.top {
            Some((kept, top)) if *kept == source => top.clone(),
            _ => {
                let flags = OFlags::PATH | OFlags::DIRECTORY;
                let path = &self.sources.paths[source as usize];
                let top = Rc::new(self.sources.root.open_inside(path, flags, Mode::empty())?);
                self.top = Some((source, top.clone()));
                top
            }
        };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        super::destination::open_resolved(&*top, path, flags, Mode::empty(), resolve)
    }

    /// Opens a file that was offered. A stream is given once.
    pub(super) fn open(&mut self, source: u32, path: &[u8]) -> Result<Opened, io::Error> {
        if let Some(stream) = self.sources.stream.take() {
            return Ok(Opened::Stream(stream));
        }
        // What was a file may be a FIFO by now, which must not be waited for.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = match path {
            b"" => {
                let nofollow = match self.options.archive {
                    true => OFlags::NOFOLLOW,
                    false => OFlags::empty(),
                };
                let top = &self.sources.paths[source as usize];
                self.sources
                    .root
                    .open_inside(top, flags | nofollow, Mode::empty())?
            }
            path => self.open_below(source, path, flags)?,
        };
        let stat = fstat(&fd)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok(Opened::File {
                size: length::of(&stat, || fstatfs(&fd)),
                // Fewer blocks than bytes: there are holes.
                has_holes: (stat.st_blocks as u64).saturating_mul(512) < stat.st_size as u64,
                file: fd.into(),
            }),
            _ => Err(io::Error::other("it is no longer a file")),
        }
    }
}

/// Why a source cannot be copied. Shells expand wildcards before a command sees them; scp's server does so, too.
fn top_reason(path: &Path, error: Errno) -> String {
    let has_wildcard = path
        .as_os_str()
        .as_bytes()
        .iter()
        .any(|byte| b"*?[".contains(byte));
    match error {
        Errno::NOENT if has_wildcard => format!(
            "{}; malai cp expands no wildcards: name each file, or copy the folder with -r",
            reason(error)
        ),
        _ => reason(error),
    }
}

/// A source that is read.
pub(super) enum Opened {
    File {
        file: File,
        /// The length of its content, if its status tells.
        size: Option<u64>,
        has_holes: bool,
    },
    Stream(Box<dyn Read>),
}
