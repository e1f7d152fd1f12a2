//! `malai relay`: iroh's relay, for the members of the clusters that this home is in.
//!
//! A process of its own beside the home's daemon, if there is one. It only reads the home: whom it admits follows the
//! signed configurations there.

mod access;
mod certificate;
mod members;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use iroh_relay::server::{
    CertConfig, ClientRateLimit, QuicConfig, RelayConfig, Server, ServerConfig, SpawnError,
    TlsConfig,
};
use malai_cluster::{ADDRESS_DISCOVERY_PORT, RelayAddress};

use crate::home::keystore::KeyError;
use crate::home::{Home, HomeError};
use crate::net::endpoint::{has_ipv6, machine_id};
use crate::os::fs::StoreError;

use access::Admission;
pub use members::Admitted;
use members::Members;

/// How often the configurations in the home are looked at, and members whom they no longer name are disconnected.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// What a relay needs to know.
#[derive(Debug, Clone)]
pub struct RelayOptions {
    /// Where members reach it: its host and TCP port. A UDP port and a pin in it are ignored.
    pub address: RelayAddress,
    /// Where it listens for TLS over TCP; by default at the address's port on all interfaces.
    pub listen: Option<SocketAddr>,
    /// Where it listens for QUIC address discovery over UDP; by default at port 7842 of the same interfaces.
    pub quic: Option<SocketAddr>,
    /// The files of its certificate chain and private key, as PEM; without them it makes its own certificate.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// How many bytes a second it takes from each client; unlimited by default.
    pub client_rate: Option<NonZeroU32>,
    /// Where it serves its metrics; nowhere by default.
    pub metrics: Option<SocketAddr>,
}

impl RelayOptions {
    /// The relay's address as members need it, known before it is started. Creates the key of its certificate if it is
    /// missing and no certificate is given.
    ///
    /// # Errors
    ///
    /// The key cannot be read or created.
    pub fn public_address(&self, home: &Home) -> Result<RelayAddress, RelayError> {
        let quic = self.quic.map_or(ADDRESS_DISCOVERY_PORT, |quic| quic.port());
        let pin = match &self.certificate {
            Some(_) => None,
            None => Some(certificate::own_pin(home, self.address.host())?),
        };
        Ok(self.address.with(quic, pin))
    }
}

/// Why a relay cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The home cannot be read.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The key of its certificate cannot be read.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The key cannot be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The certificate cannot be used.
    #[error("cannot use the relay's certificate: {0}")]
    Certificate(String),
    /// Metrics would be served to other computers.
    #[error("metrics are served on loopback only: {0} is not a loopback address")]
    Metrics(SocketAddr),
    /// The server cannot start.
    #[error("cannot start the relay: {0}")]
    Start(String),
    /// The server has ended by itself.
    #[error("the relay has ended: {0}")]
    Ended(String),
}

/// A running relay.
#[derive(Debug)]
pub struct Relay {
    server: Server,
    members: Members,
    admission: Arc<Admission>,
    address: RelayAddress,
}

impl Relay {
    /// Starts a relay for the clusters of this home.
    ///
    /// # Errors
    ///
    /// The home or the certificate cannot be used, or the sockets cannot be bound.
    pub async fn start(home: &Home, options: &RelayOptions) -> Result<Self, RelayError> {
        if let Some(metrics) = options
            .metrics
            .filter(|address| !address.ip().is_loopback())
        {
            return Err(RelayError::Metrics(metrics));
        }
        let mut members = Members::of(home);
        members.refresh()?;
        let admission = Arc::new(Admission::default());
        admission.admit_only(members.ids());
        let certificate = certificate::of(home, options).await?;

        // Where there is IPv6, its unspecified address takes IPv4 as well.
        let any: IpAddr = match has_ipv6() {
            true => Ipv6Addr::UNSPECIFIED.into(),
            false => Ipv4Addr::UNSPECIFIED.into(),
        };
        let any = SocketAddr::new(any, options.address.port());
        let listen = options.listen.unwrap_or(any);
        let quic = options
            .quic
            .unwrap_or_else(|| SocketAddr::new(listen.ip(), ADDRESS_DISCOVERY_PORT));
        // iroh's server wants an address for plain HTTP as well, where clients look for captive portals: malai's do
        // without.
        let mut relay = RelayConfig::new(([127, 0, 0, 1], 0));
        let server_config = certificate.server_config;
        relay.tls = Some(TlsConfig::new(listen, CertConfig::Manual { server_config }));
        relay.access = admission.clone();
        relay.limits.client_rx = options.client_rate.map(ClientRateLimit::new);
        let mut config = ServerConfig::default();
        config.relay = Some(relay);
        config.quic = Some(QuicConfig::new(quic));
        config.metrics_addr = options.metrics;
        let start = |error: SpawnError| RelayError::Start(format!("{error:#}"));
        let server = Server::spawn(config).await.map_err(start)?;

        let quic = server.quic_addr().map_or(quic.port(), |bound| bound.port());
        let address = options.address.with(quic, certificate.pin);
        Ok(Self {
            server,
            members,
            admission,
            address,
        })
    }

    /// Its address, as members need it in `[network]` of their cluster.toml.
    pub fn address(&self) -> &RelayAddress {
        &self.address
    }

    /// Where it listens for TLS.
    pub fn listens_at(&self) -> Option<SocketAddr> {
        self.server.https_addr()
    }

    /// Whose members it admits at the moment.
    pub fn admitted(&self) -> Vec<Admitted> {
        self.members.admitted()
    }

    /// Serves until `stop` ends. A member whom a new configuration in the home removes is disconnected within two seconds.
    ///
    /// # Errors
    ///
    /// The server has ended by itself.
    pub async fn serve(mut self, stop: impl Future<Output = ()>) -> Result<(), RelayError> {
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                ended = self.server.join() => {
                    return Err(RelayError::Ended(format!("{ended:?}")));
                }
                () = tokio::time::sleep(POLL_INTERVAL) => self.follow(),
            }
        }
        let stopped = self.server.shutdown().await;
        stopped.map_err(|error| RelayError::Ended(format!("{error:#}")))
    }

    /// Admits whom the configurations in the home name now, and disconnects the others.
    fn follow(&mut self) {
        match self.members.refresh() {
            Ok(true) => {
                let admitted = self.members.admitted().into_iter();
                let admitted: Vec<String> = admitted.map(|cluster| cluster.to_string()).collect();
                tracing::info!("admitting the members of {}", admitted.join(", "));
                self.admission.admit_only(self.members.ids());
            }
            Ok(false) => {}
            Err(error) => tracing::warn!("cannot look for new configurations: {error}"),
        }
        // Not only after a change: one that connected meanwhile was not among the connected ones yet.
        for id in self.admission.connected_strangers() {
            let relay = self.server.relay_service();
            if relay.is_some_and(|relay| relay.clients().disconnect(id, None)) {
                let peer = machine_id(&id).map(|peer| peer.to_string());
                tracing::info!(peer, "disconnected: no longer a member");
            }
        }
    }
}

#[cfg(test)]
mod tests;
