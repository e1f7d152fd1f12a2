//! A file's content: opens the partial file, appends to it, and compares the hash at the end.

use std::io::{self, Read, Seek, SeekFrom, Write};

use malai_wire::copy::{Begin, Kind, Offer, Outcome};
use rustix::fs::FileType;

use super::{
    BATCH, BATCH_BYTES, BIG, Current, Have, Receiver, Sink, WRITEBACK, Waiting, path_reason,
};
use crate::files::copy::destination::{Place, existing};
use crate::files::copy::part::{Part, begin_to_write};
use crate::files::copy::{CopyError, attributes, reason, send};

impl<W: Write> Receiver<'_, W> {
    pub(super) fn begin(&mut self, begin: Begin) -> Result<(), CopyError> {
        if self.current.is_some() {
            return Err(CopyError::Protocol("two files at once".into()));
        }
        let Some(Waiting {
            offer,
            have,
            exists,
        }) = self.waiting.remove(&begin.id)
        else {
            return Err(CopyError::Protocol("a file that was not asked for".into()));
        };
        let (length, hasher) = match (&have, begin.offset) {
            (_, 0) => (0, blake3::Hasher::new()),
            (Have::Part(length, _, hasher) | Have::Whole(length, hasher), offset)
                if *length == offset =>
            {
                (offset, (**hasher).clone())
            }
            _ => return Err(CopyError::Protocol("a file from its middle on".into())),
        };
        self.observer.skipped(length);
        let sink = match (&self.destination.place, &have) {
            (Place::Stream(_), _) => Ok(Sink::Stream),
            (_, Have::Whole(..)) if length > 0 => Ok(Sink::Unchanged),
            _ => self.open_part(&offer, &have, length).map(Sink::Part),
        };
        let sink = match sink {
            Ok(sink) => sink,
            Err(error) => {
                self.settle(&offer, Outcome::Failed(path_reason(error)))?;
                Sink::Discard
            }
        };
        let is_open = matches!(sink, Sink::Part(_));
        if is_open {
            self.observer.written(offer.source, &offer.path, !exists);
        }
        self.current = Some(Current {
            offer,
            sink,
            hasher,
            length,
            written: 0,
            written_back: length,
            is_open,
        });
        Ok(())
    }

    /// Says what was written to the file on its way, if it was opened.
    pub(super) fn closed(&mut self, current: &Current) {
        if current.is_open {
            self.observer.closed(0, current.written);
        }
    }

    fn open_part(&mut self, offer: &Offer, have: &Have, length: u64) -> io::Result<Part> {
        self.observer.changing().map_err(io::Error::other)?;
        let (folder, name) = self.folder_and_name(offer.source, &offer.path)?;
        let Some((mut part, stat)) = Part::open(&folder, &name, true)? else {
            return Err(rustix::io::Errno::NOENT.into());
        };
        if let (Have::Part(_, stamp, _), true) = (have, length > 0)
            && *stamp != Part::stamp(&stat)
        {
            return Err(io::Error::other(
                "it was changed while it was copied; copy it again",
            ));
        }
        part.file.set_len(length)?;
        part.file.seek(SeekFrom::Start(length))?;
        Ok(part)
    }

    /// Counts bytes of the file that is being received. False if they are to be discarded.
    fn grow(&mut self, by: u64) -> Result<bool, CopyError> {
        let Some(current) = &mut self.current else {
            return Err(CopyError::Protocol("bytes of no file".into()));
        };
        let most = match (&current.sink, &current.offer.kind) {
            (Sink::Unchanged, _) => current.length,
            (_, Kind::File(Some(size))) => *size,
            _ => u64::MAX,
        };
        current.length = current.length.saturating_add(by);
        if current.length > most {
            return Err(CopyError::Protocol("more bytes than were offered".into()));
        }
        Ok(!matches!(current.sink, Sink::Discard))
    }

    pub(super) fn data(&mut self, bytes: &[u8]) -> Result<(), CopyError> {
        let is_wanted = self.grow(bytes.len() as u64)?;
        let Some(current) = self.current.as_mut().filter(|_| is_wanted) else {
            return Ok(());
        };
        current.hasher.update(bytes);
        current.written += bytes.len() as u64;
        let written = match (&mut current.sink, &mut self.destination.place) {
            (Sink::Part(part), _) => {
                let written = part.file.write_all(bytes);
                let (from, to) = (current.written_back, current.length);
                if to - from >= WRITEBACK {
                    begin_to_write(&part.file, from, to - from);
                    current.written_back = to;
                }
                written
            }
            (Sink::Stream, Place::Stream(stream)) => stream.write_all(bytes),
            _ => Ok(()),
        };
        self.observer.moved(bytes.len() as u64);
        self.written(written)
    }

    pub(super) fn hole(&mut self, length: u64) -> Result<(), CopyError> {
        let is_wanted = self.grow(length)?;
        let Some(current) = self.current.as_mut().filter(|_| is_wanted) else {
            return Ok(());
        };
        send::hash_zeros(&mut current.hasher, length);
        let written = match (&mut current.sink, &mut self.destination.place) {
            (Sink::Part(part), _) => part.file.seek(SeekFrom::Start(current.length)).map(|_| ()),
            (Sink::Stream, Place::Stream(stream)) => {
                io::copy(&mut io::repeat(0).take(length), stream).map(|_| ())
            }
            _ => Ok(()),
        };
        self.observer.skipped(length);
        self.written(written)
    }

    /// If something could not be written, it is said at once, so that the rest is not sent.
    fn written(&mut self, written: io::Result<()>) -> Result<(), CopyError> {
        let Err(error) = written else {
            return Ok(());
        };
        let Some(current) = &mut self.current else {
            return Ok(());
        };
        let kept = match std::mem::replace(&mut current.sink, Sink::Discard) {
            Sink::Part(part) if matches!(current.offer.kind, Kind::File(Some(_))) => part.kept(),
            // Without its length, it is not resumed.
            Sink::Part(part) => {
                part.remove();
                String::new()
            }
            _ => String::new(),
        };
        let offer = current.offer.clone();
        let why = format!("cannot write it: {}{kept}", reason(error));
        self.settle(&offer, Outcome::Failed(why))?;
        self.output.flush()
    }

    pub(super) fn file_end(&mut self, hash: [u8; 32]) -> Result<(), CopyError> {
        let Some(current) = self.current.take() else {
            return Err(CopyError::Protocol("the end of no file".into()));
        };
        self.closed(&current);
        let Current {
            offer,
            sink,
            hasher,
            length,
            ..
        } = current;
        let is_same = hasher.finalize() == hash;
        let damaged = || {
            let why = "what arrived is not what was sent (BLAKE3 differs); copy it again";
            Outcome::Failed(why.to_owned())
        };
        match sink {
            Sink::Discard => Ok(()),
            Sink::Part(part) if !is_same => {
                part.remove();
                self.settle(&offer, damaged())
            }
            _ if !is_same => self.settle(&offer, damaged()),
            Sink::Stream => {
                let Place::Stream(stream) = &mut self.destination.place else {
                    return Ok(());
                };
                let outcome = match stream.flush() {
                    Ok(()) => Outcome::Stored,
                    Err(error) => Outcome::Failed(format!("cannot write it: {}", reason(error))),
                };
                self.settle(&offer, outcome)
            }
            Sink::Unchanged => {
                self.remove_part(&offer);
                let outcome = match self.keep(&offer) {
                    Ok(()) => Outcome::Unchanged,
                    Err(error) => Outcome::Failed(path_reason(error)),
                };
                self.settle(&offer, outcome)
            }
            Sink::Part(part) => {
                let before = existing(&part.folder, &part.name).ok().flatten();
                let before = before
                    .filter(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
                let applied = part.file.set_len(length).and_then(|()| {
                    attributes::apply(&part.file, &offer, self.keeps(), before.as_ref())
                });
                if let Err(error) = applied {
                    let why = format!(
                        "cannot give it its modes and times: {}{}",
                        reason(error),
                        part.kept()
                    );
                    return self.settle(&offer, Outcome::Failed(why));
                }
                self.batch.push((part, offer));
                self.batch_bytes += length;
                if length >= BIG || self.batch.len() >= BATCH || self.batch_bytes >= BATCH_BYTES {
                    self.store()?;
                }
                Ok(())
            }
        }
    }
}
