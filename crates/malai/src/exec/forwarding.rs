//! Connections to this computer that are passed on, while this process lives: by the daemon, or by this process if there is
//! none.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use anyhow::Context;
use malai_cluster::Target;
use malai_node::control::{self, ControlError};
use malai_node::forward::listen::{Bound, SocketFile};
use malai_node::forward::socket::{Listener, Socket};
use malai_node::{ForwardBoard, ForwardRoute, Home, Settings, Standalone};
use malai_wire::control::{Exited, Forward, ForwardTo, Forwarded, Reply, Request};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::standard_streams::StandardStreams;

/// What is passed on.
pub struct Item {
    /// The service, or the machine through which it goes.
    pub target: Target,
    /// What of the target is reached.
    pub to: ForwardTo,
    /// Where it listens; `None` for standard input and output.
    pub bound: Option<Bound>,
}

/// What happens to an item.
pub enum News {
    /// The state of the item with this number. The first one says that it is ready.
    State(usize, Forwarded),
    /// It has ended.
    Over(anyhow::Result<Exited>),
}

/// The items at work.
pub struct Forwarding {
    news: mpsc::Receiver<News>,
    tasks: JoinSet<()>,
    gone: CancellationToken,
    standalone: Option<Arc<Standalone>>,
    streams: Option<StandardStreams>,
    /// Removed at the end.
    _files: Vec<SocketFile>,
}

impl Forwarding {
    /// Starts to pass connections on.
    ///
    /// # Errors
    ///
    /// The daemon does not answer, or the clusters cannot be used without one.
    pub async fn start(home: &Home, items: Vec<Item>) -> anyhow::Result<Self> {
        let gone = CancellationToken::new();
        let (tell, news) = mpsc::channel(64);
        let mut tasks = JoinSet::new();
        let has_daemon = control::connect(home)?.is_some();
        let standalone = match has_daemon {
            true => None,
            false => {
                let settings = Settings::load(home)?;
                let clusters = items.iter().map(|item| &item.target);
                let clusters = clusters.map(|target| (&target.cluster, Some(&target.machine)));
                let standalone =
                    Standalone::open(home, &settings, clusters, Arc::default()).await?;
                Some(Arc::new(standalone))
            }
        };
        let mut files = Vec::new();
        let mut streams = None;
        for (number, item) in items.into_iter().enumerate() {
            let listens = item.bound.is_some();
            let descriptor = match item.bound {
                Some(bound) => {
                    files.extend(bound.file);
                    bound.descriptor
                }
                None => {
                    let (end, other) = UnixStream::pair().context("cannot make a socket")?;
                    streams = Some(StandardStreams::start(other)?);
                    end.into()
                }
            };
            let (tell, gone) = (tell.clone(), gone.clone());
            match &standalone {
                None => {
                    let home = home.clone();
                    let forward = Forward {
                        target: item.target.to_string(),
                        to: item.to,
                        listens,
                    };
                    tasks.spawn(async move {
                        let passed =
                            through_daemon(&home, number, forward, descriptor, &tell, &gone);
                        let over = News::Over(passed.await.map_err(Into::into));
                        let _ = tell.send(over).await;
                    });
                }
                Some(standalone) => {
                    let all = standalone.clone();
                    let route = ForwardRoute {
                        services: Arc::new(move || all.services().to_vec()),
                        target: item.target,
                        to: item.to,
                    };
                    tasks.spawn(async move {
                        let passed =
                            direct(&route, number, descriptor, listens, &tell, &gone).await;
                        let _ = tell.send(News::Over(passed)).await;
                    });
                }
            }
        }
        Ok(Self {
            news,
            tasks,
            gone,
            standalone,
            streams,
            _files: files,
        })
    }

    /// What happens next. Pending for ever once all items have ended.
    pub async fn next(&mut self) -> News {
        match self.news.recv().await {
            Some(news) => news,
            None => std::future::pending().await,
        }
    }

    /// Ends it: connections that are still open are reset. After a success, everything that came for standard output is
    /// written first.
    pub async fn end(mut self, is_success: bool) {
        if let Some(streams) = self.streams.take().filter(|_| is_success) {
            streams.rest().await;
        }
        self.gone.cancel();
        while self.tasks.join_next().await.is_some() {}
        if let Some(standalone) = self.standalone {
            standalone.stop().await;
        }
    }
}

/// Hands a descriptor to the daemon, and passes on what it says of it.
async fn through_daemon(
    home: &Home,
    number: usize,
    forward: Forward,
    descriptor: OwnedFd,
    tell: &mpsc::Sender<News>,
    gone: &CancellationToken,
) -> Result<Exited, ControlError> {
    let Some(control) = control::connect(home)? else {
        return Err(ControlError::Gone);
    };
    let request = Request::Forward(forward);
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
