//! What is there of a file already: the beginning of it, or a file of its size under its name.

use std::fs::File;
use std::io::{self, Read, Write};

use malai_wire::copy::{FromReceiver, Offer};
use rustix::fs::{FileType, Mode, OFlags, openat};

use super::{Failure, Have, Receiver};
use crate::files::copy::CopyError;
use crate::files::copy::destination::existing;
use crate::files::copy::part::Part;

/// After how many verified bytes the other side is told.
const TELL: u64 = 16 * 1024 * 1024;

impl<W: Write> Receiver<'_, W> {
    /// What already exists of a file, and whether its name is taken. None if the existing file is to be kept.
    ///
    /// A partial file takes precedence over a file of the same size, which may be the old content.
    pub(super) fn look(
        &mut self,
        offer: &Offer,
        size: Option<u64>,
    ) -> Result<Option<(Have, bool)>, Failure> {
        let (folder, name) = self.folder_and_name(offer.source, &offer.path)?;
        if name.is_empty() {
            return Err(Failure::Entry(
                "it is a file, where a folder was named".to_owned(),
            ));
        }
        let stat = existing(&folder, &name)?;
        let kind = stat.map(|stat| FileType::from_raw_mode(stat.st_mode));
        if stat.is_some() && self.options.no_clobber {
            return Ok(None);
        }
        if kind == Some(FileType::Directory) {
            return Err(Failure::Entry("a folder is there".to_owned()));
        }
        let exists = stat.is_some();
        let Some(size) = size.filter(|size| *size > 0) else {
            return Ok(Some((Have::Nothing, exists)));
        };
        if let Some((mut part, stat)) = Part::open(&folder, &name, false)?
            && (1..=size).contains(&(stat.st_size as u64))
            && let Some((length, hasher)) = self.hash(&mut part.file, stat.st_size as u64)?
        {
            let have = Have::Part(length, Part::stamp(&stat), hasher);
            return Ok(Some((have, exists)));
        }
        let is_as_long = stat.is_some_and(|stat| stat.st_size as u64 == size);
        if kind == Some(FileType::RegularFile) && is_as_long {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            // A file that cannot be read is replaced.
            if let Ok(fd) = openat(&*folder, &name[..], flags, Mode::empty())
                && let Some((length, hasher)) = self.hash(&mut fd.into(), size)?
            {
                return Ok(Some((Have::Whole(length, hasher), exists)));
            }
        }
        Ok(Some((Have::Nothing, exists)))
    }

    /// Hashes a file that is there. None if it cannot be read to that length.
    pub(super) fn hash(
        &mut self,
        file: &mut File,
        length: u64,
    ) -> Result<Option<(u64, Box<blake3::Hasher>)>, CopyError> {
        let mut hasher = Box::new(blake3::Hasher::new());
        let mut buffer = vec![0; 256 * 1024];
        let (mut left, mut untold) = (length, 0);
        while left > 0 {
            let most = buffer
                .len()
                .min(usize::try_from(left).unwrap_or(usize::MAX));
            let count = match file.read(&mut buffer[..most]) {
                Ok(0) => return Ok(None),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return Ok(None),
            };
            hasher.update(&buffer[..count]);
            left -= count as u64;
            untold += count as u64;
            self.observer.verified(count as u64);
            if untold >= TELL {
                self.output.send(&FromReceiver::Verified(untold))?;
                self.output.flush()?;
                untold = 0;
            }
        }
        Ok(Some((length, hasher)))
    }
}
