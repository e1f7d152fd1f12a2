//! The receiving side. It does not trust the sender: names stay below the destination, no link is followed, and nothing
//! is accepted that was not asked for.

mod content;
mod entries;
mod there;

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::thread::JoinHandle;

use malai_wire::copy::{
    Base, FromReceiver, FromSender, Kind, Offer, Options, Outcome, Settled, WINDOW, Want, names_of,
};
use rustix::fs::{Mode, OFlags, ResolveFlags, Stat, mkfifoat, symlinkat};
use rustix::io::Errno;

use super::attributes::Keep;
use super::destination::{Destination, Place, open_resolved};
use super::link::{Frame, FrameReader, FrameWriter};
use super::part::{Part, Stamp, Unsynced};
use super::{CopyError, Observer, reason};

/// The most files that wait to be synced to disk together.
const BATCH: usize = 256;

/// The most bytes in them.
const BATCH_BYTES: u64 = 64 * 1024 * 1024;

/// From this many hard links on, they are made when no file is on its way, so that they do not use up the window of
/// offers.
const LINKS: usize = WINDOW / 4;

/// A file from this size on is made durable by itself.
const BIG: u64 = 4 * 1024 * 1024;

/// How much of a file is received before the system is told to write it to the disk.
const WRITEBACK: u64 = 8 * 1024 * 1024;

/// Receives everything that is offered.
pub(super) fn receive(
    input: FrameReader<impl Read>,
    output: FrameWriter<impl Write>,
    destination: Destination,
    options: Options,
    observer: &mut dyn Observer,
) -> Result<(), CopyError> {
    let umask = rustix::process::umask(Mode::empty());
    rustix::process::umask(umask);
    let mut receiver = Receiver {
        output,
        destination,
        options,
        umask: umask.as_raw_mode(),
        waiting: HashMap::new(),
        current: None,
        batch: Vec::new(),
        batch_bytes: 0,
        syncing: None,
        folders: Vec::new(),
        links: Vec::new(),
        parent: None,
        observer,
    };
    receiver.run(input)
}

struct Receiver<'a, W: Write> {
    output: FrameWriter<W>,
    destination: Destination,
    options: Options,
    umask: u32,
    /// Files that were asked for.
    waiting: HashMap<u64, Waiting>,
    /// The file that is on its way.
    current: Option<Current>,
    /// Files that are whole and not durable yet.
    batch: Vec<(Part, Offer)>,
    batch_bytes: u64,
    /// The batch before, which is being made durable while this one is received.
    syncing: Option<Syncing>,
    /// Folders whose modes and times are set at the end, with their previous state if they existed.
    folders: Vec<(Offer, Option<Stat>)>,
    /// Hard links, which need their first name to exist.
    links: Vec<Offer>,
    /// The folder of the last entry, which is often that of the next.
    parent: Option<(Vec<u8>, Rc<OwnedFd>)>,
    observer: &'a mut dyn Observer,
}

/// Whole files that get their names once they are durable.
struct Syncing {
    batch: Vec<(Part, Offer)>,
    done: JoinHandle<io::Result<()>>,
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
    /// How far the system was told to write it to the disk.
    written_back: u64,
    is_open: bool,
}

enum Sink {
    Part(Part),
    Stream,
    /// It is already there.
    Unchanged,
    /// It could not be written, which was reported.
    Discard,
}

/// A place that an entry can be written to: its folder and its name there.
type NameInFolder = (Rc<OwnedFd>, Vec<u8>);

impl<W: Write> Receiver<'_, W> {
    fn run(&mut self, mut input: FrameReader<impl Read>) -> Result<(), CopyError> {
        let mut all_offered = false;
        loop {
            if all_offered && self.waiting.is_empty() && self.current.is_none() {
                return self.end();
            }
            if self
                .syncing
                .as_ref()
                .is_some_and(|one| one.done.is_finished())
            {
                self.name_synced()?;
            }
            if self.links.len() >= LINKS && self.waiting.is_empty() && self.current.is_none() {
                self.make_links()?;
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
                                "an unexpected file was withdrawn".into(),
                            ));
                        };
                        if !is_settled {
                            let why = withdrawn.why;
                            self.observer.problem(offer.source, &offer.path, &why);
                            self.say_settled(&offer, Outcome::Failed(why))?;
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
            _ if offer.source as usize >= self.destination.names.len() => "an entry of no source",
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
        if let Place::Stream(_) = self.destination.place {
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
            Err(error) => self.settle(&offer, Outcome::Failed(path_reason(error))),
        }
    }

    fn left_out(&mut self, offer: &Offer) -> Result<(), CopyError> {
        self.settle(offer, Outcome::LeftOut)
    }

    /// Says what became of an entry here. What could not be written is named by its path here.
    fn settle(&mut self, offer: &Offer, mut outcome: Outcome) -> Result<(), CopyError> {
        let (source, path) = (offer.source, &offer.path[..]);
        match &mut outcome {
            Outcome::Stored => self.observer.stored(source, path, false),
            Outcome::Unchanged => self.observer.stored(source, path, true),
            Outcome::LeftOut => {
                if let Kind::File(Some(size)) = offer.kind {
                    self.observer.skipped(size);
                }
                self.observer.stored(source, path, true);
            }
            Outcome::Failed(why) => {
                *why = format!("{}: {why}", self.destination.shown(source, path));
                self.observer.not_written(why);
            }
        }
        self.say_settled(offer, outcome)
    }

    fn say_settled(&mut self, offer: &Offer, outcome: Outcome) -> Result<(), CopyError> {
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

    /// How much of an entry is kept besides its bytes.
    fn keeps(&self) -> Keep {
        Keep {
            options: self.options,
            umask: self.umask,
            elevates: self.destination.elevates,
        }
    }

    /// The folder that an entry is in, and its name there.
    fn folder_and_name(&mut self, source: u32, below: &[u8]) -> io::Result<NameInFolder> {
        let Some((top, path)) = self.destination.path(source, below) else {
            return Err(rustix::io::Errno::INVAL.into());
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

    /// Begins to make whole files durable. Those of the batch before get their names first.
    fn store(&mut self) -> Result<(), CopyError> {
        self.name_synced()?;
        let batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        let unsynced = Unsynced::of(batch.iter().map(|(part, _)| part));
        let builder = std::thread::Builder::new();
        match unsynced.and_then(|unsynced| builder.spawn(move || unsynced.sync())) {
            Ok(done) => {
                self.syncing = Some(Syncing { batch, done });
                Ok(())
            }
            Err(error) => self.name(batch, Err(error)),
        }
    }

    /// Waits for the files that are being made durable, and gives them their names.
    fn name_synced(&mut self) -> Result<(), CopyError> {
        let Some(Syncing { batch, done }) = self.syncing.take() else {
            return Ok(());
        };
        let failed = |_| Err(io::Error::other("the sync failed"));
        self.name(batch, done.join().unwrap_or_else(failed))
    }

    /// Gives files their names, if they are durable.
    fn name(
        &mut self,
        batch: Vec<(Part, Offer)>,
        durable: io::Result<()>,
    ) -> Result<(), CopyError> {
        let durable = durable.map_err(reason);
        for (part, offer) in batch {
            let outcome = match &durable {
                Err(why) => Outcome::Failed(format!("cannot write it: {why}{}", part.kept())),
                Ok(()) => match part.finish(self.options.no_clobber) {
                    Ok(true) => Outcome::Stored,
                    Ok(false) => Outcome::LeftOut,
                    Err(error) => Outcome::Failed(path_reason(error)),
                },
            };
            self.settle(&offer, outcome)?;
        }
        Ok(())
    }

    /// Makes the hard links, after the files that they are links to.
    fn make_links(&mut self) -> Result<(), CopyError> {
        self.store()?;
        self.name_synced()?;
        for offer in std::mem::take(&mut self.links) {
            let outcome = match self.link(&offer) {
                Ok(true) => Outcome::Stored,
                Ok(false) => Outcome::LeftOut,
                Err(error) => Outcome::Failed(path_reason(error)),
            };
            self.settle(&offer, outcome)?;
        }
        Ok(())
    }

    /// All files have arrived: what needs them comes now.
    fn end(&mut self) -> Result<(), CopyError> {
        self.make_links()?;
        // The innermost first: what is written below a folder changes its time.
        for (offer, before) in std::mem::take(&mut self.folders).into_iter().rev() {
            if let Err(error) = self.finish_folder(&offer, before.as_ref()) {
                let why = format!("cannot give it its modes and times: {}", reason(error));
                self.settle(&offer, Outcome::Failed(why))?;
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
        Self::Entry(path_reason(error))
    }
}

impl From<Errno> for Failure {
    fn from(error: Errno) -> Self {
        Self::Entry(path_reason(error.into()))
    }
}

impl From<CopyError> for Failure {
    fn from(error: CopyError) -> Self {
        Self::All(error)
    }
}

/// Why a path could not be used, in words. For a link the system's own words would mislead.
fn path_reason(error: io::Error) -> String {
    match error.raw_os_error() {
        Some(number) if number == Errno::LOOP.raw_os_error() => {
            "its path contains a symbolic link".to_owned()
        }
        _ => reason(error),
    }
}
