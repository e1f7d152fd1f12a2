//! `[forward]` of malai.toml: what the daemon listens on as long as it runs. What cannot be listened on is tried again, and
//! never stops the daemon.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use malai_wire::control::Forwarded;
use malai_wire::status::ForwardFacts;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Daemon;
use crate::forward::socket::Listener;
use crate::os::clock::BoundedInstant;
use crate::os::listen::{Listen, ListenError, SocketFile};
use crate::service::forward::{ForwardBoard, ForwardRoute};
use crate::settings::forward::KeptForward;

/// How long to wait before something is tried again that could not be listened on.
const AGAIN: Duration = Duration::from_secs(5);

/// The lines of `[forward]` at work, in the order of the file.
#[derive(Debug, Default)]
pub(super) struct KeptForwards(Mutex<Vec<Kept>>);

/// One line at work.
#[derive(Debug)]
struct Kept {
    line: KeptForward,
    state: Arc<State>,
    end: CancellationToken,
    task: JoinHandle<()>,
}

/// What has become of a line.
#[derive(Debug, Default)]
struct State {
    /// Why it is not listening; `None` while it is.
    problem: Mutex<Option<String>>,
    /// The last connection that failed.
    failure: Mutex<Option<(BoundedInstant, String)>>,
    counts: Mutex<Forwarded>,
    /// Wakes one that waits to be tried again.
    again: Notify,
}

impl KeptForwards {
    /// Waits until all have ended, once the daemon stops.
    pub(super) async fn ended(&self) {
        let kept = std::mem::take(&mut *self.0.lock());
        for kept in kept {
            let _ = kept.task.await;
        }
    }
}

impl Daemon {
    /// Puts the lines of `[forward]` in force: those that are the same go on with their connections, the others end, and new
    /// ones start. Returns what cannot be listened on, as text.
    pub(super) async fn keep_forwards(self: &Arc<Self>, lines: &[KeptForward]) -> Vec<String> {
        let Some(stopping) = self.forwarding() else {
            return Vec::new();
        };
        let mut before: HashMap<Listen, Kept> = {
            let mut kept = self.forwards.0.lock();
            kept.drain(..)
                .map(|kept| (kept.line.listen.clone(), kept))
                .collect()
        };
        let mut now: Vec<Option<Kept>> = lines
            .iter()
            .map(|line| {
                let is_same = before
                    .get(&line.listen)
                    .is_some_and(|kept| kept.line == *line);
                is_same.then(|| before.remove(&line.listen)).flatten()
            })
            .collect();
        // A port has to be free before it is listened on for something else.
        for (_, gone) in before {
            gone.end.cancel();
            let _ = gone.task.await;
            tracing::info!(
                "no longer forwarding {} to {}",
                gone.line.listen,
                gone.line.shown()
            );
        }
        let mut problems = Vec::new();
        for (line, kept) in lines.iter().zip(&mut now) {
            match kept {
                Some(kept) => {
                    problems.extend(kept.state.problem.lock().clone());
                    kept.state.again.notify_one();
                }
                None => {
                    let (started, problem) =
                        self.start_forward(line.clone(), stopping.child_token());
                    problems.extend(problem);
                    *kept = Some(started);
                }
            }
        }
        *self.forwards.0.lock() = now.into_iter().flatten().collect();
        problems
    }

    /// Starts a line. It is listened on when this returns, or the problem says why not.
    fn start_forward(
        self: &Arc<Self>,
        line: KeptForward,
        end: CancellationToken,
    ) -> (Kept, Option<String>) {
        let state = Arc::<State>::default();
        let first = listen(&line);
        let problem = first.as_ref().err().cloned();
        if let Some(problem) = &problem {
            tracing::warn!("{problem}; it is tried again every {} s", AGAIN.as_secs());
        }
        state.problem.lock().clone_from(&problem);
        let daemon = self.clone();
        let route = ForwardRoute {
            services: Arc::new(move || daemon.services()),
            target: line.target.clone(),
            to: line.to.clone(),
        };
        let running = run(line.clone(), route, first, state.clone(), end.clone());
        let task = tokio::spawn(running);
        let kept = Kept {
            line,
            state,
            end,
            task,
        };
        (kept, problem)
    }

    /// The lines of `[forward]`, for `malai status`.
    pub(super) fn forward_facts(self: &Arc<Self>) -> Vec<ForwardFacts> {
        let kept = self.forwards.0.lock();
        let facts = kept.iter().map(|kept| {
            let daemon = self.clone();
            let route = ForwardRoute {
                services: Arc::new(move || daemon.services()),
                target: kept.line.target.clone(),
                to: kept.line.to.clone(),
            };
            let counts = kept.state.counts.lock().clone();
            let failure = kept.state.failure.lock().clone();
            ForwardFacts {
                listen: kept.line.listen.to_string(),
                to: kept.line.shown(),
                open: counts.open,
                total: counts.total,
                problem: kept.state.problem.lock().clone().or(route.check().err()),
                failed_seconds_ago: failure.as_ref().map(|(at, _)| at.min_elapsed().as_secs()),
                failure: failure.map(|(_, why)| why),
            }
        });
        facts.collect()
    }
}

/// A listening socket, and the file that is removed with it.
type Listening = (Listener, Option<SocketFile>);

fn listen(line: &KeptForward) -> Result<Listening, String> {
    let bound = line.listen.bind().map_err(|error| {
        let way_out = match &error {
            ListenError::Taken(_) => ": end it, or change the line in [forward] of malai.toml",
            _ => "",
        };
        format!("{error}{way_out}")
    })?;
    // Standard input and output are no line of the file.
    let bound = bound.ok_or_else(|| format!("cannot listen on {}", line.listen))?;
    let listener = Listener::adopt(bound.descriptor)
        .map_err(|error| format!("cannot listen on {}: {error}", line.listen))?;
    Ok((listener, bound.file))
}

async fn run(
    line: KeptForward,
    route: ForwardRoute,
    first: Result<Listening, String>,
    state: Arc<State>,
    end: CancellationToken,
) {
    let mut listening = first;
    let (listener, _file) = loop {
        match listening {
            Ok(listening) => break listening,
            Err(problem) => {
                *state.problem.lock() = Some(problem);
                tokio::select! {
                    () = tokio::time::sleep(AGAIN) => {}
                    () = state.again.notified() => {}
                    () = end.cancelled() => return,
                }
                listening = listen(&line);
            }
        }
    };
    *state.problem.lock() = None;
    tracing::info!("forwarding {} to {}", line.listen, line.shown());
    let (board, mut counts, mut problems) = ForwardBoard::new();
    let noting = async {
        loop {
            tokio::select! {
                changed = counts.changed() => match changed {
                    Ok(()) => state.counts.lock().clone_from(&counts.borrow_and_update()),
                    Err(_) => return,
                },
                Some(why) = problems.recv() => {
                    *state.failure.lock() = Some((BoundedInstant::now(), why));
                }
            }
        }
    };
    tokio::select! {
        () = route.listen(listener, &board, &end) => {}
        () = noting => {}
    }
}
