//! Files that a client has open: opened, read, written, copied and closed.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use malai_wire::file_report::FileReport;
use malai_wire::sftp::{Attributes, MAX_DATA, OpenFlags, Response, StatusCode};
use rustix::fs::{Mode, OFlags, SeekFrom};
use rustix::io::{Errno, retry_on_intr};

use super::operations::{Handle, Session, number};
use super::paths::as_path;
use super::status::{Done, status};

/// An open file, with counts of the bytes read and written.
#[derive(Debug)]
pub(super) struct OpenFile {
    pub(super) file: File,
    append: bool,
    /// Whether it was opened for writing.
    pub(super) writable: bool,
    /// Its path as the client gave it.
    pub(super) path: Vec<u8>,
    read: AtomicU64,
    written: AtomicU64,
}

impl OpenFile {
    /// Reads a piece.
    pub(super) fn read(&self, offset: u64, length: u32) -> Response {
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(MAX_DATA);
        let mut data = vec![0; length];
        let read = self.reach(offset).and_then(|()| match length {
            0 => Ok(0),
            _ => self.read_at(&mut data, offset),
        });
        match read {
            Ok(0) if length > 0 => Response::Status(StatusCode::Eof),
            Ok(count) => {
                data.truncate(count);
                Response::Data(data)
            }
            Err(error) => Response::Status(status(error)),
        }
    }

    /// Checks that the file can have a byte at this offset.
    fn reach(&self, offset: u64) -> Result<(), Errno> {
        // Only the file system knows its largest offset; seeking there returns its own error.
        if offset >= 1 << 40 {
            let offset = i64::try_from(offset).map_err(|_| Errno::INVAL)?;
            rustix::fs::seek(&self.file, SeekFrom::Start(offset.cast_unsigned()))?;
        }
        Ok(())
    }

    fn read_at(&self, data: &mut [u8], offset: u64) -> Result<usize, Errno> {
        let count = retry_on_intr(|| rustix::io::pread(&self.file, &mut *data, offset))?;
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> Result<(), Errno> {
        if !self.append {
            self.reach(offset)?;
        }
        let mut done = 0;
        // Empty data is written as well, since that may not be allowed.
        loop {
            let rest = &data[done..];
            done += retry_on_intr(|| match self.append {
                false => rustix::io::pwrite(&self.file, rest, offset + done as u64),
                true => rustix::io::write(&self.file, rest),
            })?;
            if done >= data.len() {
                break;
            }
        }
        self.written.fetch_add(data.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// The report that it was closed.
    pub(super) fn closed(&self, number: u32) -> FileReport {
        FileReport::Closed {
            number,
            read: self.read.load(Ordering::Relaxed),
            written: self.written.load(Ordering::Relaxed),
        }
    }
}

impl Session {
    /// The open file of a handle.
    pub(super) fn file(&self, handle: &[u8]) -> Result<Arc<OpenFile>, StatusCode> {
        match self.handles.get(&number(handle)?) {
            Some(Handle::File(file)) => Ok(file.clone()),
            _ => Err(StatusCode::Failure),
        }
    }

    pub(super) fn open(&mut self, path: &[u8], flags: OpenFlags, given: Attributes) -> Done {
        // Append without write opens for reading, as in OpenSSH's server.
        let writable = flags.write();
        let mut how = match (flags.read(), writable) {
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
        let mode = self.root.mode(given.mode.unwrap_or(0o666));
        // Truncating or creating is a change, even if the file is opened for reading only.
        let changes = writable || flags.create() || flags.truncate();
        if changes {
            self.may_change(path)?;
        }
        let was_there = |session: &Self| {
            let found = session
                .root
                .open(as_path(path), OFlags::PATH, Mode::empty());
            !matches!(found, Err(Errno::NOENT))
        };
        let created = flags.create() && !was_there(self);
        let file = File::from(self.root.open(as_path(path), how, mode).map_err(status)?);
        let answer = self.add(Handle::File(Arc::new(OpenFile {
            file,
            append: flags.append(),
            writable,
            path: path.to_vec(),
            read: AtomicU64::new(0),
            written: AtomicU64::new(0),
        })))?;
        if let Response::Handle(handle) = &answer {
            let number = number(handle)?;
            let report = FileReport::Opened {
                number,
                write: changes,
                created,
                path: path.to_vec(),
            };
            if self.told(&report).is_err() {
                self.handles.remove(&number);
                return Err(StatusCode::Failure);
            }
        }
        Ok(answer)
    }

    pub(super) fn close(&mut self, handle: &[u8]) -> Done {
        let number = number(handle).map_err(|_| StatusCode::NoSuchFile)?;
        match self.handles.remove(&number) {
            Some(Handle::File(file)) => {
                // It is closed even if that cannot be recorded.
                let _ = self.told(&file.closed(number));
                Ok(Response::Status(StatusCode::Ok))
            }
            Some(Handle::Folder { .. }) => Ok(Response::Status(StatusCode::Ok)),
            None => Err(StatusCode::NoSuchFile),
        }
    }

    pub(super) fn write(&self, handle: &[u8], offset: u64, data: &[u8]) -> Done {
        self.file(handle)?.write_at(data, offset).map_err(status)?;
        Ok(Response::Status(StatusCode::Ok))
    }

    pub(super) fn copy(
        &self,
        (from, from_offset): (&[u8], u64),
        (to, to_offset): (&[u8], u64),
        length: u64,
    ) -> Done {
        let (source, target) = (self.file(from)?, self.file(to)?);
        // If they overlapped, the copy would read what it wrote. OpenSSH's server does not copy within a file either.
        if source.path == target.path {
            return Err(StatusCode::Failure);
        }
        let mut left = if length == 0 { u64::MAX } else { length };
        let (mut reads, mut writes) = (from_offset, to_offset);
        let mut buffer = vec![0; MAX_DATA];
        while left > 0 {
            let most = usize::try_from(left)
                .unwrap_or(usize::MAX)
                .min(buffer.len());
            let count = source.read_at(&mut buffer[..most], reads).map_err(status)?;
            if count == 0 {
                // A length of 0 asks for everything up to the end.
                return if length == 0 {
                    Ok(Response::Status(StatusCode::Ok))
                } else {
                    Err(StatusCode::Eof)
                };
            }
            target.write_at(&buffer[..count], writes).map_err(status)?;
            reads += count as u64;
            writes += count as u64;
            left -= count as u64;
        }
        Ok(Response::Status(StatusCode::Ok))
    }
}

impl Drop for Session {
    /// Reports files that the client did not close.
    fn drop(&mut self) {
        for (number, handle) in std::mem::take(&mut self.handles) {
            if let Handle::File(file) = handle {
                let _ = self.told(&file.closed(number));
            }
        }
    }
}
