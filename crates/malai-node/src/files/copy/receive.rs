//! The side that gets the files. What it is told is not believed: names stay below the goal, no link is followed, and
//! nothing arrives that was not asked for.

mod entries;
mod there;

use std::collections::HashMap;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::rc::Rc;

use malai_wire::copy::{
    Base, Begin, FromReceiver, FromSender, Kind, Offer, Options, Outcome, Settled, WINDOW, Want,
    names_of,
};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat, mkfifoat, symlinkat};
use rustix::io::Errno;

use super::goal::{Goal, Place, existing, open_resolved};
use super::link::{Frame, FrameReader, FrameWriter};
use super::part::{Part, Stamp, make_durable};
use super::{CopyError, Observer, attributes, reason, send};

/// Files that wait to be made durable together, at most.
const BATCH: usize = 256;

/// Bytes of these, at most.
const BATCH_BYTES: u64 = 64 * 1024 * 1024;

/// A file from this size on is made durable by itself.
const BIG: u64 = 4 * 1024 * 1024;

/// Receives everything that is offered.
pub(super) fn receive(
    input: FrameReader<impl Read>,
    output: FrameWriter<impl Write>,
    goal: Goal,
    options: Options,
    observer: &mut dyn Observer,
) -> Result<(), CopyError> {
    let umask = rustix::process::umask(Mode::empty());
    rustix::process::umask(umask);
    let mut receiver = Receiver {
        output,
        goal,
        options,
        umask: umask.as_raw_mode(),
        waiting: HashMap::new(),
        current: None,
        batch: Vec::new(),
        batch_bytes: 0,
        folders: Vec::new(),
        links: Vec::new(),
        parent: None,
        observer,
    };
    receiver.run(input)
}

struct Receiver<'a, W: Write> {
    output: FrameWriter<W>,
    goal: Goal,
    options: Options,
    umask: u32,
    /// Files that were asked for.
    waiting: HashMap<u64, Waiting>,
    /// The file that is on its way.
    current: Option<Current>,
    /// Files that are whole and not durable yet.
    batch: Vec<(Part, Offer)>,
    batch_bytes: u64,
    /// Folders that get their modes and times at the end, and what they were before if they were there.
    folders: Vec<(Offer, Option<Stat>)>,
    /// Further names of files, which need the first.
    links: Vec<Offer>,
    /// The folder of the last entry, which is often that of the next.
    parent: Option<(Vec<u8>, Rc<OwnedFd>)>,
    observer: &'a mut dyn Observer,
}

struct Waiting {
    offer: Offer,
    have: Have,
    /// Whether something stood under its name.
    exists: bool,
}

/// What is there of a file.
enum Have {
    Nothing,
    /// The beginning, as a part.
    Part(u64, Stamp, Box<blake3::Hasher>),
    /// A file of the same size under the name itself.
    Whole(u64, Box<blake3::Hasher>),
}

struct Current {
    offer: Offer,
    sink: Sink,
    hasher: blake3::Hasher,
    /// How much of the file there is.
    length: u64,
    /// How much of it was written now.
    written: u64,
    is_open: bool,
}

enum Sink {
    Part(Part),
    Stream,
    /// It stands there already.
    Unchanged,
    /// It could not be written, which was said.
    Discard,
}

/// A place that an entry can be written to: its folder and its name there.
type Spot = (Rc<OwnedFd>, Vec<u8>);

impl<W: Write> Receiver<'_, W> {
    fn run(&mut self, mut input: FrameReader<impl Read>) -> Result<(), CopyError> {
        let mut all_offered = false;
        loop {
            if all_offered && self.waiting.is_empty() && self.current.is_none() {
                return self.end();
            }
            if input.may_wait() {
                self.output.flush()?;
            }
            match input.next()? {
                None => return Err(CopyError::Lost(io::ErrorKind::UnexpectedEof.into())),
                Some(Frame::Data) => self.data(&input.data)?,
                Some(Frame::Message(message)) => match message {
                    FromSender::Offer(_) | FromSender::Problem(_) if all_offered => {
                        return Err(CopyError::Protocol("an offer after the last".into()));
                    }
                    FromSender::Offer(offer) => self.offered(offer)?,
                    FromSender::Problem(problem) => {
                        names_of(&problem.path).map_err(CopyError::Protocol)?;
                        self.observer
                            .problem(problem.source, &problem.path, &problem.why);
                    }
                    FromSender::Begin(begin) => self.begin(begin)?,
                    FromSender::Hole(length) => self.hole(length)?,
                    FromSender::End(end) => self.file_end(end.hash)?,
                    FromSender::Withdrawn(withdrawn) => {
                        let current = self
                            .current
                            .take_if(|current| current.offer.id == withdrawn.id);
                        let waiting = self.waiting.remove(&withdrawn.id);
                        if let Some(current) = &current {
                            self.closed(current);
                        }
                        // What could not be written was said already.
                        let is_settled = matches!(
                            &current,
                            Some(Current {
                                sink: Sink::Discard,
                                ..
                            })
                        );
                        let offer = current.map(|current| current.offer);
                        let Some(offer) = offer.or(waiting.map(|waiting| waiting.offer)) else {
                            return Err(CopyError::Protocol(
                                "what is not expected is withdrawn".into(),
                            ));
                        };
                        if !is_settled {
                            self.settle(&offer, Outcome::Failed(withdrawn.why))?;
                        }
                    }
                    FromSender::Offered => {
                        all_offered = true;
                        self.observer.all_offered();
                    }
                },
            }
        }
    }

    /// Decides about an entry.
    fn offered(&mut self, offer: Offer) -> Result<(), CopyError> {
        names_of(&offer.path).map_err(CopyError::Protocol)?;
        let options = self.options;
        let wrong = match &offer.kind {
            _ if offer.source as usize >= self.goal.names.len() => "an entry of no source",
            _ if !options.recursive && !offer.path.is_empty() => "an entry that was not asked for",
            Kind::Folder if !options.recursive => "a folder that was not asked for",
            Kind::Fifo | Kind::HardLink(..) if !options.archive => {
                "an entry that was not asked for"
            }
            _ if self.waiting.len() > 2 * WINDOW || self.waiting.contains_key(&offer.id) => {
                "too many offers"
            }
            _ => "",
        };
        if !wrong.is_empty() {
            return Err(CopyError::Protocol(wrong.into()));
        }
        let size = match &offer.kind {
            Kind::File(size) => size.unwrap_or(0),
            _ => 0,
        };
        self.observer.offered(offer.source, &offer.path, size);
        if let Place::Stream(_) = self.goal.place {
            return match offer.kind {
                Kind::File(_) => self.want(offer, Have::Nothing, false),
                _ => self.settle(&offer, Outcome::Failed("it is no file".to_owned())),
            };
        }
        let done = match &offer.kind {
            Kind::File(size) => {
                let size = *size;
                return match self.look(&offer, size) {
                    Ok(Some((have, exists))) => self.want(offer, have, exists),
                    Ok(None) => self.left_out(&offer),
                    Err(Failure::Entry(why)) => self.settle(&offer, Outcome::Failed(why)),
                    Err(Failure::All(error)) => Err(error),
                };
            }
            Kind::HardLink(_, path) => {
                names_of(path).map_err(CopyError::Protocol)?;
                self.links.push(offer);
                return Ok(());
            }
            Kind::Folder => self.make_folder(&offer),
            Kind::Symlink(target) => self.make(&offer, |folder, part| {
                symlinkat(&target[..], folder, part).map_err(Into::into)
            }),
            Kind::Fifo => self.make(&offer, |folder, part| {
                let mode = Mode::from_raw_mode(offer.mode & 0o777);
                mkfifoat(folder, part, mode).map_err(Into::into)
            }),
        };
        match done {
            Ok(true) => self.settle(&offer, Outcome::Stored),
            Ok(false) => self.left_out(&offer),
            Err(error) => self.settle(&offer, Outcome::Failed(in_the_way(error))),
        }
    }

    fn left_out(&mut self, offer: &Offer) -> Result<(), CopyError> {
        self.settle(offer, Outcome::LeftOut)
    }

    /// Says what became of an entry.
    fn settle(&mut self, offer: &Offer, outcome: Outcome) -> Result<(), CopyError> {
        let (source, path) = (offer.source, &offer.path[..]);
        match &outcome {
            Outcome::Stored => self.observer.stored(source, path, false),
            Outcome::Unchanged => self.observer.stored(source, path, true),
            Outcome::LeftOut => {
                if let Kind::File(Some(size)) = offer.kind {
                    self.observer.spared(size);
                }
                self.observer.stored(source, path, true);
            }
            Outcome::Failed(why) => self.observer.problem(source, path, why),
        }
        let id = offer.id;
        self.output
            .send(&FromReceiver::Settled(Settled { id, outcome }))
    }

    fn want(&mut self, offer: Offer, have: Have, exists: bool) -> Result<(), CopyError> {
        let base = match &have {
            Have::Nothing => None,
            Have::Part(length, _, hasher) | Have::Whole(length, hasher) => Some(Base {
                length: *length,
                hash: *hasher.finalize().as_bytes(),
            }),
        };
        let id = offer.id;
        let waiting = Waiting {
            offer,
            have,
            exists,
        };
        self.waiting.insert(id, waiting);
        self.output.send(&FromReceiver::Want(Want { id, base }))
    }

    /// The folder that an entry is in, and its name there.
    fn spot(&mut self, source: u32, below: &[u8]) -> io::Result<Spot> {
        let Some((top, path)) = self.goal.path(source, below) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let (parent, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(at) => (&path[..at], &path[at + 1..]),
            None => (&b""[..], &path[..]),
        };
        if parent.is_empty() {
            return Ok((top, name.to_vec()));
        }
        if let Some((known, folder)) = &self.parent
            && known == parent
        {
            return Ok((folder.clone(), name.to_vec()));
        }
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = open_resolved(&*top, parent, flags, Mode::empty(), resolve)?;
        let folder = Rc::new(folder);
        self.parent = Some((parent.to_vec(), folder.clone()));
        Ok((folder, name.to_vec()))
    }

    fn begin(&mut self, begin: Begin) -> Result<(), CopyError> {
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
        self.observer.spared(length);
        let sink = match (&self.goal.place, &have) {
            (Place::Stream(_), _) => Ok(Sink::Stream),
            (_, Have::Whole(..)) if length > 0 => Ok(Sink::Unchanged),
            _ => self.open_part(&offer, &have, length).map(Sink::Part),
        };
        let sink = match sink {
            Ok(sink) => sink,
            Err(error) => {
                self.settle(&offer, Outcome::Failed(in_the_way(error)))?;
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
            is_open,
        });
        Ok(())
    }

    /// Says what was written to the file on its way, if it was opened.
    fn closed(&mut self, current: &Current) {
        if current.is_open {
            self.observer.closed(0, current.written);
        }
    }

    fn open_part(&mut self, offer: &Offer, have: &Have, length: u64) -> io::Result<Part> {
        self.observer.changing().map_err(io::Error::other)?;
        let (folder, name) = self.spot(offer.source, &offer.path)?;
        let Some((mut part, stat)) = Part::open(&folder, &name, true)? else {
            return Err(io::ErrorKind::NotFound.into());
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

    /// The file on its way grows by so much. False if it is not written.
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

    fn data(&mut self, bytes: &[u8]) -> Result<(), CopyError> {
        let is_written = self.grow(bytes.len() as u64)?;
        let Some(current) = self.current.as_mut().filter(|_| is_written) else {
            return Ok(());
        };
        current.hasher.update(bytes);
        current.written += bytes.len() as u64;
        let written = match (&mut current.sink, &mut self.goal.place) {
            (Sink::Part(part), _) => part.file.write_all(bytes),
            (Sink::Stream, Place::Stream(stream)) => stream.write_all(bytes),
            _ => Ok(()),
        };
        self.observer.moved(bytes.len() as u64);
        self.written(written)
    }

    fn hole(&mut self, length: u64) -> Result<(), CopyError> {
        let is_written = self.grow(length)?;
        let Some(current) = self.current.as_mut().filter(|_| is_written) else {
            return Ok(());
        };
        send::hash_zeros(&mut current.hasher, length);
        let written = match (&mut current.sink, &mut self.goal.place) {
            (Sink::Part(part), _) => part.file.seek(SeekFrom::Start(current.length)).map(|_| ()),
            (Sink::Stream, Place::Stream(stream)) => {
                io::copy(&mut io::repeat(0).take(length), stream).map(|_| ())
            }
            _ => Ok(()),
        };
        self.observer.spared(length);
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
        current.sink = Sink::Discard;
        let offer = current.offer.clone();
        self.settle(
            &offer,
            Outcome::Failed(format!("cannot write it: {}", reason(error))),
        )?;
        self.output.flush()
    }

    fn file_end(&mut self, hash: [u8; 32]) -> Result<(), CopyError> {
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
                let Place::Stream(stream) = &mut self.goal.place else {
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
                    Err(error) => Outcome::Failed(in_the_way(error)),
                };
                self.settle(&offer, outcome)
            }
            Sink::Part(part) => {
                let before = existing(&part.folder, &part.name).ok().flatten();
                let before = before
                    .filter(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
                let applied = part.file.set_len(length).and_then(|()| {
                    let (options, umask) = (self.options, self.umask);
                    attributes::apply(&part.file, &offer, options, umask, before.as_ref())
                });
                if let Err(error) = applied {
                    let why = format!("cannot give it its modes and times: {}", reason(error));
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

    /// Makes whole files durable, and gives them their names.
    fn store(&mut self) -> Result<(), CopyError> {
        let batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        let parts: Vec<&Part> = batch.iter().map(|(part, _)| part).collect();
        let durable = make_durable(&parts).map_err(reason);
        for (part, offer) in batch {
            let outcome = match &durable {
                Err(why) => Outcome::Failed(format!("cannot write it: {why}")),
                Ok(()) => match part.finish(self.options.no_clobber) {
                    Ok(true) => Outcome::Stored,
                    Ok(false) => Outcome::LeftOut,
                    Err(error) => Outcome::Failed(in_the_way(error)),
                },
            };
            self.settle(&offer, outcome)?;
        }
        Ok(())
    }

    /// All files have arrived: what needs them comes now.
    fn end(&mut self) -> Result<(), CopyError> {
        self.store()?;
        for offer in std::mem::take(&mut self.links) {
            let outcome = match self.link(&offer) {
                Ok(true) => Outcome::Stored,
                Ok(false) => Outcome::LeftOut,
                Err(error) => Outcome::Failed(in_the_way(error)),
            };
            self.settle(&offer, outcome)?;
        }
        // The innermost first: what is written below a folder changes its time.
        for (offer, before) in std::mem::take(&mut self.folders).into_iter().rev() {
            if let Err(error) = self.finish_folder(&offer, before.as_ref()) {
                let why = format!("cannot give it its modes and times: {}", reason(error));
                self.observer.problem(offer.source, &offer.path, &why);
                let id = offer.id;
                let outcome = Outcome::Failed(why);
                self.output
                    .send(&FromReceiver::Settled(Settled { id, outcome }))?;
            }
        }
        self.output.send(&FromReceiver::Finished)?;
        self.output.flush()
    }
}

/// Why an entry, or everything, is not copied.
enum Failure {
    Entry(String),
    All(CopyError),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Entry(in_the_way(error))
    }
}

impl From<Errno> for Failure {
    fn from(error: Errno) -> Self {
        Self::Entry(in_the_way(error.into()))
    }
}

impl From<CopyError> for Failure {
    fn from(error: CopyError) -> Self {
        Self::All(error)
    }
}

/// The reason of an error in words, where the system's are about something else.
fn in_the_way(error: io::Error) -> String {
    match error.raw_os_error() {
        Some(number) if number == Errno::LOOP.raw_os_error() => {
            "a symbolic link stands in its path there".to_owned()
        }
        Some(number) if number == Errno::XDEV.raw_os_error() => {
            "it would leave the folder".to_owned()
        }
        _ => reason(error),
    }
}
