//! Serving a command: the control stream on one side, a process on the other.

use std::sync::Arc;

use iroh::endpoint::{RecvStream, SendStream};
use malai_wire::frame::{self, FrameError};
use malai_wire::peer::StreamKind;
use malai_wire::peer::exec::{FromClient, FromServer, Open};
use malai_wire::{Refusal, RefusalCode};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::gate::{self, Command, Granted};
use crate::flow::{Gate, Sink, Source, ToPeer};
use crate::frames::{self, StreamError};
use crate::limits::Room;
use crate::link::{Link, number};
use crate::process::{self, Nudge, Outcome, Remains, Streams};

/// Serves one control stream.
pub async fn serve(
    link: &Arc<Link>,
    mut send: SendStream,
    mut recv: RecvStream,
    stdin: oneshot::Receiver<RecvStream>,
) {
    let limiter = &link.membership.limiter;
    let begun = match opened(link, &mut recv).await {
        // Counted before it is judged, so that what was allowed also runs.
        Ok((open, room)) => limiter.session(link.peer).map(|place| (open, room, place)),
        Err(refusal) => Err(refusal),
    };
    let (open, room, _place) = match begun {
        Ok(begun) => begun,
        Err(refusal) => {
            // What is still to come of a long one is not wanted; its sender looks for the answer then.
            let _ = recv.stop(0u32.into());
            return refuse(&mut send, refusal).await;
        }
    };
    let granted = match gate::exec(
        &link.membership,
        link.peer,
        link.address().into(),
        &open.action,
    ) {
        Ok(granted) => granted,
        Err(refusal) => return refuse(&mut send, refusal).await,
    };
    drop(room);
    let serving = link.serving();
    if frames::write(&mut send, &FromServer::Accepted)
        .await
        .is_err()
    {
        return;
    }
    let (answer, remains) = execute(link, granted, &open, &send, recv, stdin).await;
    if let Some(answer) = answer
        && frames::write(&mut send, &answer).await.is_ok()
    {
        let _ = send.finish();
    }
    let end = async {
        if let Some(remains) = remains {
            remains.end().await;
        }
    };
    // Until the answer has arrived, or never can: a connection with an answer under way must not
    // make room for others, or the client would take the request for one that nobody looked at.
    let told = async {
        let _ = send.stopped().await;
        drop(serving);
    };
    tokio::join!(told, end);
}

/// Reads the open, in its time and with room for it.
async fn opened(link: &Arc<Link>, recv: &mut RecvStream) -> Result<(Open, Room), Refusal> {
    let limiter = &link.membership.limiter;
    let limits = limiter.limits();
    let most = limits.argument_bytes as usize + frame::SMALL;
    let read = async {
        loop {
            let announced = frames::announced(recv, most).await?;
            let announced = announced.ok_or(StreamError::Ended)?;
            let room = limiter.room(link.peer, announced.length).await;
            if let Some(message) = frames::body(recv, announced).await? {
                return Ok((message, room));
            }
        }
    };
    match tokio::time::timeout(limits.opening(), read).await {
        Ok(Ok((FromClient::Open(open), room))) => Ok((open, room)),
        Ok(Ok((FromClient::Signal(_) | FromClient::Resize(_), _))) => Err(Refusal::new(
            RefusalCode::Protocol,
            "a signal or a size before the command",
        )),
        Ok(Err(StreamError::Frame(FrameError::TooLarge { length, .. })))
            if length <= frame::OPEN =>
        {
            Err(limiter.refused("argument_bytes", limits.argument_bytes))
        }
        Ok(Err(error)) => Err(Refusal::new(RefusalCode::Protocol, error.to_string())),
        Err(_) => Err(limiter.refused("opening_seconds", limits.opening_seconds)),
    }
}

/// Runs the command. Returns what its client is told, if it is still there, and what is left to end.
async fn execute(
    link: &Arc<Link>,
    granted: Granted<Command>,
    open: &Open,
    send: &SendStream,
    recv: RecvStream,
    stdin: oneshot::Receiver<RecvStream>,
) -> (Option<FromServer>, Option<Remains>) {
    let session = number(send);
    let stdin = if open.stdin {
        Source::Expected(stdin)
    } else {
        Source::Empty
    };
    let streams = Streams {
        stdin,
        stdout: Sink::Stream(ToPeer::new(link.clone(), StreamKind::Stdout, session)),
        stderr: Sink::Stream(ToPeer::new(link.clone(), StreamKind::Stderr, session)),
        gate: Gate::open(),
        terminal: open.terminal.clone(),
    };
    let (nudge_sender, nudges) = mpsc::channel(16);
    let gone = CancellationToken::new();
    let _in_use = link.in_use();
    let run = process::run(&link.membership, granted, streams, nudges, gone.clone());
    tokio::pin!(run);
    let outcome = tokio::select! {
        outcome = &mut run => outcome,
        () = listen(link, recv, nudge_sender) => {
            gone.cancel();
            run.await
        }
    };
    match outcome {
        Outcome::Exit(exit) | Outcome::ReaderGone(exit) => (Some(FromServer::Exit(exit)), None),
        Outcome::ClientGone => {
            tracing::info!(cluster = %link.membership.alias(), peer = %link.peer.short(), "the client went before the end; its command was ended");
            (None, None)
        }
        Outcome::Ended(reason, remains) => (Some(FromServer::Refused(reason)), Some(remains)),
        Outcome::Failed(why) => {
            let refusal = Refusal::new(RefusalCode::Failed, why);
            (Some(FromServer::Refused(refusal)), None)
        }
    }
}

/// Passes signals and sizes on until the client goes.
async fn listen(link: &Arc<Link>, mut recv: RecvStream, nudges: mpsc::Sender<Nudge>) {
    loop {
        let nudge = match frames::read(&mut recv, frame::SMALL).await {
            Ok(Some(FromClient::Signal(signal))) => Nudge::Signal(signal),
            Ok(Some(FromClient::Resize(size))) => Nudge::Resize(size),
            Ok(Some(FromClient::Open(_)) | None) | Err(_) => return,
        };
        link.heard_now();
        if nudges.send(nudge).await.is_err() {
            return;
        }
    }
}

async fn refuse(send: &mut SendStream, refusal: Refusal) {
    if frames::write(send, &FromServer::Refused(refusal))
        .await
        .is_ok()
    {
        let _ = send.finish();
        let _ = send.stopped().await;
    }
}
