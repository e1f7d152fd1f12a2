//! The side that has the files.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::mpsc::{self, Receiver, TryRecvError, TrySendError};

use malai_wire::copy::{
    Base, Begin, End, FromReceiver, FromSender, Kind, MAX_DATA, Offer, Options, Outcome, Problem,
    WINDOW, Want, Withdrawn,
};
use rustix::io::Errno;

use super::link::{FrameReader, FrameWriter};
use super::source::{Opened, Sources, Walk};
use super::{CopyError, Observer, reason};

/// Sends all that is wanted of the sources.
pub(super) fn send(
    mut input: FrameReader<impl Read + Send + 'static>,
    output: FrameWriter<impl Write>,
    sources: Sources,
    options: Options,
    observer: &mut dyn Observer,
) -> Result<(), CopyError> {
    let (heard, messages) = mpsc::sync_channel(2 * WINDOW);
    // It ends with the other side, or with this process.
    std::thread::spawn(move || {
        loop {
            let message = input.message::<FromReceiver>().transpose();
            let is_last = !matches!(&message, Some(Ok(said)) if *said != FromReceiver::Finished);
            let ended = || Err(CopyError::Lost(io::ErrorKind::UnexpectedEof.into()));
            let message = message.unwrap_or_else(ended);
            let goes_on = match message {
                // Only for display, at a rate that the other side sets: dropped if the queue is full.
                Ok(FromReceiver::Verified(_)) => {
                    !matches!(heard.try_send(message), Err(TrySendError::Disconnected(_)))
                }
                message => heard.send(message).is_ok(),
            };
            if !goes_on || is_last {
                return;
            }
        }
    });
    let mut sender = Sender {
        output,
        messages,
        walk: Walk::new(sources, options),
        offered: HashMap::new(),
        wanted: VecDeque::new(),
        buffer: vec![0; MAX_DATA],
        is_finished: false,
        sent: 0,
        observer,
    };
    sender.run()
}

struct Sender<'a, W: Write> {
    output: FrameWriter<W>,
    messages: Receiver<Result<FromReceiver, CopyError>>,
    walk: Walk,
    /// What is not settled.
    offered: HashMap<u64, Offered>,
    wanted: VecDeque<Want>,
    buffer: Vec<u8>,
    is_finished: bool,
    /// Bytes of files that were sent.
    sent: u64,
    observer: &'a mut dyn Observer,
}

struct Offered {
    source: u32,
    path: Vec<u8>,
    /// None if only reading it to its end tells.
    size: Option<u64>,
    /// Whether it could not be read, as the other side was told.
    is_withdrawn: bool,
}

/// How sending one file ended early.
enum Stopped {
    /// It cannot be read.
    Unreadable(String),
    /// The other side does not want it any more.
    Unwanted,
    /// Nothing can be sent.
    Broken(CopyError),
}

impl From<CopyError> for Stopped {
    fn from(error: CopyError) -> Self {
        Self::Broken(error)
    }
}

impl From<io::Error> for Stopped {
    fn from(error: io::Error) -> Self {
        Self::Unreadable(reason(error))
    }
}

impl<W: Write> Sender<'_, W> {
    fn run(&mut self) -> Result<(), CopyError> {
        let mut next = 0u64;
        let mut all_offered = false;
        while !self.is_finished {
            loop {
                match self.messages.try_recv() {
                    Ok(message) => self.hear(message?)?,
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return Ok(()),
                }
            }
            if let Some(want) = self.wanted.pop_front() {
                self.serve(want)?;
            } else if !all_offered && self.offered.len() < WINDOW {
                match self.walk.next() {
                    Some(entry) => {
                        self.offer(next, entry)?;
                        next += 1;
                    }
                    None => {
                        all_offered = true;
                        self.output.send(&FromSender::Offered)?;
                        self.observer.all_offered();
                    }
                }
            } else {
                self.output.flush()?;
                match self.messages.recv() {
                    Ok(message) => self.hear(message?)?,
                    Err(_) => return Ok(()),
                }
            }
        }
        Ok(())
    }

    fn offer(&mut self, id: u64, entry: super::source::Entry) -> Result<(), CopyError> {
        let super::source::Entry { source, path, what } = entry;
        let (kind, metadata) = match what {
            Ok(what) => what,
            Err(why) => {
                self.observer.problem(source, &path, &why);
                return self
                    .output
                    .send(&FromSender::Problem(Problem { source, path, why }));
            }
        };
        let size = match &kind {
            Kind::File(size) => *size,
            _ => Some(0),
        };
        self.observer.offered(source, &path, size.unwrap_or(0));
        let offered = Offered {
            source,
            path: path.clone(),
            size,
            is_withdrawn: false,
        };
        self.offered.insert(id, offered);
        let (mode, modified, accessed) = (metadata.mode, metadata.modified, metadata.accessed);
        self.output.send(&FromSender::Offer(Offer {
            id,
            source,
            path,
            kind,
            mode,
            modified,
            accessed,
            owner: metadata.owner,
            attributes: metadata.attributes,
        }))
    }

    fn hear(&mut self, message: FromReceiver) -> Result<(), CopyError> {
        match message {
            FromReceiver::Want(_) if self.wanted.len() >= WINDOW => {
                return Err(CopyError::Protocol(
                    "more is wanted than was offered".into(),
                ));
            }
            FromReceiver::Want(want) if self.offered.contains_key(&want.id) => {
                self.wanted.push_back(want);
            }
            FromReceiver::Settled(settled) => {
                let Some(offered) = self.offered.remove(&settled.id) else {
                    // A folder is there at once, and gets its modes and times at the end.
                    if let Outcome::Failed(what) = settled.outcome {
                        self.observer.not_written(&what);
                        return Ok(());
                    }
                    return Err(CopyError::Protocol(
                        "an entry not offered was settled".into(),
                    ));
                };
                let Offered {
                    source,
                    path,
                    size,
                    is_withdrawn,
                } = offered;
                match settled.outcome {
                    Outcome::Stored => self.observer.stored(source, &path, false),
                    Outcome::Unchanged => self.observer.stored(source, &path, true),
                    Outcome::LeftOut => {
                        self.observer.skipped(size.unwrap_or(0));
                        self.observer.stored(source, &path, true);
                    }
                    Outcome::Failed(why) if is_withdrawn => {
                        self.observer.problem(source, &path, &why);
                    }
                    Outcome::Failed(what) => self.observer.not_written(&what),
                }
            }
            FromReceiver::Verified(bytes) => self.observer.verified(bytes),
            FromReceiver::Finished => self.is_finished = true,
            FromReceiver::Want(_) => {
                return Err(CopyError::Protocol("what was not offered is wanted".into()));
            }
        }
        Ok(())
    }

    /// Sends a file, or says why it cannot be.
    fn serve(&mut self, want: Want) -> Result<(), CopyError> {
        let id = want.id;
        match self.send_file(want) {
            Ok(hash) => self.output.send(&FromSender::End(End { hash })),
            Err(Stopped::Broken(error)) => Err(error),
            Err(Stopped::Unwanted) => {
                let why = "it is not wanted any more".to_owned();
                self.output
                    .send(&FromSender::Withdrawn(Withdrawn { id, why }))
            }
            Err(Stopped::Unreadable(why)) => {
                if let Some(offered) = self.offered.get_mut(&id) {
                    offered.is_withdrawn = true;
                }
                self.output
                    .send(&FromSender::Withdrawn(Withdrawn { id, why }))
            }
        }
    }

    fn send_file(&mut self, want: Want) -> Result<[u8; 32], Stopped> {
        let Some(offered) = self.offered.get(&want.id) else {
            return Err(Stopped::Unwanted);
        };
        let (source, path, most) = (offered.source, offered.path.clone(), offered.size);
        self.observer.changing().map_err(Stopped::Unreadable)?;
        let opened = self.walk.open(source, &path)?;
        self.observer.reading(source, &path);
        let before = self.sent;
        let result = self.send_opened(want, opened, most);
        self.observer.closed(self.sent - before, 0);
        result
    }

    /// Sends an open file: no more than was offered, if a length was, although it may have grown since then.
    fn send_opened(
        &mut self,
        want: Want,
        opened: Opened,
        most: Option<u64>,
    ) -> Result<[u8; 32], Stopped> {
        let mut hasher = blake3::Hasher::new();
        let id = want.id;
        match opened {
            Opened::Stream(stream) => {
                self.output
                    .send(&FromSender::Begin(Begin { id, offset: 0 }))?;
                self.send_bytes(id, stream, &mut hasher)?;
            }
            // Only reading it to its end tells how long it is.
            Opened::File {
                file, size: None, ..
            } => {
                self.output
                    .send(&FromSender::Begin(Begin { id, offset: 0 }))?;
                self.send_bytes(id, file.take(most.unwrap_or(u64::MAX)), &mut hasher)?;
            }
            Opened::File {
                mut file,
                size: Some(size),
                has_holes,
            } => {
                let size = most.unwrap_or(size).min(size);
                let mut offset = 0;
                if let Some(base) = want.base
                    && base.length > 0
                    && base.length <= size
                    && self.begins_with(&mut file, base, &mut hasher)?
                {
                    offset = base.length;
                    self.observer.skipped(offset);
                }
                self.output.send(&FromSender::Begin(Begin { id, offset }))?;
                file.seek(SeekFrom::Start(offset))?;
                match has_holes {
                    true => self.send_with_holes(id, &mut file, offset, size, &mut hasher)?,
                    false => {
                        let sent =
                            self.send_bytes(id, (&mut file).take(size - offset), &mut hasher)?;
                        at_its_end(offset + sent, size)?;
                    }
                }
            }
        }
        Ok(*hasher.finalize().as_bytes())
    }

    /// Whether the file begins with what the receiver has. If so, `hasher` has read that much.
    fn begins_with(
        &mut self,
        file: &mut File,
        base: Base,
        hasher: &mut blake3::Hasher,
    ) -> Result<bool, Stopped> {
        let mut own = blake3::Hasher::new();
        let mut left = base.length;
        while left > 0 {
            let most = self
                .buffer
                .len()
                .min(usize::try_from(left).unwrap_or(usize::MAX));
            let count = file.read(&mut self.buffer[..most])?;
            if count == 0 {
                return Ok(false);
            }
            own.update(&self.buffer[..count]);
            left -= count as u64;
            self.observer.verified(count as u64);
        }
        let is_same = own.finalize() == base.hash;
        if is_same {
            *hasher = own;
        }
        Ok(is_same)
    }

    /// Sends bytes to their end, and says how many.
    fn send_bytes(
        &mut self,
        id: u64,
        mut from: impl Read,
        hasher: &mut blake3::Hasher,
    ) -> Result<u64, Stopped> {
        let mut sent = 0;
        loop {
            let count = match from.read(&mut self.buffer) {
                Ok(0) => return Ok(sent),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            hasher.update(&self.buffer[..count]);
            self.output.data(&self.buffer[..count])?;
            self.observer.moved(count as u64);
            self.sent += count as u64;
            sent += count as u64;
            self.look_up(id)?;
        }
    }

    /// Hears what was said meanwhile: the file may not be wanted any more.
    fn look_up(&mut self, id: u64) -> Result<(), Stopped> {
        while let Ok(message) = self.messages.try_recv() {
            self.hear(message?)?;
        }
        match self.offered.contains_key(&id) {
            true => Ok(()),
            false => Err(Stopped::Unwanted),
        }
    }

    /// As [`Sender::send_bytes`]; holes are told by their length.
    fn send_with_holes(
        &mut self,
        id: u64,
        file: &mut File,
        mut offset: u64,
        size: u64,
        hasher: &mut blake3::Hasher,
    ) -> Result<(), Stopped> {
        use rustix::fs::SeekFrom as Sought;
        while offset < size {
            let data = match rustix::fs::seek(&*file, Sought::Data(offset)) {
                Ok(at) => at.min(size),
                // No data from here to the end.
                Err(Errno::NXIO) => size,
                // A file system that knows no holes.
                Err(_) => offset,
            };
            if data > offset {
                let actual = file.metadata()?.len();
                at_its_end(actual.min(size), size)?;
                self.output.send(&FromSender::Hole(data - offset))?;
                hash_zeros(hasher, data - offset);
                self.observer.skipped(data - offset);
                self.look_up(id)?;
                offset = data;
                continue;
            }
            let end =
                rustix::fs::seek(&*file, Sought::Hole(offset)).map_or(size, |at| at.min(size));
            file.seek(SeekFrom::Start(offset))?;
            let sent = self.send_bytes(id, (&mut *file).take(end - offset), hasher)?;
            at_its_end(offset + sent, end)?;
            offset = end;
        }
        Ok(())
    }
}

/// A file that became shorter while it was read is not copied: it would be neither the old nor the new.
fn at_its_end(read: u64, size: u64) -> Result<(), Stopped> {
    match read < size {
        true => Err(Stopped::Unreadable(format!(
            "it was cut from {size} to {read} bytes while it was read; copy it again"
        ))),
        false => Ok(()),
    }
}

/// Hashes so many zero bytes.
pub(super) fn hash_zeros(hasher: &mut blake3::Hasher, mut count: u64) {
    static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];
    while count > 0 {
        let some = count.min(ZEROS.len() as u64);
        hasher.update(&ZEROS[..some as usize]);
        count -= some;
    }
}
