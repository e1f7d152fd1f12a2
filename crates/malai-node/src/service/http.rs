//! Connections of this computer to HTTP services: their bytes are passed on as they are, and what cannot be passed on
//! has an answer that says why.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use malai_cluster::escape;
use malai_wire::{Refusal, RefusalCode};
use tokio_util::sync::CancellationToken;

use super::forward::Found;
use crate::audit::{Counts, Origin};
use crate::client::connect::{self, ConnectError, Opened};
use crate::cluster::authorize;
use crate::forward::bridge::End;
use crate::forward::http::answer::{self, Answer};
use crate::forward::socket::Socket;
use crate::forward::upstream;
use crate::forward::wire::Wire;

/// How long it may take until a client has its answer. Reaching a machine may take longer.
const ANSWER: Duration = Duration::from_secs(9);

/// Where a connection leads.
enum Way {
    Here(Box<upstream::Opened>),
    There(Opened),
}

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
        Ok::<_, Answer>((opened(found).await?, counted))
    };
    let opened = tokio::select! {
        opened = opened => opened,
        () = gone.cancelled() => return Ok(()),
    };
    let (way, _counted) = match opened {
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
    let passed = match way {
        Way::Here(opened) => {
            opened.pass(End::Socket(socket), gone).await;
            return Ok(());
        }
        Way::There(opened) => opened.pass(&found.name, &found.destination, socket),
    };
    tokio::select! {
        passed = passed => passed.map_err(|error| format!("{}: {error}", found.name)),
        // Dropping both ends resets them.
        () = gone.cancelled() => Ok(()),
    }
}

async fn opened(found: &Found) -> Result<Way, Answer> {
    let (state, destination) = (&found.service.cluster_state, &found.destination);
    if found.machine == state.local_id {
        let opened = async {
            let granted = authorize::connect(state, found.machine, Origin::Here, destination)?;
            upstream::open(state, granted, None).await
        };
        let opened = opened.await.map_err(|refusal| of(&refusal))?;
        return Ok(Way::Here(Box::new(opened)));
    }
    let peers = &found.service.peers;
    let opening = connect::open(peers, found.machine, &found.machine_name, destination);
    match tokio::time::timeout(ANSWER, opening).await {
        Ok(Ok(opened)) => Ok(Way::There(opened)),
        Ok(Err(error)) => Err(Answer::new(status(&error), error.to_string())),
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

fn status(error: &ConnectError) -> StatusCode {
    match error {
        ConnectError::Reach(_) => StatusCode::GATEWAY_TIMEOUT,
        ConnectError::Refused { code, .. } => refused(*code),
        ConnectError::Cut { .. } => StatusCode::BAD_GATEWAY,
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
