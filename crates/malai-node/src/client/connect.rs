//! Opens connections to services of other machines, and passes bytes between them and sockets of this computer.

use std::sync::{Arc, Weak};
use std::time::Duration;

use malai_cluster::MachineId;
use malai_wire::RefusalCode;
use malai_wire::action::Asked;
use malai_wire::peer::RequestKind;
use malai_wire::peer::connect::{Destination, FromClient, FromServer, RESET};

use super::end_or;
use crate::audit::Counts;
use crate::forward::bridge::{Broken, End, PeerStream, both_ways};
use crate::forward::socket::Socket;
use crate::net::framing::StreamError;
use crate::node::sessions::{Live, OutboundSession, PathInfo};
use crate::peer::activity::InUse;
use crate::peer::connection::PeerConnection;
use crate::peer::dialer::ReachError;
use crate::peer::pool::PeerPool;

/// How long a machine may take to answer: it connects to the service first.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a connection to a service was not opened, or did not end by itself.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// The machine could not be reached.
    #[error(transparent)]
    Reach(#[from] ReachError),
    /// The machine refused, or the service did not accept.
    #[error("{machine}: {}", malai_cluster::escape(.why))]
    Refused {
        /// The machine's name.
        machine: String,
        /// What kind of refusal it is, if the machine said so.
        code: Option<RefusalCode>,
        /// Why.
        why: String,
    },
    /// It was open and is cut off.
    #[error("{machine}: {why}")]
    Cut {
        /// The machine's name.
        machine: String,
        /// Why.
        why: String,
    },
}

/// A connection that the service has accepted.
#[derive(Debug)]
pub(crate) struct Opened {
    service: End,
    connection: Arc<PeerConnection>,
    in_use: InUse,
    machine: String,
}

/// Opens a connection to a service of a machine. Nothing has been sent on it before it is accepted, so it is tried on a
/// new connection to the machine if the first one turns out to be lost.
///
/// # Errors
///
/// The machine cannot be reached or refuses, or the service does not accept.
pub(crate) async fn open(
    peers: &Arc<PeerPool>,
    target: MachineId,
    machine: &str,
    destination: &Destination,
) -> Result<Opened, ConnectError> {
    let mut connection = peers.connect_for_session(target).await?;
    let mut is_first = true;
    loop {
        match asked(&connection, destination).await {
            Ok((service, in_use, FromServer::Accepted)) => {
                connection.heard_now();
                return Ok(Opened {
                    service,
                    connection,
                    in_use,
                    machine: machine.to_owned(),
                });
            }
            Ok((.., FromServer::Refused(refusal))) => {
                return Err(ConnectError::Refused {
                    machine: machine.to_owned(),
                    code: refusal.known_code(),
                    why: refusal.message,
                });
            }
            Err(error) => {
                let refused = connection.refused();
                let code = refused.and_then(|refusal| refusal.known_code());
                let is_final = matches!(code, Some(RefusalCode::NotAMember | RefusalCode::Version));
                if !is_first || is_final || !connection.is_closed() {
                    return Err(ConnectError::Refused {
                        machine: machine.to_owned(),
                        code,
                        why: end_or(&connection, error.to_string()),
                    });
                }
                is_first = false;
                connection = peers.dial_new(target).await?;
            }
        }
    }
}

async fn asked(
    connection: &Arc<PeerConnection>,
    destination: &Destination,
) -> Result<(End, InUse, FromServer), StreamError> {
    let in_use = connection.in_use_for_connection();
    let (send, recv) = connection.open(RequestKind::Connect).await?;
    // From here on, leaving resets it: the service has perhaps accepted it already.
    let mut stream = PeerStream::new(send, connection.raw(recv), connection.clone());
    let open = FromClient::Open(destination.clone());
    let answer = stream.ask(&open, ANSWER_TIMEOUT).await?;
    Ok((End::Peer(stream), in_use, answer))
}

impl Opened {
    /// Passes bytes between a socket of this computer and the service until both directions have ended.
    ///
    /// # Errors
    ///
    /// It was cut off: by the machine, or because it was lost. A reset of one of its ends is no error.
    pub(crate) async fn pass(
        mut self,
        target: &str,
        destination: &Destination,
        socket: Socket,
    ) -> Result<(), ConnectError> {
        let counts = Arc::<Counts>::default();
        let cluster_state = &self.connection.cluster_state;
        let sessions = &cluster_state.node.sessions;
        let path: Weak<dyn PathInfo> = Arc::<PeerConnection>::downgrade(&self.connection);
        let listed = sessions.begin_outbound(OutboundSession {
            live: Live::new(
                sessions.next_id(),
                cluster_state.alias().clone(),
                Asked::Connect(destination.clone()),
                Some(path),
                counts.clone(),
            ),
            target: target.to_owned(),
        });
        let mut client = End::Socket(socket);
        let passing = both_ways(
            &mut client,
            &mut self.service,
            &counts.stdin,
            &counts.stdout,
        );
        let passed = tokio::select! {
            passed = passing => passed,
            // The user has ended it here, and knows.
            _ = listed.ended() => Err(Broken::Reset),
        };
        self.service.end(RESET);
        drop(self.in_use);
        match passed {
            Ok(()) | Err(Broken::Reset) => Ok(()),
            Err(Broken::Lost(why)) => Err(ConnectError::Cut {
                why: end_or(&self.connection, why),
                machine: self.machine,
            }),
            Err(broken) => Err(ConnectError::Cut {
                why: broken.to_string(),
                machine: self.machine,
            }),
        }
    }
}
