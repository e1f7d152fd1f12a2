//! The daemon's side of the control socket.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::Arc;
use std::time::{Duration, Instant};

use malai_cluster::Targets;
use malai_wire::Refusal;
use malai_wire::control::{self, ClientMessage, Exec, Exited, Reply, Request, Stdin};
use malai_wire::frame::Tagged;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::client::Caller;
use crate::control::{ShortPath, take_message};
use crate::daemon::received::Received;
use crate::daemon::{Daemon, forward};
use crate::exec::io::{PauseGate, Sink, Source};
use crate::exec::stdio::ControlEvent;
use crate::home::Home;
use crate::node::limits::{Limiter, NoSlot, Slot};
use crate::os::fd;
use crate::service::dispatch::{self, CommandResult};
use crate::service::ping;

/// How long a command line may take to send its request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a command line waits for a slot at most: longer than silent command lines keep theirs, and shorter than a
/// command line waits for the preamble.
const SLOT_TIMEOUT: Duration = Duration::from_millis(1500);

/// How often the daemon checks that its socket is still there.
const SOCKET_CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// How many chunks of terminal input may wait to be sent.
const PIECES: usize = 16;

/// How many bytes of terminal input are stored for a command that does not read them. Further input is not read from the
/// terminal until the command reads.
const TYPED_AHEAD: usize = 16 << 20;

/// The bound socket.
#[derive(Debug)]
pub(crate) struct Socket {
    home: Home,
    listener: UnixListener,
    inode: u64,
    /// When a command line started to wait for a slot.
    full_since: Option<Instant>,
}

impl Socket {
    /// Binds the home's socket, replacing what a dead daemon left there. Only the holder of the home's lock may call this.
    ///
    /// # Errors
    ///
    /// The system refuses.
    pub(crate) fn bind(home: &Home) -> io::Result<Self> {
        let path = home.socket();
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let short = ShortPath::of(home)?;
        // The home belongs to its owner alone, so nobody else can connect before the mode is set.
        let listener = UnixListener::bind(short.path())?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        let inode = std::fs::symlink_metadata(&path)?.ino();
        Ok(Self {
            home: home.clone(),
            listener,
            inode,
            full_since: None,
        })
    }

    /// Serves command lines until `stop`. A socket that was deleted is recreated.
    pub(crate) async fn serve(mut self, daemon: Arc<Daemon>, stop: CancellationToken) {
        let mut look = tokio::time::interval(SOCKET_CHECK_INTERVAL);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) if permitted(&stream) => {
                        fd::make_room(&stream);
                        // Others wait in the socket's queue meanwhile.
                        let slot = tokio::select! {
                            slot = self.slot(daemon.limiter()) => slot,
                            () = stop.cancelled() => break,
                        };
                        match slot {
                            // Boxed like every large task, because tokio copies a task when it is created and when it ends.
                            Ok(slot) => drop(daemon.tasks().spawn(Box::pin(serve(stream, daemon.clone(), slot)))),
                            Err(refusal) => drop(daemon.tasks().spawn(refuse(stream, refusal))),
                        }
                    }
                    Ok(_) => tracing::warn!("rejected another user on the control socket"),
                    Err(error) => {
                        tracing::error!("control socket: {error}");
                        tokio::time::sleep(SOCKET_CHECK_INTERVAL).await;
                    }
                },
                _ = look.tick() => self.look(&daemon),
                () = stop.cancelled() => break,
            }
        }
        if std::fs::symlink_metadata(self.home.socket()).is_ok_and(|meta| meta.ino() == self.inode)
        {
            let _ = std::fs::remove_file(self.home.socket());
        }
    }

    /// Waits for a slot for a command line.
    ///
    /// # Errors
    ///
    /// No slot became free within [`SLOT_TIMEOUT`].
    async fn slot(&mut self, limiter: &Limiter) -> Result<Slot<()>, Refusal> {
        loop {
            let evictable_at = match limiter.control() {
                Ok(slot) => {
                    self.full_since = None;
                    return Ok(slot);
                }
                Err(NoSlot { evictable_at, .. }) => evictable_at,
            };
            let deadline = *self.full_since.get_or_insert_with(Instant::now) + SLOT_TIMEOUT;
            if deadline <= Instant::now() {
                return Err(limiter.control_refused());
            }
            let until = evictable_at.map_or(deadline, |at| at.min(deadline));
            tokio::select! {
                () = limiter.control.freed() => {}
                () = tokio::time::sleep_until(until.into()) => {}
            }
        }
    }

    fn look(&mut self, daemon: &Daemon) {
        if !daemon.look_after_lock() {
            return;
        }
        if std::fs::symlink_metadata(self.home.socket()).is_ok_and(|meta| meta.ino() == self.inode)
        {
            return;
        }
        match Self::bind(&self.home) {
            Ok(socket) => {
                tracing::warn!(
                    "the control socket was deleted while the daemon was running; recreating it"
                );
                *self = socket;
            }
            Err(error) => {
                tracing::error!("the control socket was deleted and cannot be recreated: {error}")
            }
        }
    }
}

/// The socket serves only the daemon's own user and root.
fn permitted(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stream
        .peer_cred()
        .is_ok_and(|peer| peer.uid() == own || peer.uid() == 0)
}

/// Tells a command line why it is not served.
async fn refuse(mut stream: UnixStream, refusal: Refusal) {
    let preamble = control::preamble(control::VERSION);
    let failed = Reply::Failed(refusal.message).to_frame();
    let _ = stream.write_all(&[&preamble[..], &failed].concat()).await;
}

/// Sends the preamble and receives the request; `None` if the command line has gone, or speaks another version.
///
/// # Errors
///
/// The error for the command line: no request came in time, or another command line gets its slot.
async fn receive(
    stream: &mut UnixStream,
    received: &mut Received,
    limiter: &Limiter,
    slot: &Slot<()>,
) -> Result<Option<Request>, String> {
    let request = async {
        stream
            .write_all(&control::preamble(control::VERSION))
            .await?;
        received.request(stream).await
    };
    tokio::select! {
        // Checked first: a request that has arrived is served.
        biased;
        request = tokio::time::timeout(REQUEST_TIMEOUT, request) => match request {
            Ok(request) => request.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no request arrived within {} s", REQUEST_TIMEOUT.as_secs())),
        },
        _ = slot.evicted() => Err(limiter.control_refused().message),
    }
}

/// Serves a command line.
async fn serve(mut stream: UnixStream, daemon: Arc<Daemon>, slot: Slot<()>) {
    let served = async {
        let mut received = Received::default();
        let limiter = daemon.limiter();
        let request = match receive(&mut stream, &mut received, limiter, &slot).await {
            Ok(Some(request)) => request,
            Ok(None) => return Ok(()),
            Err(why) => return reply(&mut stream, &Reply::Failed(why)).await,
        };
        slot.pin();
        match request {
            Request::Status => reply(&mut stream, &Reply::Status(daemon.facts())).await,
            Request::Rescan(rescan) => {
                let reports = daemon
                    .rescan(rescan.cluster.as_deref(), rescan.publish_older)
                    .await;
                let answer = reports.map_or_else(Reply::Failed, Reply::Rescanned);
                reply(&mut stream, &answer).await
            }
            Request::Stop => {
                daemon.stop();
                reply(&mut stream, &Reply::Done).await?;
                // Held until the process exits: the connection ends when the daemon does.
                std::future::pending().await
            }
            Request::Resolve(targets) => {
                let targets = Targets::parse(&targets, |_| None);
                let targets = targets.map_err(|error| error.to_string());
                let resolved =
                    targets.and_then(|targets| dispatch::resolve(&daemon.services(), &targets));
                let answer = resolved.map_or_else(Reply::Failed, crate::control::resolved);
                reply(&mut stream, &answer).await
            }
            Request::Sessions => {
                reply(&mut stream, &Reply::Sessions(daemon.sessions_facts())).await
            }
            Request::EndSession(id) => {
                let answer = daemon
                    .end_session(id)
                    .map_or_else(Reply::Failed, |()| Reply::Done);
                reply(&mut stream, &answer).await
            }
            Request::Ping(request) => {
                let answer = ping::answer(&daemon.services(), &request).await;
                let answer = answer.map_or_else(Reply::Failed, Reply::Pinged);
                reply(&mut stream, &answer).await
            }
            Request::Browse(browse) => {
                let link = daemon.browse(&browse.target, browse.user).await;
                let answer = link.map_or_else(Reply::Failed, Reply::Browsing);
                reply(&mut stream, &answer).await
            }
            Request::Whois(address) => {
                let answer = daemon.whois(&address);
                let answer = answer.map_or_else(Reply::Failed, Reply::Whois);
                reply(&mut stream, &answer).await
            }
            Request::Forward(forward) => match daemon.forwarding() {
                Some(gone) => {
                    drop(slot);
                    let descriptor = received.descriptors.pop();
                    let session = forward::run(stream, daemon.clone(), forward, descriptor, gone);
                    let _ = daemon.sessions().spawn(Box::pin(session)).await;
                    Ok(())
                }
                None => reply(&mut stream, &Reply::Failed("the daemon is stopping".into())).await,
            },
            Request::Exec(exec) => match daemon.session() {
                Some(gone) => {
                    if let Some(why) = fd::lacks_room(&stream) {
                        return reply(&mut stream, &Reply::Failed(why)).await;
                    }
                    let counted = match daemon.limiter().local_session() {
                        Ok(counted) => counted,
                        Err(refusal) => {
                            return reply(&mut stream, &Reply::Failed(refusal.message)).await;
                        }
                    };
                    drop(slot);
                    let session = Box::pin(run(stream, daemon.clone(), exec, received, gone));
                    let _ = daemon.sessions().spawn(session).await;
                    drop(counted);
                    Ok(())
                }
                None => reply(&mut stream, &Reply::Failed("the daemon is stopping".into())).await,
            },
        }
    };
    if let Err(error) = served.await {
        tracing::debug!("a command line disconnected: {error}");
    }
}

async fn reply(stream: &mut UnixStream, reply: &Reply) -> io::Result<()> {
    stream.write_all(&reply.to_frame()).await
}

/// Runs a command for a command line, until it ends or the command line disconnects.
async fn run(
    stream: UnixStream,
    daemon: Arc<Daemon>,
    exec: Exec,
    received: Received,
    gone: CancellationToken,
) -> io::Result<()> {
    let (mut read, mut write) = stream.into_split();
    let (events, nudge_receiver) = mpsc::channel(16);
    let (chunks, piece_receiver) = mpsc::channel(PIECES);
    let (hold, held) = watch::channel(false);
    let mut bytes = received.bytes;
    let caller = match caller(
        &exec,
        received.descriptors,
        piece_receiver,
        held,
        nudge_receiver,
    ) {
        Ok(caller) => caller,
        // Output without a reader: a pipe whose reader has gone already.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            return write
                .write_all(
                    &Reply::Exited(Exited {
                        code: dispatch::EXIT_READER_GONE,
                        ..Exited::default()
                    })
                    .to_frame(),
                )
                .await;
        }
        Err(error) => {
            return write
                .write_all(
                    &Reply::Failed(format!("the command's own streams cannot be used: {error}"))
                        .to_frame(),
                )
                .await;
        }
    };
    let (started, mut has_started) = mpsc::channel(1);
    let execution = dispatch::execute(
        daemon.services(),
        &exec.target,
        caller,
        gone.clone(),
        move || {
            let _ = started.try_send(());
        },
    );
    let listening = listen(&mut read, &mut bytes, events, chunks, hold);
    tokio::pin!(execution, listening);
    let mut listens = true;
    let (ending, cleanup): (CommandResult, _) = loop {
        tokio::select! {
            ending = &mut execution => break ending,
            Some(()) = has_started.recv() => write.write_all(&Reply::Started.to_frame()).await?,
            () = &mut listening, if listens => {
                listens = false;
                gone.cancel();
            }
        }
    };
    let mut told = Ok(());
    if listens {
        let exited = Reply::Exited(ending);
        told = write.write_all(&exited.to_frame()).await;
    }
    // The client sees its end, whatever is left here.
    drop(write);
    if let Some(cleanup) = cleanup {
        cleanup.end().await;
    }
    told
}

/// The caller's own descriptors, ready to be awaited. Their flags stay unchanged.
fn caller(
    exec: &Exec,
    descriptors: Vec<OwnedFd>,
    chunks: mpsc::Receiver<Vec<u8>>,
    held: watch::Receiver<bool>,
    events: mpsc::Receiver<ControlEvent>,
) -> io::Result<Caller> {
    let mut descriptors = descriptors.into_iter();
    let mut next = || {
        descriptors
            .next()
            .ok_or_else(|| io::Error::other("a descriptor is missing"))
    };
    let stdin = match exec.stdin {
        Stdin::Fd => Source::adopt(next()?)?,
        Stdin::Streamed => Source::Chunks(chunks),
        Stdin::Empty => Source::Empty,
    };
    let stdout = Sink::adopt(next()?)?;
    let stderr = Sink::adopt(next()?)?;
    Ok(Caller {
        request: exec.request.clone(),
        terminal: exec.terminal.clone(),
        stdin,
        stdout,
        stderr,
        gate: PauseGate::new(held),
        events,
    })
}

/// Receives messages from the command line until it disconnects.
async fn listen(
    read: &mut tokio::net::unix::OwnedReadHalf,
    bytes: &mut Vec<u8>,
    events: mpsc::Sender<ControlEvent>,
    chunks: mpsc::Sender<Vec<u8>>,
    hold: watch::Sender<bool>,
) {
    let mut chunks = Some(chunks);
    // Input that the command has not read yet. Signals and the end of the command line are received all the while, so that a
    // command that reads nothing can still be ended.
    let mut typed = VecDeque::new();
    let mut held_back = 0;
    let mut ended = false;
    loop {
        if ended {
            chunks = None;
            typed.clear();
            held_back = 0;
            ended = false;
        }
        let message = tokio::select! {
            message = next_message(read, bytes), if held_back < TYPED_AHEAD => message,
            room = room_for(&chunks), if !typed.is_empty() => {
                let chunk: Vec<u8> = typed.pop_front().unwrap_or_default();
                held_back -= chunk.len();
                ended = chunk.is_empty() || room.is_none();
                // It is normal for a command to stop reading its input.
                if let Some(room) = room {
                    room.send(chunk);
                }
                continue;
            }
        };
        match message {
            Ok(Some(ClientMessage::Input(chunk))) => {
                if chunks.is_some() {
                    held_back += chunk.len();
                    typed.push_back(chunk);
                }
            }
            Ok(Some(ClientMessage::Signal(signal))) => {
                let _ = events.send(ControlEvent::Signal(signal)).await;
            }
            Ok(Some(ClientMessage::Resize(size))) => {
                let _ = events.send(ControlEvent::Resize(size)).await;
            }
            Ok(Some(ClientMessage::Pause)) => drop(hold.send_replace(true)),
            Ok(Some(ClientMessage::Resume)) => drop(hold.send_replace(false)),
            Ok(None) | Err(_) => return,
        }
    }
}

/// Waits for room for one more chunk of input; `None` if the command reads no more of it.
async fn room_for(chunks: &Option<mpsc::Sender<Vec<u8>>>) -> Option<mpsc::Permit<'_, Vec<u8>>> {
    match chunks {
        Some(chunks) => chunks.reserve().await.ok(),
        None => None,
    }
}

async fn next_message(
    read: &mut tokio::net::unix::OwnedReadHalf,
    bytes: &mut Vec<u8>,
) -> io::Result<Option<ClientMessage>> {
    loop {
        if let Some(message) = take_message(bytes)? {
            return Ok(message);
        }
        if read.read_buf(bytes).await? == 0 {
            return Ok(None);
        }
    }
}
