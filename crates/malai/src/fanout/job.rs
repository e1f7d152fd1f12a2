//! One machine's command: its pipes, timeout, signals and result.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use malai_node::{CommandResult, ControlEvent, EXIT_MALAI_FAILURE};
use malai_wire::control::Named;
use malai_wire::peer::exec::{ExecRequest, Signal};
use tokio::net::unix::pipe;
use tokio::sync::{broadcast, mpsc};
use tokio::time::Instant;

use crate::fanout::json::{self, CappedBuffer};
use crate::fanout::lines::Lines;
use crate::fanout::route::{Backend, Command};
use crate::fanout::stdin::Input;
use crate::fanout::summary::{End, Failure};
use crate::fanout::writer::{Piece, To};

/// How many bytes are read from a pipe at once.
const BUFFER: usize = 64 * 1024;

/// How long a signal waits for the report that the command runs, which may arrive after its first output.
const START_GRACE: Duration = Duration::from_millis(100);

/// What all machines share.
#[derive(Debug)]
pub struct Common {
    /// The way.
    pub backend: Backend,
    /// What to run.
    pub request: ExecRequest,
    /// The timeout of each.
    pub timeout: Option<Duration>,
    /// The input of each.
    pub input: Input,
    /// Where all output goes.
    pub output: mpsc::Sender<Piece>,
    /// Signals, with their numbers.
    pub signals: broadcast::Sender<(Signal, u8)>,
    /// Whether to print one JSON object per machine.
    pub json: bool,
}

/// The name of a machine in the output.
#[derive(Debug, Clone)]
pub struct Label {
    /// The name.
    pub text: String,
    /// The prefix of its lines on standard output and standard error.
    pub prefixes: [String; 2],
}

/// Runs the command on a machine and passes its output on.
///
/// `began` is set when the command is known to run.
pub async fn run(common: &Common, machine: &Named, label: &Label, began: Arc<AtomicBool>) -> End {
    let begun = Instant::now();
    let [out, err] = &label.prefixes;
    let mut streams = match (
        Stream::new(To::Out, out, common.json),
        Stream::new(To::Err, err, common.json),
    ) {
        (Ok(out), Ok(err)) => (out, err),
        (Err(error), _) | (_, Err(error)) => return no_pipes(&error),
    };
    let mut end = match command(common, machine, [&mut streams.0, &mut streams.1], began).await {
        Ok(end) => end,
        Err(error) => no_pipes(&error),
    };
    if common.json {
        let (Collected::CappedBuffer(out), Collected::CappedBuffer(err)) =
            (&streams.0.collected, &streams.1.collected)
        else {
            return end;
        };
        if let End::Exit(code) = end
            && (out.cut || err.cut)
        {
            end = End::TooMuch(code);
        }
        let Named { machine, cluster } = machine;
        let bytes = json::record(machine, cluster, &end, [out, err], begun.elapsed());
        let _ = common.output.send(Piece { to: To::Out, bytes }).await;
    } else {
        for stream in [&mut streams.0, &mut streams.1] {
            stream.finish(&common.output).await;
        }
    }
    end
}

fn no_pipes(error: &io::Error) -> End {
    End::Failed(Failure {
        code: EXIT_MALAI_FAILURE,
        message: format!("cannot create pipes for the command: {error}"),
        reason: None,
    })
}

async fn command(
    common: &Common,
    machine: &Named,
    [out, err]: [&mut Stream; 2],
    began: Arc<AtomicBool>,
) -> io::Result<End> {
    let (stdin, feed) = common.input.of_machine()?;
    let command = Command {
        target: format!("{}.{}", machine.machine, machine.cluster),
        request: common.request.clone(),
        stdin,
        stdout: out.writer()?,
        stderr: err.writer()?,
    };
    let (events, receiver) = mpsc::channel(16);
    let mut signals = common.signals.subscribe();
    let mut ending: Option<CommandResult> = None;
    {
        let running = common.backend.run(command, receiver, began.clone());
        let feeding = async {
            match feed {
                Some(feed) => feed.run().await,
                None => std::future::pending().await,
            }
        };
        let timeout = async {
            match common.timeout {
                Some(timeout) => tokio::time::sleep(timeout).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(running, feeding, timeout);
        let mut fed = false;
        // A signal that arrived before the command was known to run: its number, and how long it waits.
        let mut held: Option<(Signal, u8, Instant)> = None;
        while ending.is_none() || !out.ended || !err.ended {
            if out.said || err.said {
                began.store(true, Ordering::Relaxed);
            }
            if began.load(Ordering::Relaxed)
                && let Some((signal, ..)) = held.take()
            {
                // If so many are waiting already, another one makes no difference.
                let _ = events.try_send(ControlEvent::Signal(signal));
            }
            let under_way = async {
                match held {
                    Some((_, number, until)) => {
                        tokio::time::sleep_until(until).await;
                        number
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                ended = &mut running, if ending.is_none() => ending = Some(ended),
                () = &mut feeding, if !fed => fed = true,
                () = out.pass(&common.output), if !out.ended => {}
                () = err.pass(&common.output), if !err.ended => {}
                () = &mut timeout => break,
                number = under_way => if !began.load(Ordering::Relaxed) {
                    return Ok(End::Interrupted(number));
                },
                Ok((signal, number)) = signals.recv() => {
                    held = Some((signal, number, Instant::now() + START_GRACE));
                }
            }
        }
    }
    // Output written before the timeout counts; later output does not.
    for stream in [out, err] {
        if !stream.ended
            && let Some(bytes) = stream.take()
        {
            stream.send(bytes, &common.output).await;
        }
    }
    Ok(match ending {
        None => End::TimedOut(common.timeout.unwrap_or_default()),
        Some(CommandResult {
            code,
            message: Some(message),
            reason,
        }) => End::Failed(Failure {
            code,
            message,
            reason,
        }),
        Some(CommandResult { code, .. }) => End::Exit(code),
    })
}

/// One stream of the command.
#[derive(Debug)]
struct Stream {
    to: To,
    reader: pipe::Receiver,
    writer: Option<pipe::Sender>,
    collected: Collected,
    /// Whether it has produced any output.
    said: bool,
    ended: bool,
}

#[derive(Debug)]
enum Collected {
    Lines(Lines),
    CappedBuffer(CappedBuffer),
}

impl Stream {
    fn new(to: To, prefix: &str, json: bool) -> io::Result<Self> {
        let (writer, reader) = pipe::pipe()?;
        Ok(Self {
            to,
            reader,
            writer: Some(writer),
            collected: match json {
                true => Collected::CappedBuffer(CappedBuffer::default()),
                false => Collected::Lines(Lines::new(prefix)),
            },
            said: false,
            ended: false,
        })
    }

    /// The end that the command writes to.
    fn writer(&mut self) -> io::Result<std::os::fd::OwnedFd> {
        let writer = self.writer.take().ok_or(io::ErrorKind::NotConnected)?;
        writer.into_nonblocking_fd()
    }

    /// Passes on what is there, once there is something and room for it. Cancelling the call and calling it again loses nothing,
    /// because nothing is read before there is room.
    async fn pass(&mut self, output: &mpsc::Sender<Piece>) {
        let readable = self.reader.readable().await;
        let Ok(room) = output.reserve().await else {
            // The writer has gone: everything is about to be cancelled.
            return std::future::pending().await;
        };
        match readable.ok().and_then(|()| self.take()) {
            Some(bytes) if !bytes.is_empty() => room.send(Piece { to: self.to, bytes }),
            Some(_) => {}
            None => self.ended = true,
        }
    }

    /// What can be read now, as it is to be written: nothing where no line is whole; `None` at the end.
    fn take(&mut self) -> Option<Vec<u8>> {
        let mut buffer = [0; BUFFER];
        match self.reader.try_read(&mut buffer) {
            Ok(0) => None,
            Ok(count) => {
                self.said = true;
                Some(match &mut self.collected {
                    Collected::Lines(lines) => lines.push(&buffer[..count]),
                    Collected::CappedBuffer(kept) => {
                        kept.push(&buffer[..count]);
                        Vec::new()
                    }
                })
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Some(Vec::new()),
            Err(_) => None,
        }
    }

    async fn send(&self, bytes: Vec<u8>, output: &mpsc::Sender<Piece>) {
        if !bytes.is_empty() {
            let _ = output.send(Piece { to: self.to, bytes }).await;
        }
    }

    async fn finish(&mut self, output: &mpsc::Sender<Piece>) {
        if let Collected::Lines(lines) = &mut self.collected {
            let rest = lines.finish();
            self.send(rest, output).await;
        }
    }
}
