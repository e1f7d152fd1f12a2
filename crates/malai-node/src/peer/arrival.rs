//! A connection that a peer has made, before anything is kept for its key.
//!
//! iroh keeps state for each key whose connection it hands out: an actor until a minute after the last connection, and
//! an entry in a map as long as the endpoint. Keys are free to create. So the connection is first used in the state that
//! iroh has for 0-RTT, which keeps nothing beyond the connection, until its key is worth more. 0-RTT itself is not
//! accepted, because its data can be replayed.

use std::net::SocketAddr;
use std::time::Duration;

use iroh::endpoint::{Connection, Incoming, IncomingAddr, IncomingZeroRttConnection, PathId};
use malai_cluster::MachineId;
use malai_wire::peer::hello::Hello;
use malai_wire::{Refusal, RefusalCode};

use crate::net::endpoint::{GIVE_UP, machine_id};
use crate::node::limits::Limiter;
use crate::peer::connection;
use crate::peer::phase::RemoteHello;
use crate::settings::limits::Limits;

/// How often it is checked whether the peer has proved its key: iroh reports that only together with the connection.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// A connection that has arrived.
#[derive(Debug)]
pub(crate) struct Arrival {
    connection: IncomingZeroRttConnection,
    alpn: Vec<u8>,
    from: IncomingAddr,
}

/// A peer that has proved its key, and its hello.
#[derive(Debug)]
pub(crate) struct Greeted {
    /// The key that the handshake proved.
    pub(crate) peer: MachineId,
    /// Its hello.
    pub(crate) hello: RemoteHello,
}

/// Why a connection is not used.
#[derive(Debug)]
pub(crate) enum Unused {
    /// The handshake failed; there is nobody to tell.
    Failed(String),
    /// The peer is told.
    Refused(Refusal),
}

impl From<Refusal> for Unused {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Arrival {
    /// Begins the handshake, up to the protocol that the peer asks for.
    ///
    /// # Errors
    ///
    /// The handshake failed or took too long.
    pub(crate) async fn begin(incoming: Incoming, limits: &Limits) -> Result<Self, String> {
        let from = incoming.remote_addr();
        let begin = async {
            let mut accepting = incoming.accept().map_err(|error| error.to_string())?;
            let alpn = accepting.alpn().await.map_err(|error| error.to_string())?;
            Ok(Self {
                connection: accepting.into_0rtt(),
                alpn,
                from,
            })
        };
        match tokio::time::timeout(limits.handshake(), begin).await {
            Ok(begun) => begun,
            Err(_) => Err("it timed out".into()),
        }
    }

    /// The protocol that the peer asks for.
    pub(crate) fn alpn(&self) -> &[u8] {
        &self.alpn
    }

    /// The connection, whose peer has not necessarily proved its key yet.
    pub(crate) fn unproven(&self) -> &IncomingZeroRttConnection {
        &self.connection
    }

    /// The peer's address, unless it came through a relay.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match &self.from {
            IncomingAddr::Ip(address) => {
                let ip = address.ip().to_canonical();
                Some(SocketAddr::new(ip, address.port()))
            }
            _ => None,
        }
    }

    /// Waits until the peer has proved its key and greeted. A member that is slow has as long as one that falls silent.
    ///
    /// # Errors
    ///
    /// It did not do so, or not in time.
    pub(crate) async fn greeted(
        &self,
        limiter: &Limiter,
        is_member: impl Fn(&MachineId) -> bool,
    ) -> Result<Greeted, Unused> {
        let limits = limiter.limits();
        tokio::select! {
            greeted = self.greeting() => greeted,
            () = self.greeting_timeout(&limits, is_member) => Err(if self.is_proven() {
                limiter.refused("greeting_seconds", limits.greeting_seconds).into()
            } else {
                Unused::Failed("it timed out".into())
            }),
        }
    }

    async fn greeting(&self) -> Result<Greeted, Unused> {
        let protocol = |why: &str| Refusal::new(RefusalCode::Protocol, why);
        let stream = self.connection.accept_uni().await;
        let mut stream = stream.map_err(|error| Unused::Failed(error.to_string()))?;
        // A stream that is accepted after the handshake belongs to the peer that has completed it.
        if stream.is_0rtt() {
            return Err(protocol("0-RTT is not accepted").into());
        }
        let Ok(id) = self.connection.remote_id() else {
            return Err(Unused::Failed("the peer has no key".into()));
        };
        let Some(peer) = machine_id(&id) else {
            return Err(Refusal::new(RefusalCode::NotAMember, "a weak key").into());
        };
        match connection::read_hello(&mut stream).await {
            Some(hello) => Ok(Greeted { peer, hello }),
            None => Err(protocol("the connection does not start with a hello").into()),
        }
    }

    /// The time that a peer has for its handshake, and then for its hello.
    async fn greeting_timeout(&self, limits: &Limits, is_member: impl Fn(&MachineId) -> bool) {
        // In steps, each of which lets this process read what has arrived: it may be the one that is late.
        let steps = |time: Duration| time.as_millis() / POLL_INTERVAL.as_millis();
        let mut left = steps(limits.handshake());
        while !self.is_proven() {
            if left == 0 {
                return;
            }
            left -= 1;
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        let peer = self.connection.remote_id().ok();
        let peer = peer.and_then(|id| machine_id(&id));
        let time = match peer {
            Some(peer) if is_member(&peer) => GIVE_UP.max(limits.greeting()),
            _ => limits.greeting(),
        };
        for _ in 0..steps(time) {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    fn is_proven(&self) -> bool {
        self.connection.peer_identity().is_some()
    }

    /// Bytes that only this connection has, for both of its sides.
    pub(crate) fn binding(&self) -> Option<[u8; 32]> {
        connection::binding(&self.connection)
    }

    /// Sends this side's hello.
    pub(crate) async fn send_hello(&self, hello: Hello) {
        let _ = connection::send_hello(&self.connection, hello).await;
    }

    /// The round trip time, if it was measured.
    pub(crate) fn round_trip(&self) -> Option<Duration> {
        self.connection.rtt(PathId::ZERO)
    }

    /// Waits for the end of the connection.
    pub(crate) async fn closed(&self) {
        self.connection.closed().await;
    }

    /// The connection, for which iroh keeps state from now on.
    ///
    /// # Errors
    ///
    /// It has failed meanwhile.
    pub(crate) async fn register(&self) -> Result<Connection, String> {
        let completed = self.connection.handshake_completed().await;
        completed.map_err(|error| error.to_string())
    }

    /// Closes it with a code and a reason.
    pub(crate) fn close(&self, refusal: &Refusal) {
        connection::close(&self.connection, refusal);
    }
}
