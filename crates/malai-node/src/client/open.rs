//! Opens a command on a machine: sends the open, and sends it again only if it is proven that it was never received.

use std::sync::Arc;
use std::time::{Duration, Instant};

use iroh::endpoint::{RecvStream, SendStream};
use malai_cluster::MachineId;
use malai_wire::peer::exec::{FromClient, FromServer, Open};
use malai_wire::peer::{RequestKind, StreamKind};
use malai_wire::{Refusal, RefusalCode, frame};
use tokio::sync::{oneshot, watch};

use super::{Caller, ExecError, end_or, lost};

use crate::exec::io::Source;
use crate::net::framing::{self, StreamError};
use crate::os::clock::BoundedInstant;
use crate::peer::activity::InUse;
use crate::peer::connection::PeerConnection;
use crate::peer::phase::RemoteHello;
use crate::peer::pool::PeerPool;
use crate::peer::streams::{RawStream, SessionStreams};

/// How long an open may go unanswered on a healthy connection before the peer is searched again.
const UNANSWERED: Duration = Duration::from_millis(150);

/// The longest pause between two looks for another run of the peer.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// How long an open is repeated while the machine closes connections to make room for others.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// How many connections are made for one command that end before it is sent, without a reason.
const MAX_CONNECTIONS: u32 = 3;

/// The pause before it is repeated.
const BUSY_INTERVAL: Duration = Duration::from_millis(50);

/// How far the clocks of two computers may drift apart while waiting for an answer: one part in this many. (Crystals keep 1/100
/// of that.) The sender rounds the age itself down.
const CLOCK_DRIFT: u32 = 500;

/// A command that the machine has accepted.
pub(super) struct Session {
    pub(super) connection: Arc<PeerConnection>,
    pub(super) control: SendStream,
    pub(super) answers: RecvStream,
    pub(super) stdout: oneshot::Receiver<RawStream>,
    pub(super) stderr: oneshot::Receiver<RawStream>,
    pub(super) streams: SessionStreams,
    pub(super) in_use: InUse,
    /// How many bytes of the input this side may send.
    pub(super) most_input: watch::Sender<u64>,
}

/// Sends the open and waits for the answer. If there is none, the open is sent again only if the peer's new instance proves that
/// no run of it has received the first one.
pub(super) async fn open(
    peers: &Arc<PeerPool>,
    target: MachineId,
    name: &str,
    caller: &Caller,
) -> Result<Session, ExecError> {
    let mut connection = peers.connect_for_session(target).await?;
    let asked = Instant::now();
    // How many connections were made for this command.
    let mut made = 0;
    loop {
        let sent = BoundedInstant::now();
        let mut session = match send_open(&connection, caller).await {
            Ok(session) => session,
            // The open was not completely written, so it was not run.
            Err(error) => {
                let refusal = connection.refused().filter(is_before_requests);
                let is_in_vain = match &refusal {
                    Some(refusal) => refusal.known_code() != Some(RefusalCode::Busy) && made > 0,
                    None => made == MAX_CONNECTIONS,
                };
                if is_in_vain || asked.elapsed() >= BUSY_TIMEOUT {
                    return Err(match refusal {
                        Some(refusal) => ExecError::Refused {
                            machine: name.to_owned(),
                            refusal,
                        },
                        None => ExecError::NotSent {
                            machine: name.to_owned(),
                            why: end_or(&connection, error.to_string()),
                        },
                    });
                }
                if made > 0 {
                    tokio::time::sleep(BUSY_INTERVAL).await;
                }
                made += 1;
                connection = peers.dial_new(target).await?;
                continue;
            }
        };
        let answer = tokio::select! {
            answer = answer(&mut session.answers, &session.most_input) => answer,
            next = replaced(peers, &connection, sent) => match next {
                Ok(next) => {
                    connection.close(&Refusal::new(RefusalCode::Done, "the peer's daemon was restarted"));
                    connection = next;
                    continue;
                }
                Err(why) => return Err(ExecError::Lost { machine: name.to_owned(), why }),
            },
        };
        match answer {
            Ok(Some(FromServer::Accepted)) => {
                connection.heard_now();
                return Ok(session);
            }
            Ok(Some(FromServer::Refused(refusal))) => {
                return Err(ExecError::Refused {
                    machine: name.to_owned(),
                    refusal,
                });
            }
            Ok(Some(FromServer::Exit(_) | FromServer::Input(_))) => {
                return Err(lost(name, &"it ended before it was accepted"));
            }
            Ok(None) => {
                return Err(lost(
                    name,
                    &"the machine ended the request without an answer",
                ));
            }
            Err(error) => {
                // A connection that was closed to make room for others carried no request that was received and not answered,
                // and one that the peer closed in its handshake none that it could read.
                let refusal = connection.refused().filter(is_before_requests);
                let may_succeed = match &refusal {
                    Some(refusal) => refusal.known_code() == Some(RefusalCode::Busy),
                    None => connection.ended_in_handshake(),
                };
                if may_succeed && asked.elapsed() < BUSY_TIMEOUT {
                    tokio::time::sleep(BUSY_INTERVAL).await;
                    connection = peers.dial_new(target).await?;
                    continue;
                }
                if let Some(refusal) = refusal {
                    return Err(ExecError::Refused {
                        machine: name.to_owned(),
                        refusal,
                    });
                }
                if may_succeed {
                    return Err(ExecError::NotSent {
                        machine: name.to_owned(),
                        why: connection.end(),
                    });
                }
                match never_received(peers, &connection, sent).await {
                    Some(next) => connection = next,
                    None => return Err(lost(name, &end_or(&connection, error.to_string()))),
                }
            }
        }
    }
}

/// Whether a peer that closes its connection with this refusal has not looked at a request without answering it: it rejects
/// this machine as a whole, or makes room for others.
fn is_before_requests(refusal: &Refusal) -> bool {
    matches!(
        refusal.known_code(),
        Some(RefusalCode::NotAMember | RefusalCode::Version | RefusalCode::Busy)
    )
}

/// The next answer of the machine. What it says about the input is noted meanwhile.
pub(super) async fn answer(
    answers: &mut RecvStream,
    most_input: &watch::Sender<u64>,
) -> Result<Option<FromServer>, StreamError> {
    let mut is_limited = *most_input.borrow() != u64::MAX;
    loop {
        match framing::read(answers, frame::SMALL).await? {
            Some(FromServer::Input(most)) => {
                most_input.send_modify(|input| {
                    *input = if is_limited { most.max(*input) } else { most };
                });
                is_limited = true;
            }
            answer => return Ok(answer),
        }
    }
}

async fn send_open(
    connection: &Arc<PeerConnection>,
    caller: &Caller,
) -> Result<Session, StreamError> {
    let in_use = connection.in_use();
    let (mut control, answers) = connection.open(RequestKind::Exec).await?;
    let streams = connection.start_session(&control);
    let open = Open {
        request: caller.request.clone(),
        stdin: !matches!(caller.stdin, Source::Empty),
        terminal: caller.terminal.clone(),
    };
    // An open that is refused for its length is not read to its end: the answer says so.
    if let Err(error) = framing::write(&mut control, &FromClient::Open(open)).await
        && connection.is_closed()
    {
        return Err(error);
    }
    Ok(Session {
        connection: connection.clone(),
        control,
        answers,
        stdout: streams.expect(StreamKind::Stdout),
        stderr: streams.expect(StreamKind::Stderr),
        streams,
        in_use,
        most_input: watch::Sender::new(u64::MAX),
    })
}

/// Resolves only if the peer stays silent and another run of it is found: to a connection to that run if it proves that the open
/// was never received, otherwise to what has happened.
async fn replaced(
    peers: &Arc<PeerPool>,
    connection: &Arc<PeerConnection>,
    sent: BoundedInstant,
) -> Result<Arc<PeerConnection>, String> {
    let mut pause = UNANSWERED + 2 * connection.round_trip().unwrap_or_default();
    let mut between = UNANSWERED;
    loop {
        tokio::time::sleep(pause).await;
        // A large argument list on a slow path is not silence: a peer that answers a ping is alive.
        if !connection.ping(connection.ping_timeout(UNANSWERED)).await && !connection.is_closed() {
            match peers.find_restarted_peer(connection).await {
                Some(next) if proves(connection, &next, sent) => return Ok(next),
                Some(_) => return Err("the machine's daemon was restarted".into()),
                None => {}
            }
        }
        // Ever less often: of hundreds of commands that wait for slow machines, the pings would be most of the work.
        pause = between;
        between = (between * 2).min(MAX_PAUSE);
    }
}

/// After a connection was lost: a connection to a new run of the peer that proves that the old run never received the open.
async fn never_received(
    peers: &Arc<PeerPool>,
    connection: &Arc<PeerConnection>,
    sent: BoundedInstant,
) -> Option<Arc<PeerConnection>> {
    let next = peers.find_restarted_peer(connection).await?;
    proves(connection, &next, sent).then_some(next)
}

/// Whether the new run proves that the old one never received the open. It does if it was serving before the open was sent: the
/// old run, which held the lock of the same home, had ended by then.
fn proves(old: &PeerConnection, new: &PeerConnection, sent: BoundedInstant) -> bool {
    let (Some(old), Some(new)) = (old.hello(), new.hello()) else {
        return false;
    };
    old.hello.instance != new.hello.instance && had_begun(&new, sent)
}

/// Whether the run of this hello was serving at that time.
fn had_begun(run: &RemoteHello, by: BoundedInstant) -> bool {
    // Its hello had arrived by then; otherwise its age has to reach back to then.
    let waited = run.at.max_elapsed_since(&by);
    waited.is_zero() || Duration::from_millis(run.hello.age_ms) > waited + waited / CLOCK_DRIFT
}

#[cfg(test)]
mod tests {
    use malai_wire::peer::hello::Hello;
    use malai_wire::version::Versions;

    use super::{RemoteHello, had_begun};
    use crate::os::clock::BoundedInstant;

    fn hello(at: BoundedInstant, age_ms: u64) -> RemoteHello {
        RemoteHello {
            hello: Hello {
                versions: Versions::OURS,
                instance: [1; 16],
                age_ms,
                serves: true,
                header: None,
                claim: None,
            },
            at,
        }
    }

    /// The next time that the clocks tell apart from this one.
    fn after(earlier: BoundedInstant) -> BoundedInstant {
        loop {
            let now = BoundedInstant::now();
            if !now.max_elapsed_since(&earlier).is_zero() {
                return now;
            }
        }
    }

    #[test]
    fn only_a_run_that_had_begun_before_the_open_was_sent_proves_anything() {
        let early = BoundedInstant::now();
        let sent = after(early);
        let late = after(sent);
        // Its hello had arrived, however young it was.
        assert!(had_begun(&hello(early, 0), sent));
        assert!(had_begun(&hello(sent, 0), sent));
        // Its hello came later: it may have begun in between, unless it is old enough.
        assert!(!had_begun(&hello(late, 0), sent));
        assert!(had_begun(&hello(late, 60_000), sent));
    }

    #[test]
    fn an_age_that_two_clocks_might_disagree_about_proves_nothing() {
        let sent = BoundedInstant::now();
        let late = after(sent);
        let waited = late.max_elapsed_since(&sent);
        let exactly = u64::try_from(waited.as_millis()).unwrap();
        assert!(!had_begun(&hello(late, exactly), sent));
    }
}
