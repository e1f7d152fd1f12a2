//! Serves a command: the control stream on one side, a process on the other.

use std::sync::Arc;

use iroh::endpoint::{RecvStream, SendStream};
use malai_wire::frame::{self, FrameError};
use malai_wire::peer::StreamKind;
use malai_wire::peer::exec::{FromClient, FromServer, Open};
use malai_wire::{Refusal, RefusalCode};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::cluster::authorize::{self, Command, Granted};
use crate::exec::child::PendingCleanup;
use crate::exec::io::{LazySendStream, PauseGate, Sink, Source};
use crate::exec::process::{self, Outcome};
use crate::exec::stdio::{ControlEvent, Stdio};
use crate::net::framing::{self, StreamError};
use crate::node::limits::BufferReservation;
use crate::peer::connection::{IncomingRequest, PeerConnection};
use crate::peer::streams::SessionStreams;
use crate::peer::windows::Input;
use crate::server::input_limit::InputLimit;
use crate::server::last_message;

/// Serves one control stream.
pub(crate) async fn serve(connection: &Arc<PeerConnection>, request: IncomingRequest) {
    let IncomingRequest {
        mut send,
        mut recv,
        streams,
    } = request;
    let limiter = &connection.cluster_state.node.limiter;
    let begun = match opened(connection, &mut recv).await {
        // Counted before the decision, so that an allowed command can also run.
        Ok((open, room)) => limiter.session(connection.peer).and_then(|slot| {
            let share = connection.share_for_peer(input(&open))?;
            Ok((open, room, slot, share))
        }),
        Err(refusal) => Err(refusal),
    };
    let (open, room, _slot, share) = match begun {
        Ok(begun) => begun,
        Err(refusal) => {
            // The rest of a long request is not wanted; its sender then reads the answer.
            let _ = recv.stop(0u32.into());
            return last_message(connection, &mut send, &FromServer::Refused(refusal)).await;
        }
    };
    let granted = match authorize::exec(
        &connection.cluster_state,
        connection.peer,
        connection.address().into(),
        &open.request,
    ) {
        Ok(granted) => granted,
        Err(refusal) => {
            return last_message(connection, &mut send, &FromServer::Refused(refusal)).await;
        }
    };
    drop(room);
    let input_window = share.input_window();
    let in_use = connection.in_use_by_peer(share);
    let serving = connection.serving();
    let mut limit = input_window.map(InputLimit::new);
    let accepted = async {
        complete(&mut limit, &mut send).await?;
        framing::write(&mut send, &FromServer::Accepted).await
    };
    if accepted.await.is_err() {
        return;
    }
    let control = (&mut send, recv);
    let (answer, cleanup) = execute(connection, granted, &open, control, &mut limit, streams).await;
    drop(in_use);
    if let Some(answer) = answer
        && complete(&mut limit, &mut send).await.is_ok()
        && framing::write(&mut send, &answer).await.is_ok()
    {
        connection.finish(&mut send);
    }
    drop(serving);
    let end = async {
        if let Some(cleanup) = cleanup {
            cleanup.end().await;
        }
    };
    // The request counts until its answer has been received, or never can be.
    let _ = tokio::join!(send.stopped(), end);
}

/// What the command reads.
fn input(open: &Open) -> Input {
    match (open.stdin, &open.terminal) {
        (false, _) => Input::None,
        (true, Some(_)) => Input::Terminal,
        (true, None) => Input::Stream,
    }
}

/// Reads the open, within its timeout and with buffer space for it.
async fn opened(
    connection: &Arc<PeerConnection>,
    recv: &mut RecvStream,
) -> Result<(Open, BufferReservation), Refusal> {
    let limiter = &connection.cluster_state.node.limiter;
    let limits = limiter.limits();
    let most = limits.argument_bytes as usize + frame::SMALL;
    let deadline = Instant::now() + limits.opening();
    let too_late = || limiter.refused("opening_seconds", limits.opening_seconds);
    let unreadable = |error| match error {
        StreamError::Frame(FrameError::TooLarge { length, .. }) if length <= frame::OPEN => {
            limiter.refused("argument_bytes", limits.argument_bytes)
        }
        error => Refusal::new(RefusalCode::Protocol, error.to_string()),
    };
    loop {
        let header = timeout_at(deadline, framing::read_header(recv, most)).await;
        let header = header.map_err(|_| too_late())?.map_err(unreadable)?;
        let header = header.ok_or_else(|| unreadable(StreamError::Ended))?;
        let peer = connection.peer;
        let reservation = limiter.reserve(peer, header.length, deadline).await?;
        let body = timeout_at(deadline, framing::body(recv, header)).await;
        match body.map_err(|_| too_late())?.map_err(unreadable)? {
            // The frame has room for more than the arguments.
            Some(FromClient::Open(open))
                if open.request.action.argument_bytes() > limits.argument_bytes as usize =>
            {
                return Err(limiter.refused("argument_bytes", limits.argument_bytes));
            }
            Some(FromClient::Open(open)) => return Ok((open, reservation)),
            Some(FromClient::Signal(_) | FromClient::Resize(_)) => {
                let why = "protocol error: the stream starts with a signal or a size instead of a command";
                return Err(Refusal::new(RefusalCode::Protocol, why));
            }
            None => {}
        }
    }
}

/// Completes a message about the input that was begun.
async fn complete(
    limit: &mut Option<InputLimit>,
    send: &mut SendStream,
) -> Result<(), StreamError> {
    let Some(limit) = limit else { return Ok(()) };
    let completed = limit.complete(send).await;
    completed.map_err(|error| StreamError::ConnectionLost(error.to_string()))
}

/// Runs the command. Returns what to tell its client, if it is still there, and what is left to end.
async fn execute(
    connection: &Arc<PeerConnection>,
    granted: Granted<Command>,
    open: &Open,
    (send, recv): (&mut SendStream, RecvStream),
    limit: &mut Option<InputLimit>,
    streams: SessionStreams,
) -> (Option<FromServer>, Option<PendingCleanup>) {
    let session = streams.session();
    // Without input the streams are dropped, which rejects an unexpected one.
    let (stdin, _streams) = if open.stdin {
        let stdin = streams.expect(StreamKind::Stdin);
        let reporter = limit.as_ref().map(InputLimit::reporter);
        (Source::Pending(stdin, reporter), Some(streams))
    } else {
        drop(streams);
        (Source::Empty, None)
    };
    let stdio = Stdio {
        stdin,
        stdout: Sink::Stream(LazySendStream::new(
            connection.clone(),
            StreamKind::Stdout,
            session,
        )),
        stderr: Sink::Stream(LazySendStream::new(
            connection.clone(),
            StreamKind::Stderr,
            session,
        )),
        gate: PauseGate::open(),
        terminal: open.terminal.clone(),
    };
    let (nudge_sender, events) = mpsc::channel(16);
    let gone = CancellationToken::new();
    let run = process::run(
        &connection.cluster_state,
        granted,
        stdio,
        events,
        gone.clone(),
    );
    tokio::pin!(run);
    let limiting = async {
        match limit {
            Some(limit) => limit.keep(send).await,
            None => std::future::pending().await,
        }
    };
    let outcome = tokio::select! {
        outcome = &mut run => outcome,
        never = limiting => match never {},
        () = listen(connection, recv, nudge_sender) => {
            gone.cancel();
            run.await
        }
    };
    match outcome {
        Outcome::Exit(exit) | Outcome::ReaderGone(exit) => (Some(FromServer::Exit(exit)), None),
        Outcome::ClientGone => {
            tracing::info!(cluster = %connection.cluster_state.alias(), peer = %connection.peer.short(), "the client disconnected; its command was ended");
            (None, None)
        }
        Outcome::Ended(reason, cleanup) => (Some(FromServer::Refused(reason)), Some(cleanup)),
        Outcome::Unwritable(why) | Outcome::Failed(why) => {
            let refusal = Refusal::new(RefusalCode::Failed, why);
            (Some(FromServer::Refused(refusal)), None)
        }
    }
}

/// Passes on signals and sizes until the client disconnects.
async fn listen(
    connection: &Arc<PeerConnection>,
    mut recv: RecvStream,
    events: mpsc::Sender<ControlEvent>,
) {
    loop {
        let event = match framing::read(&mut recv, frame::SMALL).await {
            Ok(Some(FromClient::Signal(signal))) => ControlEvent::Signal(signal),
            Ok(Some(FromClient::Resize(size))) => ControlEvent::Resize(size),
            Ok(Some(FromClient::Open(_)) | None) | Err(_) => return,
        };
        connection.heard_now();
        if events.send(event).await.is_err() {
            return;
        }
    }
}
