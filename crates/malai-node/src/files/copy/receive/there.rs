//! What is there of a file already: the beginning of it, or a file of its size under its name.

use std::fs::File;
use std::io::{self, Read, Write};

use malai_wire::copy::{FromReceiver, Offer};
use rustix::fs::{FileType, Mode, OFlags, openat};

use super::{Failure, Have, Receiver};
use crate::files::copy::CopyError;
use crate::files::copy::goal::existing;
use crate::files::copy::part::Part;

/// After how many verified bytes the other side is told.
const TELL: u64 = 16 * 1024 * 1024;

impl<W: Write> Receiver<'_, W> {
    /// What is there of a file. None if it is to be left as it is.
    pub(super) fn look(
        &mut self,
        offer: &Offer,
        size: Option<u64>,
    ) -> Result<Option<Have>, Failure> {
        let (folder, name) = self.spot(offer.source, &offer.path)?;
        if name.is_empty() {
            return Err(Failure::Entry(
                "it is a file, where a folder was named".to_owned(),
            ));
        }
        if let Some(stat) = existing(&folder, &name)? {
            if self.options.no_clobber {
                return Ok(None);
            }
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {
                    return Err(Failure::Entry("a folder stands there".to_owned()));
                }
                FileType::RegularFile if size == Some(stat.st_size as u64) && stat.st_size > 0 => {
                    let flags =
                        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                    // One that cannot be read is replaced.
                    if let Ok(fd) = openat(&*folder, &name[..], flags, Mode::empty())
                        && let Some((length, hasher)) =
                            self.hash(&mut fd.into(), stat.st_size as u64)?
                    {
                        return Ok(Some(Have::Whole(length, hasher)));
                    }
                }
                _ => {}
            }
        }
        let Some(size) = size else {
            return Ok(Some(Have::Nothing));
        };
        let Some((mut part, stat)) = Part::open(&folder, &name, false)? else {
            return Ok(Some(Have::Nothing));
        };
        let length = stat.st_size as u64;
        if length == 0 || length > size {
            return Ok(Some(Have::Nothing));
        }
        Ok(Some(match self.hash(&mut part.file, length)? {
            Some((length, hasher)) => Have::Part(length, Part::stamp(&stat), hasher),
            None => Have::Nothing,
        }))
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
