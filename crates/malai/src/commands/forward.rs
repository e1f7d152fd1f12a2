//! `malai forward <listen> <service>…`: connections to this computer, passed on to services of other machines.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;

use anyhow::{Context, bail};
use malai_cluster::Target;
use malai_node::control::{self, ControlError};
use malai_node::forward::listen::{Bound, Listen};
use malai_node::forward::socket::{Listener, Socket};
use malai_node::{ForwardBoard, ForwardRoute, Home, Settings, Standalone};
use malai_wire::control::{Exited, Forward, Forwarded, Reply, Request};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cli::ForwardArgs;
use crate::commands::targets;
use crate::fanout::live::LiveLine;
use crate::output::Printer;
use crate::output::exit::Exit;

/// One pair of the command line.
struct Item {
    target: Target,
    /// What is handed on; `None` for standard input and output until they are connected.
    bound: Option<Bound>,
}

/// What happens to an item.
enum News {
    /// Its state.
    State(usize, Forwarded),
    /// It has ended.
    Over(anyhow::Result<Exited>),
}

/// Passes connections on until it is interrupted, or standard input and output have ended.
pub fn run(home: &Home, args: &ForwardArgs, printer: &Printer) -> anyhow::Result<Exit> {
    if !args.pairs.len().is_multiple_of(2) {
        bail!("each place to listen needs a service: malai forward <listen> <service>.<cluster>");
    }
    let mut items = Vec::new();
    for pair in args.pairs.chunks_exact(2) {
        let listen = Listen::parse(&pair[0])?;
        if listen == Listen::Standard && args.pairs.len() > 2 {
            bail!("- is the only connection: leave out the others");
        }
        items.push(Item {
            target: targets::one(home, &pair[1])?,
            bound: listen.bind()?,
        });
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    let exit = runtime.block_on(forward(home, items, printer));
    // A thread may still be reading from standard input; nothing waits for it.
    runtime.shutdown_background();
    exit
}

async fn forward(home: &Home, items: Vec<Item>, printer: &Printer) -> anyhow::Result<Exit> {
    let gone = CancellationToken::new();
    let (tell, mut news) = mpsc::channel(64);
    let mut tasks = JoinSet::new();
    let has_daemon = control::connect(home)?.is_some();
    let standalone = match has_daemon {
        true => None,
        false => {
            let settings = Settings::load(home)?;
            let clusters = items.iter().map(|item| &item.target);
            let clusters = clusters.map(|target| (&target.cluster, Some(&target.machine)));
            let standalone = Standalone::open(home, &settings, clusters, Arc::default()).await?;
            Some(Arc::new(standalone))
        }
    };
    let mut shown = Vec::new();
    let mut files = Vec::new();
    let mut streams = None;
    for (number, item) in items.into_iter().enumerate() {
        let listens = item.bound.is_some();
        let descriptor = match item.bound {
            Some(bound) => {
                shown.push((bound.shown, item.target.clone()));
                files.extend(bound.file);
                bound.descriptor
            }
            None => {
                let (end, other) = UnixStream::pair().context("cannot make a socket")?;
                streams = Some(Streams::start(other)?);
                end.into()
            }
        };
        let (tell, gone) = (tell.clone(), gone.clone());
        match &standalone {
            None => {
                let home = home.clone();
                tasks.spawn(async move {
                    let target = item.target.to_string();
                    let passed =
                        through_daemon(&home, number, target, descriptor, listens, &tell, &gone);
                    let over = News::Over(passed.await.map_err(Into::into));
                    let _ = tell.send(over).await;
                });
            }
            Some(standalone) => {
                let all = standalone.clone();
                let route = ForwardRoute {
                    services: Arc::new(move || all.services().to_vec()),
                    target: item.target,
                };
                tasks.spawn(async move {
                    let passed = direct(&route, number, descriptor, listens, &tell, &gone).await;
                    let _ = tell.send(News::Over(passed)).await;
                });
            }
        }
    }
    let mut signals = (
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
        signal(SignalKind::hangup())?,
    );
    let line = LiveLine::new(streams.is_none());
    let mut states: Vec<Forwarded> = vec![Forwarded::default(); shown.len().max(1)];
    let mut known = vec![false; states.len()];
    let exit = loop {
        tokio::select! {
            Some(next) = news.recv() => match next {
                News::State(number, state) => {
                    if let Some((place, target)) = shown.get(number)
                        && !std::mem::replace(&mut known[number], true)
                    {
                        line.clear();
                        printer.say(&format!("forwarding {place} to {target}"));
                    }
                    if let Some(problem) = &state.problem {
                        line.clear();
                        printer.say(problem);
                    }
                    states[number] = state;
                    let open: u64 = states.iter().map(|state| u64::from(state.open)).sum();
                    let total: u64 = states.iter().map(|state| state.total).sum();
                    line.draw(&format!("{open} open, {total} in all"));
                }
                News::Over(Ok(exited)) => {
                    line.clear();
                    if let Some(message) = &exited.message {
                        printer.say(message);
                    }
                    if let Some(streams) = streams.take().filter(|_| exited.code == 0) {
                        streams.rest().await;
                    }
                    break Exit(exited.code);
                }
                News::Over(Err(error)) => {
                    line.clear();
                    return Err(error);
                }
            },
            _ = signals.0.recv() => break Exit(128 + 2),
            _ = signals.1.recv() => break Exit(128 + 15),
            _ = signals.2.recv() => break Exit(128 + 1),
        }
    };
    line.clear();
    gone.cancel();
    while tasks.join_next().await.is_some() {}
    if let Some(standalone) = standalone {
        standalone.stop().await;
    }
    drop(files);
    Ok(exit)
}

/// Hands a descriptor to the daemon, and passes on what it says of it.
async fn through_daemon(
    home: &Home,
    number: usize,
    target: String,
    descriptor: OwnedFd,
    listens: bool,
    tell: &mpsc::Sender<News>,
    gone: &CancellationToken,
) -> Result<Exited, ControlError> {
    let Some(control) = control::connect(home)? else {
        return Err(ControlError::Gone);
    };
    let request = Request::Forward(Forward { target, listens });
    let client = control.into_conversation()?;
    let (mut answers, _voice) = client.ask(&request, &[descriptor.as_fd()]).await?;
    // The daemon has it now, and closes it when this process has gone.
    drop(descriptor);
    loop {
        tokio::select! {
            reply = answers.next() => match reply? {
                Reply::Forwarded(state) => {
                    let _ = tell.send(News::State(number, state)).await;
                }
                Reply::Exited(exited) => return Ok(exited),
                _ => return Err(ControlError::Garbled("it is no answer to this request".into())),
            },
            () = gone.cancelled() => return Ok(Exited::exit(0)),
        }
    }
}

/// The same in this process.
async fn direct(
    route: &ForwardRoute,
    number: usize,
    descriptor: OwnedFd,
    listens: bool,
    tell: &mpsc::Sender<News>,
    gone: &CancellationToken,
) -> anyhow::Result<Exited> {
    route.check().map_err(anyhow::Error::msg)?;
    if !listens {
        let socket = Socket::adopt(descriptor)?;
        let passed = route.pass(socket, gone).await;
        return Ok(passed.map_or_else(Exited::failed, |()| Exited::exit(0)));
    }
    let listener = Listener::adopt(descriptor)?;
    let (board, mut counts, mut problems) = ForwardBoard::new();
    let telling = async {
        let mut problem = None;
        loop {
            let mut state = counts.borrow_and_update().clone();
            state.problem = problem.take();
            let _ = tell.send(News::State(number, state)).await;
            tokio::select! {
                changed = counts.changed() => if changed.is_err() { return },
                Some(next) = problems.recv() => problem = Some(next),
            }
        }
    };
    tokio::select! {
        () = route.listen(listener, &board, gone) => {}
        () = telling => {}
    }
    Ok(Exited::exit(0))
}

/// Standard input and output, copied to and from a socket by two threads: a terminal or a file cannot be awaited.
struct Streams {
    written: tokio::sync::oneshot::Receiver<()>,
}

impl Streams {
    fn start(socket: UnixStream) -> io::Result<Self> {
        let mut to = socket.try_clone()?;
        // Ends with the process: a blocked read cannot be cancelled.
        thread::spawn(move || {
            let mut buffer = vec![0; 64 * 1024];
            let mut stdin = io::stdin().lock();
            loop {
                match stdin.read(&mut buffer) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Ok(0) | Err(_) => break,
                    Ok(count) => {
                        if to.write_all(&buffer[..count]).is_err() {
                            break;
                        }
                    }
                }
            }
            let _ = to.shutdown(Shutdown::Write);
        });
        let (done, written) = tokio::sync::oneshot::channel();
        let mut from = socket;
        thread::spawn(move || {
            let mut buffer = vec![0; 64 * 1024];
            let mut stdout = io::stdout().lock();
            loop {
                match from.read(&mut buffer) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Ok(0) | Err(_) => break,
                    Ok(count) => {
                        let written = stdout.write_all(&buffer[..count]);
                        if written.and_then(|()| stdout.flush()).is_err() {
                            // The reader has gone: the service is told.
                            let _ = from.shutdown(Shutdown::Both);
                            break;
                        }
                    }
                }
            }
            let _ = done.send(());
        });
        Ok(Self { written })
    }

    /// Waits until everything has been written.
    async fn rest(self) {
        let _ = self.written.await;
    }
}
