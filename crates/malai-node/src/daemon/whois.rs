//! Who is behind a connection to a service, for `malai whois`.

use std::net::SocketAddr;
use std::time::SystemTime;

use malai_wire::action::Asked;
use malai_wire::time::Timestamp;
use malai_wire::whois::{ClientFacts, WhoisFacts};

use super::Daemon;

impl Daemon {
    /// The clients whose connections a service sees come from this address, as JSON.
    ///
    /// # Errors
    ///
    /// It is no address.
    pub(crate) fn whois(&self, address: &str) -> Result<String, String> {
        let address: SocketAddr = address.parse().map_err(|_| {
            format!(
                "{:?} is no address with a port, like 127.0.0.1:40000",
                malai_cluster::escape(address)
            )
        })?;
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        let sessions = self.node.sessions.all().into_iter();
        let here = sessions.filter(|session| session.located.get() == Some(address));
        let connections = here.filter_map(|session| {
            let Asked::Connect(destination) = &session.live.asked else {
                return None;
            };
            let service = self.services.lock().get(&session.live.alias).cloned();
            let since = session.live.since.duration_since(SystemTime::UNIX_EPOCH);
            let since = since.unwrap_or_default().as_millis();
            Some(ClientFacts {
                id52: session.from,
                machine: service.and_then(|service| service.cluster_state.name_of(&session.from)),
                cluster: session.live.alias.to_string(),
                service: destination.shown(),
                to: session
                    .upstream
                    .as_ref()
                    .map(ToString::to_string)
                    .unwrap_or_default(),
                session: session.live.id,
                since: Timestamp(u64::try_from(since).unwrap_or(u64::MAX)),
            })
        });
        let facts = WhoisFacts {
            connections: connections.collect(),
        };
        Ok(serde_json::to_string(&facts).unwrap_or_default())
    }
}
