//! Serving a command: the control stream on one side, a process on the other.

use std::sync::Arc;

use iroh::endpoint::{RecvStream, SendStream};
use malai_wire::peer::Uni;
use malai_wire::peer::exec::{FromClient, FromServer, Open, Signal};
use malai_wire::{Refusal, RefusalCode, frame};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::gate::{self, Command, Granted};
use crate::flow::{Gate, Sink, Source, ToPeer};
use crate::frames::{self, PATIENCE};
use crate::link::{Link, number};
use crate::process::{self, Outcome, Remains, Streams};

/// Serves one control stream.
pub async fn serve(
    link: &Arc<Link>,
    mut send: SendStream,
    mut recv: RecvStream,
    stdin: oneshot::Receiver<RecvStream>,
) {
    let open = match frames::expect(&mut recv, frame::OPEN, PATIENCE).await {
        Ok(FromClient::Open(open)) => open,
        Ok(FromClient::Signal(_)) => {
            return refuse(
                &mut send,
                Refusal::new(RefusalCode::Protocol, "a signal before the command"),
            )
            .await;
        }
        Err(error) => {
            return refuse(
                &mut send,
                Refusal::new(RefusalCode::Protocol, error.to_string()),
            )
            .await;
        }
    };
    let granted = match gate::exec(
        &link.membership,
        link.peer,
        link.address().into(),
        &open.argv,
    ) {
        Ok(granted) => granted,
        Err(refusal) => return refuse(&mut send, refusal).await,
    };
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
        let _ = tokio::time::timeout(PATIENCE, send.stopped()).await;
    }
    drop(serving);
    if let Some(remains) = remains {
        remains.end().await;
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
        stdout: Sink::Stream(ToPeer::new(link.clone(), Uni::Stdout, session)),
        stderr: Sink::Stream(ToPeer::new(link.clone(), Uni::Stderr, session)),
        gate: Gate::open(),
    };
    let (signal_sender, signals) = mpsc::channel(16);
    let gone = CancellationToken::new();
    let _in_use = link.in_use();
    let run = process::run(&link.membership, granted, streams, signals, gone.clone());
    tokio::pin!(run);
    let outcome = tokio::select! {
        outcome = &mut run => outcome,
        () = listen(link, recv, signal_sender) => {
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
        Outcome::Ended(reason, remains) => {
            let refusal = Refusal::new(RefusalCode::NotAllowed, reason);
            (Some(FromServer::Refused(refusal)), Some(remains))
        }
        Outcome::Failed(why) => {
            let refusal = Refusal::new(RefusalCode::Failed, why);
            (Some(FromServer::Refused(refusal)), None)
        }
    }
}

/// Passes signals on until the client goes.
async fn listen(link: &Arc<Link>, mut recv: RecvStream, signals: mpsc::Sender<Signal>) {
    loop {
        match frames::read(&mut recv, frame::SMALL).await {
            Ok(Some(FromClient::Signal(signal))) => {
                link.heard_now();
                if signals.send(signal).await.is_err() {
                    return;
                }
            }
            Ok(Some(FromClient::Open(_)) | None) | Err(_) => return,
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
