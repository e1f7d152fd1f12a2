//! Serving others: one request a stream, each through the gate.

pub mod exec;
pub mod gate;
mod sync;

use std::sync::Arc;

use iroh::endpoint::{RecvStream, SendStream};
use malai_wire::peer::Bidi;
use tokio::sync::oneshot;

use crate::frames::PATIENCE;
use crate::link::Link;

/// Serves one request stream of a member.
pub async fn serve(
    link: Arc<Link>,
    mut send: SendStream,
    mut recv: RecvStream,
    stdin: oneshot::Receiver<RecvStream>,
) {
    let mut kind = [0; 1];
    let Ok(Ok(())) = tokio::time::timeout(PATIENCE, recv.read_exact(&mut kind)).await else {
        return;
    };
    match Bidi::from_byte(kind[0]) {
        Some(Bidi::Exec) => exec::serve(&link, send, recv, stdin).await,
        Some(Bidi::Fetch) => sync::give(&link, send, recv).await,
        Some(Bidi::Compare) => sync::compare(&link, send, recv).await,
        Some(Bidi::Ping) => {
            let _ = send.write_all(&[0]).await;
            let _ = send.finish();
        }
        None => {
            let _ = recv.stop(0u32.into());
            let _ = send.reset(0u32.into());
        }
    }
}
