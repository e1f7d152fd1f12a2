//! Copies from one machine to another: this process relays their messages. The receiving machine trusts the sending one
//! no more than it trusts this one.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::sync::mpsc;

use malai_wire::copy::{
    FromReceiver, FromSender, Get, Kind, Opening, Options, Outcome, Put, VERSION, name_of,
};

use super::link::{Frame, FrameReader, FrameWriter};
use super::{CopyError, Observer, opened};

/// Copies sources of one machine to a path of another. Each has its [`super::serve`] at the other ends of two streams.
///
/// # Errors
///
/// A machine does not begin, has gone, or breaks the protocol.
pub fn between<R, W>(
    from: (R, W),
    to: (R, W),
    sources: Vec<Vec<u8>>,
    target: &[u8],
    options: Options,
    observer: &mut dyn Observer,
) -> Result<(), CopyError>
where
    R: Read + Send + 'static,
    W: Write + Send + 'static,
{
    let (mut from_input, mut from_output) = (FrameReader::new(from.0), FrameWriter::new(from.1));
    let (mut to_input, mut to_output) = (FrameReader::new(to.0), FrameWriter::new(to.1));
    let names = sources
        .iter()
        .map(|source| name_of(source).unwrap_or_default().to_vec())
        .collect();
    to_output.send(&Opening::Put(Put {
        version: VERSION,
        target: target.to_vec(),
        names,
        options,
    }))?;
    opened(&mut to_input, &mut to_output)?;
    from_output.send(&Opening::Get(Get {
        version: VERSION,
        sources,
        options,
    }))?;
    opened(&mut from_input, &mut from_output)?;
    let (heard, settled) = mpsc::channel();
    // It ends with the receiving machine, or where the sending one has gone.
    let back = std::thread::spawn(move || -> Result<bool, CopyError> {
        while let Some(message) = to_input.message::<FromReceiver>()? {
            from_output.send(&message)?;
            if to_input.may_wait() {
                from_output.flush()?;
            }
            let is_last = message == FromReceiver::Finished;
            // The observer may have given up.
            let _ = heard.send(message);
            if is_last {
                from_output.flush()?;
                return Ok(true);
            }
        }
        Ok(false)
    });
    let mut offered = HashMap::new();
    let forwarded = (|| {
        while let Some(frame) = from_input.next::<FromSender>()? {
            match frame {
                Frame::Data => {
                    observer.moved(from_input.data.len() as u64);
                    to_output.data(&from_input.data)?;
                }
                Frame::Message(message) => {
                    observe(&message, &mut offered, observer);
                    to_output.send(&message)?;
                }
            }
            if from_input.may_wait() {
                to_output.flush()?;
            }
            while let Ok(message) = settled.try_recv() {
                hear(message, &mut offered, observer);
            }
        }
        to_output.flush()
    })();
    drop(to_output);
    let is_finished = back.join().unwrap_or(Ok(false));
    while let Ok(message) = settled.try_recv() {
        hear(message, &mut offered, observer);
    }
    match (is_finished, forwarded) {
        (Ok(true), _) => Ok(()),
        (_, Err(error)) | (Err(error), Ok(())) => Err(error),
        (Ok(false), Ok(())) => Err(CopyError::Lost(std::io::ErrorKind::UnexpectedEof.into())),
    }
}

/// What is not settled: source, path and size, and whether the sender could not read it.
type Offered = HashMap<u64, (u32, Vec<u8>, u64, bool)>;

fn observe(message: &FromSender, offered: &mut Offered, observer: &mut dyn Observer) {
    match message {
        FromSender::Offer(offer) => {
            let size = match offer.kind {
                Kind::File(size) => size.unwrap_or(0),
                _ => 0,
            };
            observer.offered(offer.source, &offer.path, size);
            offered.insert(offer.id, (offer.source, offer.path.clone(), size, false));
        }
        FromSender::Begin(begin) => observer.skipped(begin.offset),
        FromSender::Hole(length) => observer.skipped(*length),
        FromSender::Problem(problem) => {
            observer.problem(problem.source, &problem.path, &problem.why);
        }
        FromSender::Offered => observer.all_offered(),
        FromSender::Withdrawn(withdrawn) => {
            if let Some((.., is_withdrawn)) = offered.get_mut(&withdrawn.id) {
                *is_withdrawn = true;
            }
        }
        FromSender::End(_) => {}
    }
}

fn hear(message: FromReceiver, offered: &mut Offered, observer: &mut dyn Observer) {
    match message {
        FromReceiver::Settled(settled) => {
            let Some((source, path, size, is_withdrawn)) = offered.remove(&settled.id) else {
                if let Outcome::Failed(what) = settled.outcome {
                    observer.not_written(&what);
                }
                return;
            };
            match settled.outcome {
                Outcome::Stored => observer.stored(source, &path, false),
                Outcome::Unchanged => observer.stored(source, &path, true),
                Outcome::LeftOut => {
                    observer.skipped(size);
                    observer.stored(source, &path, true);
                }
                Outcome::Failed(why) if is_withdrawn => observer.problem(source, &path, &why),
                Outcome::Failed(what) => observer.not_written(&what),
            }
        }
        FromReceiver::Verified(bytes) => observer.verified(bytes),
        FromReceiver::Want(_) | FromReceiver::Finished => {}
    }
}
