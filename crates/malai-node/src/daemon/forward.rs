//! Passes connections on for `malai forward`, as long as its command line is there.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use malai_cluster::Target;
use malai_wire::control::{Exited, Forward, Forwarded, Reply};
use malai_wire::frame::Tagged;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;

use super::Daemon;
use crate::forward::socket::{Listener, Socket};
use crate::service::forward::{ForwardBoard, ForwardRoute};

/// Passes the connections of a descriptor on, until the command line disconnects or the daemon stops.
///
/// # Errors
///
/// The command line cannot be told.
pub(super) async fn run(
    stream: UnixStream,
    daemon: Arc<Daemon>,
    forward: Forward,
    descriptor: Option<OwnedFd>,
    gone: CancellationToken,
) -> io::Result<()> {
    let (mut read, mut write) = stream.into_split();
    let usable = || {
        let target = Target::parse(&forward.target).map_err(|error| error.to_string())?;
        let route = ForwardRoute {
            services: Arc::new(move || daemon.services()),
            target,
            to: forward.to.clone(),
        };
        route.check()?;
        let descriptor = descriptor.ok_or_else(|| "the descriptor is missing".to_owned())?;
        Ok((route, descriptor))
    };
    let (route, descriptor) = match usable() {
        Ok(usable) => usable,
        Err(why) => return write.write_all(&Reply::Failed(why).to_frame()).await,
    };
    let left = gone.child_token();
    let leaves = async {
        // Nothing more is sent; the end of the stream is the end of the command line.
        let mut byte = [0; 1];
        while read.read(&mut byte).await.is_ok_and(|count| count > 0) {}
        left.cancel();
    };
    if !forward.listens {
        let passed = match Socket::adopt(descriptor) {
            Ok(socket) => {
                let known = Reply::Forwarded(Forwarded::default());
                write.write_all(&known.to_frame()).await?;
                let passing = route.pass(socket, &left);
                tokio::pin!(passing);
                tokio::select! {
                    passed = &mut passing => passed,
                    () = leaves => passing.await,
                }
            }
            Err(error) => Err(format!("the socket cannot be used: {error}")),
        };
        let exited = passed.map_or_else(Exited::failed, |()| Exited::exit(0));
        return write.write_all(&Reply::Exited(exited).to_frame()).await;
    }
    let listener = match Listener::adopt(descriptor) {
        Ok(listener) => listener,
        Err(error) => {
            let why = format!("the socket cannot be used: {error}");
            return write.write_all(&Reply::Failed(why).to_frame()).await;
        }
    };
    let (board, mut counts, mut problems) = ForwardBoard::new();
    let tell = async {
        loop {
            let mut state = counts.borrow_and_update().clone();
            state.problem = problems.try_recv().ok();
            write.write_all(&Reply::Forwarded(state).to_frame()).await?;
            if !problems.is_empty() {
                continue;
            }
            tokio::select! {
                changed = counts.changed() => if changed.is_err() {
                    return Ok::<(), io::Error>(());
                },
                Some(problem) = problems.recv() => {
                    let mut state = counts.borrow_and_update().clone();
                    state.problem = Some(problem);
                    write.write_all(&Reply::Forwarded(state).to_frame()).await?;
                }
            }
        }
    };
    let listening = route.listen(listener, &board, &left);
    tokio::pin!(listening);
    tokio::select! {
        () = &mut listening => {}
        () = leaves => {}
        told = tell => told?,
    }
    left.cancel();
    listening.await;
    Ok(())
}
