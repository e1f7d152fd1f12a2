//! Each request, done on the file system.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use malai_wire::sftp::{
    Attributes, MAX_DATA, MAX_PACKET, Name, OpenFlags, Request, Response, StatusCode,
};
use rustix::fs::{
    AtFlags, Dir, Gid, Mode, OFlags, RenameFlags, Uid, chmodat, chownat, fstat, fsync, ftruncate,
    linkat, mkdirat, readlinkat, renameat, renameat_with, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use super::change::{change, timestamps, volume};
use super::listing::{Owners, attributes};
use super::paths::{as_path, one_name};
use super::status::{Done, done, io_status, status};
use crate::files::root::Root;

/// Files and folders that may be open at once.
const HANDLES: usize = 1000;

/// Names in one answer.
const NAMES: usize = 100;

/// What a client has open.
#[derive(Debug)]
enum Handle {
    File { file: Arc<File>, append: bool },
    Folder { folder: Dir, file: Arc<File> },
}

/// A client's session.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) root: Root,
    handles: BTreeMap<u32, Handle>,
    next: u32,
    owners: Owners,
}

impl Session {
    /// A session on these files.
    pub(super) fn new(root: Root) -> Self {
        Self {
            root,
            handles: BTreeMap::new(),
            next: 0,
            owners: Owners::default(),
        }
    }

    /// The open file of a handle.
    pub(super) fn file(&self, handle: &[u8]) -> Result<Arc<File>, StatusCode> {
        match self.handles.get(&number(handle)?) {
            Some(Handle::File { file, .. }) => Ok(file.clone()),
            _ => Err(StatusCode::Failure),
        }
    }

    /// Does what is asked; the id and the answer.
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
            } => (
                id,
                self.file(&handle).map(|file| read(&file, offset, length)),
            ),
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
            } => (id, self.setstat(&path, attributes, follow)),
            Request::Fsetstat {
                id,
                handle,
                attributes,
            } => (id, self.fsetstat(&handle, attributes)),
            Request::Opendir { id, path } => (id, self.opendir(&path)),
            Request::Readdir { id, handle } => (id, self.readdir(&handle)),
            Request::Remove { id, path } => (id, self.unlink(&path, AtFlags::empty())),
            Request::Mkdir {
                id,
                path,
                attributes,
            } => (id, self.mkdir(&path, attributes)),
            Request::Rmdir { id, path } => (id, self.unlink(&path, AtFlags::REMOVEDIR)),
            Request::Realpath { id, path } => (id, self.realpath(&path)),
            Request::Rename {
                id,
                from,
                to,
                replace,
            } => (id, self.rename(&from, &to, replace)),
            Request::Readlink { id, path } => (id, self.readlink(&path)),
            Request::Symlink { id, target, path } => (id, self.symlink(&target, &path)),
            Request::Hardlink { id, from, to } => (id, self.hardlink(&from, &to)),
            Request::Statvfs { id, path } => (id, self.statvfs(&path)),
            Request::Fstatvfs { id, handle } => {
                (id, self.open_file(&handle).and_then(|file| volume(&file)))
            }
            Request::Fsync { id, handle } => {
                (id, self.file(&handle).and_then(|file| done(fsync(&file))))
            }
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

    fn add(&mut self, handle: Handle) -> Done {
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

    fn open_file(&self, handle: &[u8]) -> Result<Arc<File>, StatusCode> {
        match self.handles.get(&number(handle)?) {
            Some(Handle::File { file, .. } | Handle::Folder { file, .. }) => Ok(file.clone()),
            None => Err(StatusCode::Failure),
        }
    }

    fn open(&mut self, path: &[u8], flags: OpenFlags, given: Attributes) -> Done {
        let mut how = match (flags.read(), flags.write() || flags.append()) {
            (true, true) => OFlags::RDWR,
            (false, true) => OFlags::WRONLY,
            _ => OFlags::RDONLY,
        };
        for (set, flag) in [
            (flags.create(), OFlags::CREATE),
            (flags.truncate(), OFlags::TRUNC),
            (flags.exclusive(), OFlags::EXCL),
            (flags.append(), OFlags::APPEND),
        ] {
            how.set(flag, set);
        }
        let mode = Mode::from_raw_mode(given.mode.map_or(0o666, |mode| mode & 0o7777));
        let file = Arc::new(File::from(
            self.root.open(as_path(path), how, mode).map_err(status)?,
        ));
        self.add(Handle::File {
            file,
            append: flags.append(),
        })
    }

    fn close(&mut self, handle: &[u8]) -> Done {
        match self.handles.remove(&number(handle)?) {
            Some(_) => Ok(Response::Status(StatusCode::Ok)),
            None => Err(StatusCode::Failure),
        }
    }

    fn write(&self, handle: &[u8], offset: u64, data: &[u8]) -> Done {
        let written = match self.handles.get(&number(handle)?) {
            Some(Handle::File {
                file,
                append: false,
            }) => file.write_all_at(data, offset),
            Some(Handle::File { file, append: true }) => {
                std::io::Write::write_all(&mut &**file, data)
            }
            _ => return Err(StatusCode::Failure),
        };
        match written {
            Ok(()) => Ok(Response::Status(StatusCode::Ok)),
            Err(error) => Err(io_status(&error)),
        }
    }

    fn stat(&self, path: &[u8], follow: bool) -> Done {
        let stat = match (&self.root, follow) {
            (Root::Below(_), true) => {
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
        let stat = fstat(self.open_file(handle)?).map_err(status)?;
        Ok(Response::Attributes(attributes(&stat)))
    }

    fn setstat(&self, path: &[u8], given: Attributes, follow: bool) -> Done {
        if follow && matches!(self.root, Root::Below(_)) {
            // By an open file, since a name may lead elsewhere the next moment.
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
            return change(&file.or_else(|_| writable()).map_err(status)?, given);
        }
        let place = self.root.place(as_path(path)).map_err(status)?;
        let flags = if follow {
            AtFlags::empty()
        } else {
            AtFlags::SYMLINK_NOFOLLOW
        };
        let (folder, name) = (place.folder(), &place.name);
        let mut result = Ok(());
        if let Some(size) = given.size {
            let file = self.root.open(as_path(path), OFlags::WRONLY, Mode::empty());
            result = result.and(file.and_then(|file| ftruncate(&file, size)));
        }
        if let Some(mode) = given.mode {
            let mode = Mode::from_raw_mode(mode & 0o7777);
            result = result.and(chmodat(folder, name, mode, flags));
        }
        if let Some(times) = given.times {
            result = result.and(utimensat(folder, name, &timestamps(times), flags));
        }
        if let Some((user, group)) = given.owner {
            let changed = chownat(
                folder,
                name,
                Some(Uid::from_raw(user)),
                Some(Gid::from_raw(group)),
                flags,
            );
            result = result.and(changed);
        }
        done(result)
    }

    fn fsetstat(&self, handle: &[u8], given: Attributes) -> Done {
        change(&self.open_file(handle)?, given)
    }

    fn opendir(&mut self, path: &[u8]) -> Done {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let folder = self
            .root
            .open(as_path(path), flags, Mode::empty())
            .map_err(status)?;
        let file = Arc::new(File::from(folder));
        let folder = Dir::read_from(&file).map_err(status)?;
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
            // What was removed meanwhile is no longer there.
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
        let mode = Mode::from_raw_mode(given.mode.map_or(0o777, |mode| mode & 0o7777));
        done(mkdirat(place.folder(), &place.name, mode))
    }

    fn unlink(&self, path: &[u8], flags: AtFlags) -> Done {
        let place = self.root.place(as_path(path)).map_err(status)?;
        done(unlinkat(place.folder(), &place.name, flags))
    }

    fn rename(&self, from: &[u8], to: &[u8], replace: bool) -> Done {
        let from = self.root.place(as_path(from)).map_err(status)?;
        let to = self.root.place(as_path(to)).map_err(status)?;
        let (source, target) = ((from.folder(), &from.name), (to.folder(), &to.name));
        if replace {
            return done(renameat(source.0, source.1, target.0, target.1));
        }
        let renamed = renameat_with(
            source.0,
            source.1,
            target.0,
            target.1,
            RenameFlags::NOREPLACE,
        );
        match renamed {
            // Some file systems cannot: then what is there is looked for first.
            Err(Errno::INVAL | Errno::NOSYS) => {
                match statat(target.0, target.1, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(_) => Err(StatusCode::Failure),
                    Err(_) => done(renameat(source.0, source.1, target.0, target.1)),
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

    fn copy(
        &self,
        (from, from_offset): (&[u8], u64),
        (to, to_offset): (&[u8], u64),
        length: u64,
    ) -> Done {
        let (source, target) = (self.file(from)?, self.file(to)?);
        if from == to {
            let end =
                |offset: u64| offset.saturating_add(if length == 0 { u64::MAX } else { length });
            if from_offset < end(to_offset) && to_offset < end(from_offset) {
                return Err(StatusCode::Failure);
            }
        }
        let mut left = if length == 0 { u64::MAX } else { length };
        let (mut reads, mut writes) = (from_offset, to_offset);
        let mut buffer = vec![0; MAX_DATA];
        while left > 0 {
            let most = usize::try_from(left)
                .unwrap_or(usize::MAX)
                .min(buffer.len());
            let count = source
                .read_at(&mut buffer[..most], reads)
                .map_err(|error| io_status(&error))?;
            if count == 0 {
                // All that is there, where that was asked for.
                return if length == 0 {
                    Ok(Response::Status(StatusCode::Ok))
                } else {
                    Err(StatusCode::Eof)
                };
            }
            target
                .write_all_at(&buffer[..count], writes)
                .map_err(|error| io_status(&error))?;
            reads += count as u64;
            writes += count as u64;
            left -= count as u64;
        }
        Ok(Response::Status(StatusCode::Ok))
    }
}

/// Reads a piece of a file.
pub(super) fn read(file: &File, offset: u64, length: u32) -> Response {
    let length = usize::try_from(length).unwrap_or(usize::MAX).min(MAX_DATA);
    let mut data = vec![0; length];
    loop {
        match file.read_at(&mut data, offset) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Ok(0) if length > 0 => return Response::Status(StatusCode::Eof),
            Ok(count) => {
                data.truncate(count);
                return Response::Data(data);
            }
            Err(error) => return Response::Status(io_status(&error)),
        }
    }
}

fn number(handle: &[u8]) -> Result<u32, StatusCode> {
    let bytes: [u8; 4] = handle.try_into().map_err(|_| StatusCode::Failure)?;
    Ok(u32::from_be_bytes(bytes))
}
