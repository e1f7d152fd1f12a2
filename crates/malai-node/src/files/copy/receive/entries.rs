//! Entries other than files, and the attributes that are preserved.

use std::io::{self, Write};
use std::os::fd::OwnedFd;

use malai_wire::copy::{Kind, Offer};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, linkat, mkdirat, openat, unlinkat};
use rustix::io::Errno;

use super::Receiver;
use crate::files::copy::attributes;
use crate::files::copy::destination::existing;
use crate::files::copy::part::{Part, finish, part_name};

impl<W: Write> Receiver<'_, W> {
    pub(super) fn make_folder(&mut self, offer: &Offer) -> io::Result<bool> {
        let (folder, name) = self.folder_and_name(offer.source, &offer.path)?;
        let before = match name.is_empty() {
            true => Some(rustix::fs::fstat(&*folder)?),
            false => existing(&folder, &name)?,
        };
        match &before {
            Some(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {}
            Some(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink => {
                return Err(Errno::LOOP.into());
            }
            Some(_) => {
                return Err(io::Error::other("something other than a folder is there"));
            }
            // What is copied into it has to be written.
            None => self.made(offer, || {
                let mode = Mode::from_raw_mode(offer.mode & 0o777 | 0o700);
                Ok(mkdirat(&*folder, &name[..], mode)?)
            })?,
        }
        if self.options.preserve || before.is_none() && offer.mode & 0o700 != 0o700 {
            self.folders.push((offer.clone(), before));
        }
        Ok(true)
    }

    /// Creates an entry, if that can be recorded, and records it.
    fn made(&mut self, offer: &Offer, make: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        self.observer.changing().map_err(io::Error::other)?;
        make()?;
        self.observer.made(offer.source, &offer.path, &offer.kind);
        Ok(())
    }

    /// Removes what is left of an earlier copy of a file that is whole.
    pub(super) fn remove_part(&mut self, offer: &Offer) {
        if let Ok((folder, name)) = self.folder_and_name(offer.source, &offer.path)
            && let Ok(Some((part, _))) = Part::open(&folder, &name, false)
        {
            part.remove();
        }
    }

    /// Creates an entry that is not a file, first under a temporary name. False if the existing one is kept.
    pub(super) fn make(
        &mut self,
        offer: &Offer,
        make: impl Fn(&OwnedFd, &[u8]) -> io::Result<()>,
    ) -> io::Result<bool> {
        let (folder, name) = self.folder_and_name(offer.source, &offer.path)?;
        if name.is_empty() {
            return Err(io::Error::other(
                "it is not a folder, but the path names one",
            ));
        }
        if let Some(stat) = existing(&folder, &name)? {
            if self.options.no_clobber {
                return Ok(false);
            }
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                return Err(io::Error::other("a folder is there"));
            }
        }
        let part = part_name(&name);
        // One that was left behind.
        let _ = unlinkat(&*folder, &part[..], AtFlags::empty());
        self.made(offer, || make(&folder, &part))?;
        if !matches!(offer.kind, Kind::HardLink(..)) {
            attributes::apply_to_name(&*folder, &part, offer, self.keeps())?;
        }
        let done = finish(&folder, &part, &name, self.options.no_clobber)?;
        // Where both were names of one file already, nothing was renamed.
        let _ = unlinkat(&*folder, &part[..], AtFlags::empty());
        Ok(done)
    }

    /// Sets the preserved attributes of a file that is already there.
    pub(super) fn keep(&mut self, offer: &Offer) -> io::Result<()> {
        if !self.options.preserve {
            return Ok(());
        }
        let (folder, name) = self.folder_and_name(offer.source, &offer.path)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = openat(&*folder, &name[..], flags, Mode::empty())?;
        attributes::apply(fd, offer, self.keeps(), None)
    }

    pub(super) fn link(&mut self, offer: &Offer) -> io::Result<bool> {
        let Kind::HardLink(source, path) = &offer.kind else {
            return Ok(false);
        };
        let (from, first) = self.folder_and_name(*source, path)?;
        self.make(offer, |folder, part| {
            match linkat(&*from, &first[..], folder, part, AtFlags::empty()) {
                Err(Errno::XDEV) => Err(io::Error::other(
                    "the file that it is a hard link to is on another file system",
                )),
                done => Ok(done?),
            }
        })
    }

    pub(super) fn finish_folder(&mut self, offer: &Offer, before: Option<&Stat>) -> io::Result<()> {
        let (folder, name) = self.folder_and_name(offer.source, &offer.path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let name = match name.is_empty() {
            true => b".",
            false => &name[..],
        };
        let fd = openat(&*folder, name, flags, Mode::empty())?;
        attributes::apply(fd, offer, self.keeps(), before)
    }
}
