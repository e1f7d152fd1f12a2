//! The sftp server: a loop over packets, in its own process, which runs as the user that the policy names and ends with
//! its client.

mod change;
mod listing;
mod open_file;
mod operations;
mod paths;
mod status;

use std::io::{self, BufWriter, Read, Write};
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Condvar};

use malai_wire::sftp::{MAX_PACKET, Request, Response, StatusCode};
use parking_lot::Mutex;

use crate::files::reports::Reports;
use crate::files::root::Root;
use open_file::OpenFile;
use operations::Session;

/// Threads that read files concurrently.
const READERS: usize = 4;

/// The most answers that wait to be written.
const WAITING: usize = 64;

/// What is served, and where changes are reported.
#[derive(Debug, Default)]
pub struct Served {
    /// Serves what is below this folder; `None` serves everything that the user can reach.
    pub folder: Option<PathBuf>,
    /// Whether nothing in the folder may be changed.
    pub read_only: bool,
    /// The descriptor on which to report file operations, with which this process was started.
    pub reports: Option<i32>,
}

impl Served {
    /// What is served, opened.
    ///
    /// # Errors
    ///
    /// The folder cannot be opened; which one, and why.
    pub(crate) fn root(&self) -> io::Result<Root> {
        let Some(folder) = &self.folder else {
            return Ok(Root::Everything);
        };
        Root::below(folder, !self.read_only).map_err(|error| {
            let shown = crate::os::fs::display_path(folder);
            io::Error::other(format!("the folder {shown} cannot be opened: {error}"))
        })
    }
}

/// Serves a client until it closes `input`.
///
/// Several reads run at once; every other request waits for them, and runs in the order in which it arrived. Answers
/// keep that order: OpenSSH's scp, up to version 9.2 at least, truncates a file if a piece arrives before the one
/// preceding it.
///
/// # Errors
///
/// The client cannot be read from or written to any more, or sends something that is not a packet; the folder cannot be
/// opened; there is no such descriptor.
pub fn serve(mut input: impl Read, output: impl Write + Send, served: Served) -> io::Result<()> {
    let reports = Reports::inherited(served.reports)?;
    let root = served.root()?;
    serve_reporting(&mut input, output, root, reports)
}

fn serve_reporting(
    input: &mut impl Read,
    output: impl Write + Send,
    root: Root,
    reports: Reports,
) -> io::Result<()> {
    let mut session = Session::new(root, reports);
    let (answers, to_write) = mpsc::sync_channel(WAITING);
    let (jobs, to_read) = mpsc::sync_channel::<Job>(WAITING);
    let to_read = Mutex::new(to_read);
    let running = Running::default();
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || write_answers(to_write, output));
        for _ in 0..READERS {
            let (to_read, running) = (&to_read, &running);
            scope.spawn(move || {
                loop {
                    let Ok(job) = to_read.lock().recv() else {
                        return;
                    };
                    let answer = job.file.read(job.offset, job.length);
                    // This fails if the writer has ended: then there is nobody to answer.
                    let _ = job.answer.send(answer.encode(job.id));
                    running.done();
                }
            });
        }
        let result = receive(input, &mut session, &answers, &jobs, &running);
        drop((jobs, answers));
        let written = writer
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the writer failed")));
        result.and(written)
    })
}

/// A read that is under way.
struct Job {
    id: u32,
    file: Arc<OpenFile>,
    offset: u64,
    length: u32,
    answer: SyncSender<Vec<u8>>,
}

/// An entry in the writer's queue.
enum Answer {
    /// It is complete.
    Ready(Vec<u8>),
    /// It comes from a read that is under way.
    Coming(Receiver<Vec<u8>>),
}

/// Counts the reads that are under way.
#[derive(Default)]
struct Running {
    count: std::sync::Mutex<usize>,
    changed: Condvar,
}

impl Running {
    fn change(&self, by: impl FnOnce(&mut usize)) {
        by(&mut self
            .count
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner));
        self.changed.notify_all();
    }

    fn begin(&self) {
        self.change(|count| *count += 1);
    }

    fn done(&self) {
        self.change(|count| *count -= 1);
    }

    /// Waits until there are none.
    fn wait(&self) {
        let count = self
            .count
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        drop(self.changed.wait_while(count, |count| *count > 0));
    }
}

fn receive(
    input: &mut impl Read,
    session: &mut Session,
    answers: &SyncSender<Answer>,
    jobs: &SyncSender<Job>,
    running: &Running,
) -> io::Result<()> {
    // The writer itself reports why it ended.
    let answer = |id: u32, answer: Response| answers.send(Answer::Ready(answer.encode(id))).is_ok();
    while let Some(packet) = next_packet(input)? {
        let goes_on = match Request::decode(&packet) {
            Ok(Request::Read {
                id,
                handle,
                offset,
                length,
            }) => match session.file(&handle) {
                Ok(file) => {
                    let (answer, coming) = mpsc::sync_channel(1);
                    let job = Job {
                        id,
                        file,
                        offset,
                        length,
                        answer,
                    };
                    running.begin();
                    answers.send(Answer::Coming(coming)).is_ok() && jobs.send(job).is_ok()
                }
                Err(code) => answer(id, Response::Status(code)),
            },
            Ok(request) => {
                running.wait();
                let (id, done) = session.handle(request);
                answer(id, done)
            }
            Err(bad) => {
                let code = match bad.unknown_type {
                    true => StatusCode::Unsupported,
                    false => StatusCode::BadMessage,
                };
                match bad.id {
                    Some(id) => answer(id, Response::Status(code)),
                    // There is no id to answer with.
                    None => {
                        return Err(io::Error::other(
                            "the client sent what is not a packet of sftp",
                        ));
                    }
                }
            }
        };
        if !goes_on {
            break;
        }
    }
    running.wait();
    Ok(())
}

/// The next packet, without its length; none at the end.
fn next_packet(input: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    let first = loop {
        match input.read(&mut length[..1]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => break done?,
        }
    };
    if first == 0 {
        return Ok(None);
    }
    input.read_exact(&mut length[1..])?;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length == 0 || length > MAX_PACKET {
        return Err(io::Error::other(format!(
            "the client sent a packet of {length} bytes; the maximum is {MAX_PACKET}"
        )));
    }
    let mut packet = Vec::new();
    // Allocates for the bytes that arrive, not for the length that was announced.
    input.take(length as u64).read_to_end(&mut packet)?;
    if packet.len() < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(packet))
}

/// Writes answers in order, several at once if several are waiting.
fn write_answers(answers: Receiver<Answer>, output: impl Write) -> io::Result<()> {
    let mut output = BufWriter::with_capacity(MAX_PACKET, output);
    while let Ok(first) = answers.recv() {
        for answer in std::iter::once(first).chain(answers.try_iter()) {
            match answer {
                Answer::Ready(answer) => output.write_all(&answer)?,
                Answer::Coming(coming) => match coming.recv() {
                    Ok(answer) => output.write_all(&answer)?,
                    Err(_) => return Err(io::Error::other("a read failed")),
                },
            }
        }
        output.flush()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
