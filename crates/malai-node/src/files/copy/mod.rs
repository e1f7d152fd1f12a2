//! `malai cp`: files that are sent and received, on either end. `serve` is the machine's end, in a process of its own
//! that runs as the user whom the policy names; [`put`] and [`get`] are the caller's.

mod attributes;
mod between;
mod destination;
mod length;
mod link;
mod part;
mod receive;
mod recorder;
mod send;
mod source;

use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use malai_cluster::without_error_numbers;
use malai_wire::FrameError;
use malai_wire::copy::{Get, Kind, Opened, Opening, Options, Put, VERSION};
use malai_wire::file_report::FileReport;
use rustix::io::Errno;

use crate::files::reports::Reports;
use crate::files::root::Root;
use crate::files::sftp::Served;
use link::{FrameReader, FrameWriter};
use recorder::Recorder;

pub use between::between;
pub use destination::Destination;
pub use source::Sources;

/// Why copying as a whole ended early.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The other side has gone.
    #[error("the connection ended before everything was copied: {0}")]
    Lost(io::Error),
    /// The machine has not answered at all.
    #[error("the machine did not begin to copy")]
    NotOpened,
    /// The other side does not keep to the protocol.
    #[error("the other side broke the protocol: {0}")]
    Protocol(String),
    /// It cannot begin.
    #[error("{0}")]
    Refused(String),
}

impl From<FrameError> for CopyError {
    fn from(error: FrameError) -> Self {
        Self::Protocol(error.to_string())
    }
}

/// Is notified of each entry's progress. An entry is identified by its source, counted from 0, and its path below it.
pub trait Observer {
    /// The entry is to be copied; its size in bytes, or 0 if unknown.
    fn offered(&mut self, _source: u32, _path: &[u8], _size: u64) {}
    /// Something is about to be read or changed on this side. An error refuses it.
    fn changing(&mut self) -> Result<(), String> {
        Ok(())
    }
    /// A file was opened on this side to be read.
    fn reading(&mut self, _source: u32, _path: &[u8]) {}
    /// A file was opened on this side to be written; whether nothing stood under its name.
    fn written(&mut self, _source: u32, _path: &[u8], _created: bool) {}
    /// The file that was opened last was closed, after so many bytes were read or written.
    fn closed(&mut self, _read: u64, _written: u64) {}
    /// Something other than a file was made on this side.
    fn made(&mut self, _source: u32, _path: &[u8], _kind: &Kind) {}
    /// All entries are known.
    fn all_offered(&mut self) {}
    /// This many bytes were sent or received.
    fn moved(&mut self, _bytes: u64) {}
    /// This many bytes were skipped: they were already there, or are a hole.
    fn skipped(&mut self, _bytes: u64) {}
    /// This many existing bytes were read to verify them.
    fn verified(&mut self, _bytes: u64) {}
    /// The entry is in place; `unchanged` if it already was.
    fn stored(&mut self, _source: u32, _path: &[u8], _unchanged: bool) {}
    /// It could not be read at the source, and why.
    fn problem(&mut self, _source: u32, _path: &[u8], _why: &str) {}
    /// Something could not be written at the destination: its path there, and why.
    fn not_written(&mut self, _what: &str) {}
}

/// Hears nothing.
#[derive(Debug)]
pub struct Unobserved;

impl Observer for Unobserved {}

/// Serves one caller: everything the user can reach, or what is below `folder`.
///
/// # Errors
///
/// The caller has gone, or breaks the protocol.
pub fn serve(
    input: impl Read + Send + 'static,
    output: impl Write,
    served: Served,
) -> Result<(), CopyError> {
    let reports = Reports::inherited(served.reports).map_err(CopyError::Lost)?;
    serve_reporting(input, output, served.root(), reports)
}

fn serve_reporting(
    input: impl Read + Send + 'static,
    output: impl Write,
    root: io::Result<Root>,
    reports: Reports,
) -> Result<(), CopyError> {
    let (mut input, mut output) = (FrameReader::new(input), FrameWriter::new(output));
    let root = root.map_err(reason);
    let Some(opening) = input.message::<Opening>()? else {
        return Ok(());
    };
    let (Opening::Get(Get { version, .. }) | Opening::Put(Put { version, .. })) = &opening;
    let version = *version;
    let root = root.and_then(|root| match version {
        VERSION => Ok(root),
        _ => Err(format!(
            "that computer's malai copies files by version {version} of the protocol, this machine's by version {VERSION}"
        )),
    });
    let root = match root {
        Ok(root) => root,
        Err(why) => return refuse(&mut output, why),
    };
    match opening {
        Opening::Get(Get {
            sources, options, ..
        }) => {
            output.send(&Opened::Ready)?;
            let mut recorder = Recorder::new(reports, sources.clone());
            let sources = sources.iter().map(|path| there(&root, path)).collect();
            send::send(
                input,
                output,
                Sources::new(root, sources),
                options,
                &mut recorder,
            )
        }
        Opening::Put(Put {
            target,
            names,
            options,
            ..
        }) => {
            let target = there(&root, &target).into_os_string().into_vec();
            if root.may_write().is_err() {
                let path = target.clone();
                // Nothing is done whether it can be recorded or not.
                let _ = reports.tell(&FileReport::Refused { path });
            }
            match Destination::find(root, &target, &names, options) {
                Ok(destination) => {
                    output.send(&Opened::Ready)?;
                    let mut recorder = Recorder::new(reports, destination.shown.clone());
                    receive::receive(input, output, destination, options, &mut recorder)
                }
                Err(why) => refuse(&mut output, why),
            }
        }
    }
}

/// A path as the caller gives it. As in scp, a leading `~` is the user's home, unless a folder confines the paths, and an
/// empty path is where relative ones begin.
fn there(root: &Root, path: &[u8]) -> PathBuf {
    let home = std::env::var_os("HOME").filter(|_| matches!(root, Root::Everything));
    match (path, home) {
        (b"", _) => ".".into(),
        (b"~", Some(home)) => home.into(),
        ([b'~', b'/', rest @ ..], Some(home)) => Path::new(&home).join(OsStr::from_bytes(rest)),
        _ => OsString::from_vec(path.to_vec()).into(),
    }
}

fn refuse(output: &mut FrameWriter<impl Write>, why: String) -> Result<(), CopyError> {
    output.send(&Opened::Failed(why))?;
    output.flush()
}

/// Sends sources of this computer to a machine, whose [`serve`] is at the other ends of `input` and `output`.
///
/// # Errors
///
/// The machine does not begin, has gone, or breaks the protocol.
pub fn put(
    input: impl Read + Send + 'static,
    output: impl Write,
    sources: Sources,
    target: &[u8],
    options: Options,
    observer: &mut dyn Observer,
) -> Result<(), CopyError> {
    let (mut input, mut output) = (FrameReader::new(input), FrameWriter::new(output));
    output.send(&Opening::Put(Put {
        version: VERSION,
        target: target.to_vec(),
        names: sources.names(),
        options,
    }))?;
    opened(&mut input, &mut output)?;
    send::send(input, output, sources, options, observer)
}

/// Receives sources of a machine, whose [`serve`] is at the other ends of `input` and `output`.
///
/// # Errors
///
/// The machine does not begin, has gone, or breaks the protocol.
pub fn get(
    input: impl Read,
    output: impl Write,
    sources: Vec<Vec<u8>>,
    destination: Destination,
    options: Options,
    observer: &mut dyn Observer,
) -> Result<(), CopyError> {
    let (mut input, mut output) = (FrameReader::new(input), FrameWriter::new(output));
    output.send(&Opening::Get(Get {
        version: VERSION,
        sources,
        options,
    }))?;
    opened(&mut input, &mut output)?;
    receive::receive(input, output, destination, options, observer)
}

/// Waits until the machine begins.
fn opened(
    input: &mut FrameReader<impl Read>,
    output: &mut FrameWriter<impl Write>,
) -> Result<(), CopyError> {
    match output.flush() {
        Err(CopyError::Lost(_)) => return Err(CopyError::NotOpened),
        flushed => flushed?,
    }
    match input.message()? {
        Some(Opened::Ready) => Ok(()),
        Some(Opened::Failed(why)) => Err(CopyError::Refused(why)),
        None => Err(CopyError::NotOpened),
    }
}

/// A destination on this computer.
///
/// # Errors
///
/// Nothing can be written there, and why.
pub fn local_goal(
    target: &Path,
    names: &[Vec<u8>],
    options: Options,
) -> Result<Destination, String> {
    Destination::find(
        Root::Everything,
        target.as_os_str().as_bytes(),
        names,
        options,
    )
}

/// Sources on this computer.
pub fn local_sources(sources: Vec<PathBuf>) -> Sources {
    Sources::new(Root::Everything, sources)
}

/// The reason of an error of the system, without its number.
fn reason(error: impl Into<io::Error>) -> String {
    let error = error.into();
    let text = without_error_numbers(&error.to_string());
    match error.raw_os_error() {
        // Of openat2, by which paths are confined. The system's words are of devices.
        Some(number) if number == Errno::XDEV.raw_os_error() => {
            "its path leads out of the folder".to_owned()
        }
        Some(_) => text.to_lowercase(),
        None => text,
    }
}

#[cfg(test)]
mod tests;
