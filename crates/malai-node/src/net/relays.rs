//! The relays of an endpoint, whose certificates may be pinned, and its use of public infrastructure.

use std::collections::HashMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use iroh::address_lookup::{AddressLookupBuilder, DnsAddressLookup, PkarrPublisher, PkarrResolver};
use iroh::endpoint::RelayMode;
use iroh::tls::CaTlsConfig;
use iroh::{Endpoint, EndpointAddr, EndpointId, RelayConfig, RelayMap, RelayUrl, Watcher as _};
use iroh_relay::RelayQuicConfig;
use malai_cluster::{Network, Pin, RelayAddress, escape};
use malai_wire::status::RelayFacts;
use parking_lot::{Mutex, RwLock};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, SignatureScheme};
use sha2::{Digest, Sha256};

use crate::settings::Reach;

/// What an endpoint uses, beyond direct addresses and the local network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The cluster's own relays.
    own: Vec<RelayAddress>,
    /// iroh's public relays.
    public_relays: bool,
    /// iroh's public discovery.
    public_lookup: bool,
}

impl Plan {
    /// What a reach leaves of a cluster's network: everything with `public`, relays on this computer with `loopback`,
    /// nothing with `lan`, since the peers that a relay is for are in other networks.
    pub(crate) fn of(reach: Reach, network: &Network) -> Self {
        let public = reach == Reach::Public && network.public();
        let may_use = |relay: &&RelayAddress| match reach {
            Reach::Public => true,
            Reach::Lan => false,
            Reach::Loopback => relay.ip() == Some(Ipv4Addr::LOCALHOST),
        };
        Plan {
            own: network.relays().iter().filter(may_use).cloned().collect(),
            public_relays: public && network.relays().is_empty(),
            public_lookup: public,
        }
    }

    /// Whether a machine can be looked for by more than its addresses.
    pub(crate) fn leads_somewhere(&self) -> bool {
        self.public_lookup || !self.own.is_empty()
    }

    /// Whether public discovery is used.
    pub(crate) fn looks_up_publicly(&self) -> bool {
        self.public_lookup
    }

    fn relays(&self) -> HashMap<RelayUrl, Arc<RelayConfig>> {
        let own = self.own.iter().filter_map(config);
        let public = self.public_relays.then(|| RelayMode::Default.relay_map());
        let public: Vec<Arc<RelayConfig>> =
            public.iter().flat_map(RelayMap::relays::<Vec<_>>).collect();
        own.map(Arc::new)
            .chain(public)
            .map(|config| (config.url.clone(), config))
            .collect()
    }
}

impl fmt::Display for Plan {
    /// What is tried besides direct addresses and the local network, for an error message; empty for nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for relay in &self.own {
            write!(f, "; the relay {}", relay.url())?;
        }
        f.write_str(match (self.public_lookup, self.public_relays) {
            (true, true) => "; iroh's public discovery and relays",
            (true, false) => "; iroh's public discovery",
            (false, _) => "",
        })
    }
}

fn config(relay: &RelayAddress) -> Option<RelayConfig> {
    // A checked address is a URL.
    let url = relay.url().parse().ok()?;
    Some(RelayConfig::new(
        url,
        Some(RelayQuicConfig::new(relay.quic_port())),
    ))
}

/// The certificates that an endpoint's relays may have.
#[derive(Debug, Default)]
struct Pins {
    /// By host; `None` for a relay without a pin.
    by_host: RwLock<HashMap<String, Vec<Option<Pin>>>>,
    /// Whether the last certificate that was checked against a pin did not have it.
    rejected: AtomicBool,
}

impl Pins {
    fn set(&self, plan: &Plan) {
        let mut by_host: HashMap<String, Vec<Option<Pin>>> = HashMap::new();
        for relay in &plan.own {
            let of_host = by_host.entry(relay.host().to_owned()).or_default();
            of_host.push(relay.pin().copied());
        }
        *self.by_host.write() = by_host;
    }
}

/// The pin of a certificate.
///
/// # Errors
///
/// It cannot be parsed.
pub(crate) fn pin_of(certificate: &CertificateDer<'_>) -> Result<Pin, rustls::Error> {
    let parsed = ParsedCertificate::try_from(certificate)?;
    let digest = Sha256::digest(parsed.subject_public_key_info().as_ref());
    Ok(Pin::from_bytes(digest.into()))
}

/// What an endpoint uses now, and how to change it while it is open.
#[derive(Debug)]
pub(crate) struct Relays {
    pins: Arc<Pins>,
    plan: Mutex<Plan>,
    /// Held while the endpoint is changed.
    applying: tokio::sync::Mutex<()>,
}

impl Relays {
    /// The relays of an endpoint that is about to be bound.
    pub(crate) fn new(plan: Plan) -> Arc<Self> {
        let pins = Arc::new(Pins::default());
        pins.set(&plan);
        Arc::new(Self {
            pins,
            plan: Mutex::new(plan),
            applying: tokio::sync::Mutex::default(),
        })
    }

    /// What is used now.
    pub(crate) fn plan(&self) -> Plan {
        self.plan.lock().clone()
    }

    /// The relays to bind with. Further ones can be added to the endpoint, even if there are none yet.
    pub(crate) fn mode(&self) -> RelayMode {
        let relays = self.plan.lock().relays();
        RelayMode::Custom(relays.into_values().collect())
    }

    /// How the certificates of relays, and of public servers, are checked.
    pub(crate) fn tls(&self) -> CaTlsConfig {
        let pins = self.pins.clone();
        CaTlsConfig::custom_server_cert_verifier(Arc::new(move |provider| {
            let by_authority = CaTlsConfig::embedded().server_cert_verifier(provider.clone())?;
            Ok(Arc::new(Verifier {
                pins: pins.clone(),
                by_authority,
                provider,
            }))
        }))
    }

    /// Changes what an open endpoint uses. Connections go on: those through a relay that is no longer used find another
    /// path.
    pub(crate) async fn apply(&self, endpoint: &Endpoint, plan: Plan) {
        let _applying = self.applying.lock().await;
        let before = std::mem::replace(&mut *self.plan.lock(), plan.clone());
        if before == plan {
            return;
        }
        self.pins.set(&plan);
        let (old, new) = (before.relays(), plan.relays());
        for (url, config) in &new {
            if old.get(url) != Some(config) {
                endpoint.insert_relay(url.clone(), config.clone()).await;
            }
        }
        for url in old.keys().filter(|url| !new.contains_key(*url)) {
            endpoint.remove_relay(url).await;
        }
        match (before.public_lookup, plan.public_lookup) {
            (false, true) => look_up_publicly(endpoint),
            (true, false) => {
                if let Ok(lookups) = endpoint.address_lookup() {
                    lookups.clear();
                }
            }
            _ => {}
        }
        tracing::info!(
            "the network has changed: {} relays, {} before",
            new.len(),
            old.len()
        );
    }

    /// A machine, by its key alone: at any of the cluster's own relays, and where public discovery finds it.
    pub(crate) fn target(&self, machine: EndpointId) -> EndpointAddr {
        let target = EndpointAddr::new(machine);
        let own = self.plan.lock().own.clone();
        own.iter()
            .filter_map(|relay| relay.url().parse().ok())
            .fold(target, EndpointAddr::with_relay_url)
    }

    /// The relay that the endpoint is reached by, and its state; `None` if the endpoint uses no relays.
    pub(crate) fn facts(&self, endpoint: &Endpoint) -> Option<RelayFacts> {
        let plan = self.plan();
        let own = !plan.own.is_empty();
        if !own && !plan.public_relays {
            return None;
        }
        let home = endpoint.home_relay_status().get().into_iter().next();
        let Some(home) = home else {
            let first = plan.own.first().map(RelayAddress::url);
            let public = || {
                plan.public_relays
                    .then(|| "iroh's public relays".to_owned())
            };
            let problem = match self.pins.rejected.load(Ordering::Relaxed) {
                true => "its certificate is not the pinned one",
                false => "it has not answered yet",
            };
            return Some(RelayFacts {
                url: first.or_else(public)?,
                own,
                connected: false,
                problem: Some(problem.to_owned()),
            });
        };
        let denied = home.auth_denied_reason();
        let denied = denied.map(|reason| format!("it refuses this computer: {}", escape(reason)));
        let failed = || home.last_error().map(|error| escape(&format!("{error:#}")));
        Some(RelayFacts {
            url: home.url().to_string().trim_end_matches('/').to_owned(),
            own,
            connected: home.is_connected(),
            problem: denied.or_else(failed),
        })
    }
}

/// Publishes an endpoint's addresses on iroh's public servers, and looks for others there.
pub(crate) fn look_up_publicly(endpoint: &Endpoint) {
    let added = || {
        let lookups = endpoint.address_lookup().ok()?;
        lookups.add(
            PkarrPublisher::n0_dns()
                .into_address_lookup(endpoint)
                .ok()?,
        );
        lookups.add(PkarrResolver::n0_dns().into_address_lookup(endpoint).ok()?);
        lookups.add(
            DnsAddressLookup::n0_dns()
                .into_address_lookup(endpoint)
                .ok()?,
        );
        Some(())
    };
    if added().is_none() {
        tracing::warn!("public discovery is not available");
    }
}

/// Why connections from here are not direct, as far as is known: a clause.
pub(crate) fn obstacle(endpoint: &Endpoint) -> Option<&'static str> {
    let report = endpoint.net_report().get()?;
    let answered = report.preferred_relay.is_some();
    if answered && !report.has_udp() {
        return Some("UDP does not get out of the network here");
    }
    (report.mapping_varies_by_dest() == Some(true))
        .then_some("the router here uses another port for each peer")
}

/// Accepts a relay by its pin, or by an authority that browsers trust if it has none.
#[derive(Debug)]
struct Verifier {
    pins: Arc<Pins>,
    by_authority: Arc<dyn ServerCertVerifier>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let pins = {
            let by_host = self.pins.by_host.read();
            by_host.get(&*server_name.to_str()).cloned()
        };
        let pins = pins.unwrap_or_else(|| vec![None]);
        if pins.iter().any(Option::is_some) {
            let found = pin_of(end_entity)?;
            let is_pinned = pins.contains(&Some(found));
            self.pins.rejected.store(!is_pinned, Ordering::Relaxed);
            if is_pinned {
                return Ok(ServerCertVerified::assertion());
            }
        }
        if pins.contains(&None) {
            return self.by_authority.verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                now,
            );
        }
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use malai_cluster::Network;

    use super::Plan;
    use crate::settings::Reach;

    #[test]
    fn a_reach_and_a_network_bound_what_is_used() {
        let network = |relays: &[&str], public| {
            let relays = relays.iter().map(|relay| relay.parse().unwrap());
            Network::new(relays.collect(), public)
        };
        let (own, here) = ("https://relay.example", "https://127.0.0.1:7843");
        for (reach, relays, public, expected) in [
            (
                Reach::Public,
                &[][..],
                true,
                "; iroh's public discovery and relays",
            ),
            (Reach::Public, &[], false, ""),
            (
                Reach::Public,
                &[own],
                true,
                "; the relay https://relay.example; iroh's public discovery",
            ),
            (
                Reach::Public,
                &[own],
                false,
                "; the relay https://relay.example",
            ),
            (Reach::Lan, &[own, here], true, ""),
            (Reach::Loopback, &[], true, ""),
            (
                Reach::Loopback,
                &[own, here],
                true,
                "; the relay https://127.0.0.1:7843",
            ),
        ] {
            let plan = Plan::of(reach, &network(relays, public));
            assert_eq!(plan.to_string(), expected, "{reach:?} {relays:?} {public}");
            assert_eq!(plan.leads_somewhere(), !expected.is_empty());
            assert_eq!(plan.relays().is_empty(), !expected.contains("relay"));
        }
    }
}
