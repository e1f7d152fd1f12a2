//! Carries out each request on the file system.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsFd;
use std::sync::Arc;

use malai_wire::file_report::FileReport;
use malai_wire::sftp::{Attributes, MAX_DATA, MAX_PACKET, Name, Request, Response, StatusCode};
use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, RenameFlags, Uid, chmodat, chownat, fstat, fsync,
    ftruncate, linkat, mkdirat, readlinkat, renameat, renameat_with, statat, symlinkat, unlinkat,
    utimensat,
};
use rustix::io::Errno;

use super::change::{Results, change, chmod_itself, length, timestamps, volume};
use super::listing::{Owners, attributes};
use super::open_file::OpenFile;
use super::paths::{as_path, one_name};
use super::status::{Done, done, io_status, status};
use crate::files::reports::Reports;
use crate::files::root::Root;

/// The most files and folders that may be open at once.
const HANDLES: usize = 1000;

/// The most names in one answer.
const NAMES: usize = 100;

/// What a client has open.
#[derive(Debug)]
pub(super) enum Handle {
    /// A file.
    File(Arc<OpenFile>),
    /// A folder that is being listed.
    Folder {
        /// The position in the listing.
        folder: Dir,
        /// The folder itself.
        file: File,
    },
}

/// A client's session.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) root: Root,
    /// Where changes are recorded.
    reports: Reports,
    pub(super) handles: BTreeMap<u32, Handle>,
    next: u32,
    owners: Owners,
}

impl Session {
    /// A session that serves these files.
    pub(super) fn new(root: Root, reports: Reports) -> Self {
        Self {
            root,
            reports,
            handles: BTreeMap::new(),
            next: 0,
            owners: Owners::default(),
        }
    }

    /// Carries out a request; returns its id and the answer.
    pub(super) fn handle(&mut self, request: Request) -> (u32, Response) {
        let (id, done) = self.dispatch(request);
        (id, done.unwrap_or_else(Response::Status))
    }

    fn dispatch(&mut self, request: Request) -> (u32, Done) {
        match request {
            Request::Init { .. } => (0, Ok(Response::Version)),
            Request::Open {
                id,
                path,
                flags,
                attributes,
            } => (id, self.open(&path, flags, attributes)),
            Request::Close { id, handle } => (id, self.close(&handle)),
            Request::Read {
                id,
                handle,
                offset,
                length,
            } => (id, self.file(&handle).map(|file| file.read(offset, length))),
            Request::Write {
                id,
                handle,
                offset,
                data,
            } => (id, self.write(&handle, offset, &data)),
            Request::Stat { id, path, follow } => (id, self.stat(&path, follow)),
            Request::Fstat { id, handle } => (id, self.fstat(&handle)),
            Request::Setstat {
                id,
                path,
                attributes,
                follow,
            } => (
                id,
                self.changed(
                    || self.setstat(&path, attributes, follow),
                    || FileReport::Changed { path: path.clone() },
                ),
            ),
            Request::Fsetstat {
                id,
                handle,
                attributes,
            } => (id, self.fsetstat(&handle, attributes)),
            Request::Opendir { id, path } => (id, self.opendir(&path)),
            Request::Readdir { id, handle } => (id, self.readdir(&handle)),
            Request::Remove { id, path } => (id, self.unlink(path, AtFlags::empty())),
            Request::Mkdir {
                id,
                path,
                attributes,
            } => (
                id,
                self.changed(
                    || self.mkdir(&path, attributes),
                    || FileReport::Created { path: path.clone() },
                ),
            ),
            Request::Rmdir { id, path } => (id, self.unlink(path, AtFlags::REMOVEDIR)),
            Request::Realpath { id, path } => (id, self.realpath(&path)),
            Request::Rename {
                id,
                from,
                to,
                replace,
            } => (
                id,
                self.changed(
                    || self.rename(&from, &to, replace),
                    || FileReport::Renamed {
                        path: from.clone(),
                        to: to.clone(),
                    },
                ),
            ),
            Request::Readlink { id, path } => (id, self.readlink(&path)),
            Request::Symlink { id, target, path } => (
                id,
                self.changed(
                    || self.symlink(&target, &path),
                    || FileReport::Linked {
                        path: path.clone(),
                        to: target.clone(),
                    },
                ),
            ),
            Request::Hardlink { id, from, to } => (
                id,
                self.changed(
                    || self.hardlink(&from, &to),
                    || FileReport::Linked {
                        path: to.clone(),
                        to: from.clone(),
                    },
                ),
            ),
            Request::Statvfs { id, path } => (id, self.statvfs(&path)),
            Request::Fstatvfs { id, handle } => {
                (id, self.file(&handle).and_then(|file| volume(&file.file)))
            }
            Request::Fsync { id, handle } => (
                id,
                self.file(&handle)
                    .map_err(|_| StatusCode::NoSuchFile)
                    .and_then(|file| done(fsync(&file.file))),
            ),
            Request::Limits { id } => {
                let limits = [MAX_PACKET, MAX_DATA, MAX_DATA, HANDLES].map(|limit| limit as u64);
                (id, Ok(Response::numbers(&limits)))
            }
            Request::ExpandPath { id, path } => (id, self.expand(&path)),
            Request::HomeDirectory { id, user } => (
                id,
                self.home_of(&user).and_then(|home| self.realpath(&home)),
            ),
            Request::CopyData {
                id,
                from,
                from_offset,
                length,
                to,
                to_offset,
            } => (
                id,
                self.copy((&from, from_offset), (&to, to_offset), length),
            ),
            Request::UsersGroupsById { id, users, groups } => {
                let users: Vec<_> = users.iter().map(|user| self.owners.user(*user)).collect();
                let groups: Vec<_> = groups
                    .iter()
                    .map(|group| self.owners.group(*group))
                    .collect();
                (id, Ok(Response::user_and_group_names(&users, &groups)))
            }
            Request::Unknown { id } => (id, Err(StatusCode::Unsupported)),
        }
    }

    pub(super) fn add(&mut self, handle: Handle) -> Done {
        if self.handles.len() >= HANDLES {
            return Err(StatusCode::Failure);
        }
        while self.handles.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        self.handles.insert(number, handle);
        Ok(Response::Handle(number.to_be_bytes().to_vec()))
    }

    /// Checks, before a change, that it is allowed and can be recorded.
    pub(super) fn may_change(&self, path: &[u8]) -> Result<(), StatusCode> {
        if let Err(error) = self.root.may_write() {
            let path = path.to_vec();
            self.told(&FileReport::Refused { path })?;
            return Err(status(error));
        }
        self.reports.ready().map_err(|_| StatusCode::Failure)
    }

    /// Reports what was done, for the record.
    pub(super) fn told(&self, report: &FileReport) -> Result<(), StatusCode> {
        self.reports.tell(report).map_err(|_| StatusCode::Failure)
    }

    /// Makes a change and, if that succeeded, reports it.
    fn changed(&self, change: impl FnOnce() -> Done, report: impl FnOnce() -> FileReport) -> Done {
        let report = report();
        self.may_change(report.path())?;
        let answer = change()?;
        self.told(&report)?;
        Ok(answer)
    }

    fn stat(&self, path: &[u8], follow: bool) -> Done {
        let stat = match (&self.root, follow) {
            (Root::Below { .. }, true) => {
                let file = self
                    .root
                    .open(as_path(path), OFlags::PATH, Mode::empty())
                    .map_err(status)?;
                fstat(&file)
            }
            (_, follow) => {
                let place = self.root.place(as_path(path)).map_err(status)?;
                let flags = if follow {
                    AtFlags::empty()
                } else {
                    AtFlags::SYMLINK_NOFOLLOW
                };
                statat(place.folder(), &place.name, flags)
            }
        };
        Ok(Response::Attributes(attributes(&stat.map_err(status)?)))
    }

    fn fstat(&self, handle: &[u8]) -> Done {
        let stat = fstat(&self.file(handle)?.file).map_err(status)?;
        Ok(Response::Attributes(attributes(&stat)))
    }

    fn setstat(&self, path: &[u8], given: Attributes, follow: bool) -> Done {
        if follow && matches!(self.root, Root::Below { .. }) {
            // Through an open file, since the name may lead elsewhere a moment later.
            let file = self.root.open(
                as_path(path),
                OFlags::RDONLY | OFlags::NONBLOCK,
                Mode::empty(),
            );
            let writable = || {
                self.root.open(
                    as_path(path),
                    OFlags::WRONLY | OFlags::NONBLOCK,
                    Mode::empty(),
                )
            };
            return change(
                &self.root,
                &file.or_else(|_| writable()).map_err(status)?,
                given,
            );
        }
        if !follow && given.size.is_some() {
            return Err(StatusCode::BadMessage);
        }
        let place = self.root.place(as_path(path)).map_err(status)?;
        let flags = if follow {
            AtFlags::empty()
        } else {
            AtFlags::SYMLINK_NOFOLLOW
        };
        let (folder, name) = (place.folder(), &place.name);
        let mut results = Results::default();
        if let Some(size) = given.size {
            let open = || self.root.open(as_path(path), OFlags::WRONLY, Mode::empty());
            results.add(length(size).and_then(|size| ftruncate(open()?, size)));
        }
        if let Some(mode) = given.mode {
            let mode = self.root.mode(mode);
            results.add(match follow {
                true => chmodat(folder, name, mode, flags),
                false => chmod_itself(folder, name, mode),
            });
        }
        if let Some(times) = given.times {
            results.add(utimensat(folder, name, &timestamps(times), flags));
        }
        if let Some((user, group)) = given.owner {
            let changed = chownat(
                folder,
                name,
                Some(Uid::from_raw(user)),
                Some(Gid::from_raw(group)),
                flags,
            );
            results.add(changed);
        }
        done(results.last_failure())
    }

    fn fsetstat(&self, handle: &[u8], given: Attributes) -> Done {
        let open = self.file(handle)?;
        let set = || change(&self.root, &open.file, given);
        match open.writable {
            true => set(),
            // The attributes of a file opened for reading can be changed too, so that is recorded.
            false => self.changed(set, || FileReport::Changed {
                path: open.path.clone(),
            }),
        }
    }

    fn opendir(&mut self, path: &[u8]) -> Done {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let folder = self
            .root
            .open(as_path(path), flags, Mode::empty())
            .map_err(status)?;
        let file = File::from(folder);
        // Not reopened: a folder may be readable but not searchable.
        let folder =
            Dir::new(file.try_clone().map_err(|error| io_status(&error))?).map_err(status)?;
        self.add(Handle::Folder { folder, file })
    }

    fn readdir(&mut self, handle: &[u8]) -> Done {
        let Some(Handle::Folder { folder, file }) = self.handles.get_mut(&number(handle)?) else {
            return Err(StatusCode::Failure);
        };
        let mut names = Vec::new();
        while names.len() < NAMES
            && let Some(entry) = folder.read()
        {
            let entry = entry.map_err(status)?;
            // Skips entries that have been removed since.
            if let Ok(stat) = statat(file.as_fd(), entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
                let name = entry.file_name().to_bytes().to_vec();
                names.push(Name {
                    long: self.owners.line(&name, &stat),
                    attributes: attributes(&stat),
                    name,
                });
            }
        }
        match names.is_empty() {
            true => Err(StatusCode::Eof),
            false => Ok(Response::Names(names)),
        }
    }

    fn mkdir(&self, path: &[u8], given: Attributes) -> Done {
        let place = self.root.place(as_path(path)).map_err(status)?;
        let mode = self.root.mode(given.mode.unwrap_or(0o777));
        done(mkdirat(place.folder(), &place.name, mode))
    }

    fn unlink(&self, path: Vec<u8>, flags: AtFlags) -> Done {
        let remove = || {
            let place = self.root.place(as_path(&path)).map_err(status)?;
            done(unlinkat(place.folder(), &place.name, flags))
        };
        self.changed(remove, || FileReport::Removed { path: path.clone() })
    }

    fn rename(&self, from: &[u8], to_path: &[u8], replace: bool) -> Done {
        let from = self.root.place(as_path(from)).map_err(status)?;
        let to = self.root.place(as_path(to_path)).map_err(status)?;
        let (source, target) = ((from.folder(), &from.name), (to.folder(), &to.name));
        let plainly = || done(renameat(source.0, source.1, target.0, target.1));
        if replace {
            return plainly();
        }
        let found = statat(source.0, source.1, AtFlags::SYMLINK_NOFOLLOW).map_err(status)?;
        let kind = FileType::from_raw_mode(found.st_mode);
        // As in OpenSSH's server, a folder or link replaces a dangling link.
        if kind != FileType::RegularFile && self.stat(to_path, true).is_err() {
            return plainly();
        }
        let renamed = renameat_with(
            source.0,
            source.1,
            target.0,
            target.1,
            RenameFlags::NOREPLACE,
        );
        match renamed {
            // Some file systems do not support this: then the target is looked up first.
            Err(Errno::INVAL | Errno::NOSYS) => {
                match statat(target.0, target.1, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(_) => Err(StatusCode::Failure),
                    Err(_) => plainly(),
                }
            }
            renamed => done(renamed),
        }
    }

    fn readlink(&self, path: &[u8]) -> Done {
        let place = self.root.place(as_path(path)).map_err(status)?;
        let target = readlinkat(place.folder(), &place.name, Vec::new()).map_err(status)?;
        Ok(one_name(target.into_bytes()))
    }

    fn symlink(&self, target: &[u8], path: &[u8]) -> Done {
        let place = self.root.place(as_path(path)).map_err(status)?;
        done(symlinkat(as_path(target), place.folder(), &place.name))
    }

    fn hardlink(&self, from: &[u8], to: &[u8]) -> Done {
        let from = self.root.place(as_path(from)).map_err(status)?;
        let to = self.root.place(as_path(to)).map_err(status)?;
        done(linkat(
            from.folder(),
            &from.name,
            to.folder(),
            &to.name,
            AtFlags::empty(),
        ))
    }

    fn statvfs(&self, path: &[u8]) -> Done {
        let file = self
            .root
            .open(as_path(path), OFlags::PATH, Mode::empty())
            .map_err(status)?;
        volume(&file)
    }
}

/// The number that a handle holds.
pub(super) fn number(handle: &[u8]) -> Result<u32, StatusCode> {
    let bytes: [u8; 4] = handle.try_into().map_err(|_| StatusCode::Failure)?;
    Ok(u32::from_be_bytes(bytes))
}
