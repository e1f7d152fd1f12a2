//! Connections of this computer to HTTP services: their bytes are passed on as they are, and what cannot be passed on
//! has an answer that says why.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use malai_cluster::escape;
use malai_wire::{Refusal, RefusalCode};
use tokio_util::sync::CancellationToken;

use super::forward::{Found, NotOpened, Opened};
use crate::audit::Counts;
use crate::client::connect::ConnectError;
use crate::forward::bridge::End;
use crate::forward::http::answer::{self, Answer};
use crate::forward::socket::Socket;
use crate::forward::wire::Wire;

/// How long it may take until a client has its answer. Reaching a machine may take longer.
const ANSWER: Duration = Duration::from_secs(9);

/// Passes one connection on, to its end.
///
/// # Errors
///
/// Why it was not opened, or was cut off, with the name of the service. The client has been answered.
pub(super) async fn pass(
    found: &Found,
    socket: Socket,
    gone: &CancellationToken,
) -> Result<(), String> {
    let state = &found.service.cluster_state;
    let limiter = &state.node.limiter;
    let opened = async {
        let counted = limiter.local_forward().map_err(|refusal| of(&refusal))?;
        Ok::<_, Answer>((open(found).await?, counted))
    };
    let opened = tokio::select! {
        opened = opened => opened,
        () = gone.cancelled() => return Ok(()),
    };
    let (opened, _counted) = match opened {
        Ok(opened) => opened,
        Err(mut answer) => {
            answer.why = format!("{}: {}", found.name, answer.why);
            let why = answer.why.clone();
            let bounds = (&*limiter.limits()).into();
            let (client, _) = Wire::new(End::Socket(socket), Arc::<Counts>::default());
            tokio::select! {
                () = answer::always(client, answer, bounds) => {}
                () = gone.cancelled() => {}
            }
            return Err(why);
        }
    };
    opened.pass(found, socket, gone).await
}

/// Opens the connection within the time that a client waits for its answer.
async fn open(found: &Found) -> Result<Opened, Answer> {
    match tokio::time::timeout(ANSWER, found.open()).await {
        Ok(Ok(opened)) => Ok(opened),
        Ok(Err(why)) => Err(Answer::new(status(&why), why.to_string())),
        Err(_) => Err(absent(&format_args!(
            "{} has not answered within {} s",
            found.machine_name,
            ANSWER.as_secs()
        ))),
    }
}

fn absent(why: &dyn Display) -> Answer {
    Answer::new(StatusCode::GATEWAY_TIMEOUT, why.to_string())
}

/// A refusal as an answer.
fn of(refusal: &Refusal) -> Answer {
    Answer::new(refused(refusal.known_code()), escape(&refusal.message))
}

fn status(why: &NotOpened) -> StatusCode {
    match why {
        NotOpened::Here(refusal) => refused(refusal.known_code()),
        NotOpened::There(ConnectError::Reach(_)) => StatusCode::GATEWAY_TIMEOUT,
        NotOpened::There(ConnectError::Refused { code, .. }) => refused(*code),
        NotOpened::There(ConnectError::Cut { .. }) => StatusCode::BAD_GATEWAY,
    }
}

fn refused(code: Option<RefusalCode>) -> StatusCode {
    match code {
        Some(RefusalCode::NotAllowed | RefusalCode::NotAMember) => StatusCode::FORBIDDEN,
        Some(RefusalCode::Busy | RefusalCode::Stopping) => StatusCode::SERVICE_UNAVAILABLE,
        // The machine was not heard from.
        None => StatusCode::GATEWAY_TIMEOUT,
        Some(_) => StatusCode::BAD_GATEWAY,
    }
}
