//! Runs one command on many machines: a bounded number in parallel, each independently, with a result for every one.

pub mod job;
pub mod json;
pub mod lines;
pub mod live;
pub mod progress;
pub mod route;
pub mod stdin;
pub mod summary;
pub mod writer;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use malai_node::EXIT_READER_GONE;
use malai_wire::control::Named;
use malai_wire::peer::exec::ExecRequest;
use signal_hook::consts::SIGTSTP;
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinSet;

use job::{Common, Label};
use progress::Progress;
use route::Backend;
use stdin::Input;
use summary::End;

use crate::output::style::{self, paint};
use crate::signals;

/// How much of each stream is stored for a JSON object, in bytes.
pub const JSON_OUTPUT_MAX: usize = 16 << 20;

/// The default number of parallel machines.
pub const PARALLEL: usize = 64;

/// The work to do.
#[derive(Debug)]
pub struct Work {
    /// The machines, in the order in which they start.
    pub machines: Vec<Named>,
    /// The request for each.
    pub request: ExecRequest,
    /// The maximum number in parallel.
    pub parallel: usize,
    /// The timeout of each.
    pub timeout: Option<Duration>,
    /// Whether they get no input.
    pub no_input: bool,
    /// Whether to print one JSON object per machine.
    pub json: bool,
}

/// The outcome.
#[derive(Debug)]
pub struct Outcome {
    /// Each result, in the order of the list; some are missing if everything was cancelled.
    pub ends: Vec<(Named, String, End)>,
    /// Why everything was cancelled, if it was.
    pub given_up: Option<GivenUp>,
    /// Problems with the audit record of what ran here.
    pub notices: Vec<String>,
}

/// Why everything was cancelled.
#[derive(Debug)]
pub enum GivenUp {
    /// The reader of the output has gone.
    ReaderGone,
    /// Output cannot be written, or input cannot be read, for this reason.
    Broken(String),
    /// A second signal, by its number.
    Signal(u8),
}

impl Outcome {
    /// The exit code: the highest of all.
    pub fn code(&self) -> u8 {
        let worst = self
            .ends
            .iter()
            .map(|(.., end)| end.code())
            .max()
            .unwrap_or(0);
        match self.given_up {
            None => worst,
            Some(GivenUp::ReaderGone) => EXIT_READER_GONE,
            Some(GivenUp::Signal(number)) => 128u8.saturating_add(number),
            Some(GivenUp::Broken(_)) => malai_node::EXIT_MALAI_FAILURE,
        }
    }
}

/// Runs the command on all machines.
///
/// # Errors
///
/// Nothing was run: signals cannot be received, or input cannot be stored.
pub async fn run(backend: Backend, work: Work) -> io::Result<Outcome> {
    let Work {
        machines,
        request,
        parallel,
        timeout,
        no_input,
        json,
    } = work;
    let labels = labels(&machines);
    let live = Arc::new(Progress::new(machines.len()));
    let mut received = signals::subscribe()?;
    let mut stops = match live.is_shown() {
        true => signals::stops()?,
        false => None,
    };
    let input = match no_input {
        true => Input::Empty,
        false => Input::of_this_process()?,
    };
    let (output, chunks) = mpsc::channel(writer::WAITING);
    let mut writing = tokio::spawn(writer::write(chunks, live.clone()));
    let common = Arc::new(Common {
        backend,
        request,
        timeout,
        input: input.clone(),
        output,
        signals: broadcast::channel(16).0,
        json,
    });
    let mut ends: Vec<Option<End>> = vec![None; machines.len()];
    let began: Vec<Arc<AtomicBool>> = machines.iter().map(|_| Arc::default()).collect();
    let mut waiting: VecDeque<usize> = (0..machines.len()).collect();
    let mut running = JoinSet::new();
    let (mut interrupted, mut given_up) = (None, None);
    let reading = input.read();
    tokio::pin!(reading);
    let mut read = false;
    let mut look = tokio::time::interval(progress::EVERY);
    let mut written = None;
    loop {
        while running.len() < parallel
            && interrupted.is_none()
            && let Some(index) = waiting.pop_front()
        {
            let (machine, label) = (machines[index].clone(), labels[index].clone());
            let (common, live, began) = (common.clone(), live.clone(), began[index].clone());
            live.begun(&label.text);
            running.spawn(async move {
                let end = job::run(&common, &machine, &label, began).await;
                live.ended(&label.text, end.code() == 0);
                (index, end)
            });
        }
        if running.is_empty() {
            break;
        }
        tokio::select! {
            Some(ended) = running.join_next() => match ended {
                Ok((index, end)) => ends[index] = Some(end),
                Err(panic) => given_up = Some(GivenUp::Broken(format!("malai itself failed: {panic}"))),
            },
            result = &mut writing, if written.is_none() => {
                given_up = Some(why_not_written(&result));
                written = Some(result);
            }
            result = &mut reading, if !read => {
                read = true;
                if let Err(error) = result {
                    given_up = Some(GivenUp::Broken(format!("standard input cannot be given to all: {error}")));
                }
            }
            Some((signal, number)) = received.recv() => {
                if signals::ends(signal) {
                    if interrupted.is_some() {
                        given_up = Some(GivenUp::Signal(number));
                    }
                    interrupted.get_or_insert(number);
                }
                let _ = common.signals.send((signal, number));
            }
            Some(()) = async { stops.as_mut()?.recv().await }, if stops.is_some() => {
                // What the shell prints then is not to be mixed with the lines.
                live.hide();
                let _ = signal_hook::low_level::emulate_default_handler(SIGTSTP);
            }
            _ = look.tick(), if live.is_shown() => live.draw(),
        }
        if given_up.is_some() {
            break;
        }
    }
    running.shutdown().await;
    live.clear();
    let notices = common.backend.close(given_up.is_some()).await;
    // When the last sender is dropped, the writer ends.
    drop(common);
    if written.is_none() && !matches!(given_up, Some(GivenUp::Signal(_))) {
        let result = writing.await;
        if !matches!(result, Ok(Ok(()))) && given_up.is_none() {
            given_up = Some(why_not_written(&result));
        }
    }
    // Those cut off by a second signal, and those that had not started at the first.
    let unknown = |began: &AtomicBool| {
        interrupted.map(|signal| match began.load(Ordering::Relaxed) {
            true => End::CutOff(signal),
            false => End::Interrupted(signal),
        })
    };
    let ends = machines.into_iter().zip(labels).zip(ends).zip(began);
    let ends = ends.filter_map(|(((machine, label), end), began)| {
        Some((machine, label.text, end.or_else(|| unknown(&began))?))
    });
    Ok(Outcome {
        ends: ends.collect(),
        given_up,
        notices,
    })
}

fn why_not_written(result: &Result<io::Result<()>, tokio::task::JoinError>) -> GivenUp {
    match result {
        Ok(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => GivenUp::ReaderGone,
        Ok(Err(error)) => GivenUp::Broken(format!("cannot write to standard output: {error}")),
        Ok(Ok(())) => GivenUp::ReaderGone,
        Err(panic) => GivenUp::Broken(format!("malai itself failed: {panic}")),
    }
}

/// Names for the machines, with their cluster only if there are several.
fn labels(machines: &[Named]) -> Vec<Label> {
    let out = style::is_styled(&io::stdout());
    let err = style::is_styled(&io::stderr());
    let several = machines
        .windows(2)
        .any(|pair| pair[0].cluster != pair[1].cluster);
    let label = |machine: &Named| {
        let text = match several {
            true => format!("{}.{}", machine.machine, machine.cluster),
            false => machine.machine.clone(),
        };
        let prefix = |style, is_styled| paint(&format!("{text}:"), style, is_styled) + " ";
        Label {
            prefixes: [
                prefix(style::STDOUT_LABEL, out),
                prefix(style::STDERR_LABEL, err),
            ],
            text,
        }
    };
    machines.iter().map(label).collect()
}
