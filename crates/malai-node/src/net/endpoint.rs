//! iroh endpoints: how malai binds them, and to which ports.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::sync::LazyLock;
use std::time::Duration;

use iroh::dns::{DnsResolver, FallbackMode};
use iroh::endpoint::{BindOpts, PortmapperConfig, QuicTransportConfig, presets};
use iroh::{Endpoint, SecretKey};
use malai_cluster::{MachineId, SecretSeed};
use malai_wire::version::{ALPN, PROBE_ALPN};

use crate::net::crypto;
use crate::net::relays::{self, Plan, Relays};
use crate::settings::Reach;

/// After this time without a packet, a connection is lost, and its sessions with it. Shorter outages must not break a
/// session.
pub const GIVE_UP: Duration = Duration::from_secs(30);

/// How often an idle connection sends a keep-alive, so that routers keep its path open.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// How long an unused path is kept beside another one: less than the 5 s after which iroh would send a keep-alive on
/// it. Otherwise paths add up on a flaky network, all between the same two addresses. In an outage each side
/// abandons them one by one and keeps the last one; if the two sides keep different ones, neither hears the other
/// when the network is back.
const SPARE_PATH: Duration = Duration::from_secs(4);

/// How many streams a peer may open before it is known to be a member.
pub const STREAMS_BEFORE_ADMISSION: u32 = 8;

/// How many bytes a peer may have in flight on a connection without sessions. What it sends then is small or is read
/// at once.
pub const WINDOW: u32 = 1 << 18;

/// How many bytes a stream may have in flight. 2 MiB are 170 Mbit/s at 100 ms. More would break the connection: if
/// 4 MiB arrive out of order, the receiver exceeds its own limit of stored pieces.
pub(crate) const STREAM_WINDOW: u32 = 1 << 21;

/// How many bytes a connection stores until the peer has acknowledged them: what one stream may have in flight. All streams
/// of the connection share it; what a peer acknowledges and does not read holds up nothing.
pub(crate) const SEND_WINDOW: u64 = STREAM_WINDOW as u64;

/// The DNS resolver for relays and iroh's public servers, shared by all identities: one cache, and a single resolver that fails
/// while the network is down. It uses the system's name servers. (iroh's own would also ask public name servers,
/// hundreds of times per second while there is no network.)
static NAMES: LazyLock<DnsResolver> = LazyLock::new(|| {
    DnsResolver::builder()
        .with_system_defaults()
        .with_fallback_mode(FallbackMode::IfSystemEmpty)
        .build()
});

/// Which port an endpoint binds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ports {
    /// The first free port of [`derived_ports`]: for a daemon, which others have to find.
    Derived,
    /// Any port: for a command that connects by itself.
    Any,
}

/// An endpoint could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot open UDP sockets for {id} ({reach} reach): {why}")]
pub struct BindError {
    id: MachineId,
    reach: Reach,
    why: String,
}

/// The four candidate UDP ports of an identity (PROTOCOL.md): 20000 + (the first 8 bytes, big-endian, of BLAKE3 of
/// the id52's ASCII and the byte i) mod 12768.
pub fn derived_ports(id: &MachineId) -> [u16; 4] {
    std::array::from_fn(|i| {
        let mut hasher = blake3::Hasher::new();
        hasher.update(id.to_string().as_bytes());
        hasher.update(&[i as u8]);
        let mut first = [0; 8];
        first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        20_000 + (u64::from_be_bytes(first) % 12_768) as u16
    })
}

/// Binds the endpoint of an identity, without relays and discovery.
///
/// # Errors
///
/// No UDP socket could be bound.
pub async fn bind(seed: &SecretSeed, reach: Reach, ports: Ports) -> Result<Endpoint, BindError> {
    bind_with(seed, reach, ports, &Relays::new(Plan::default())).await
}

/// The same, with the relays that it uses at first.
///
/// # Errors
///
/// As [`bind`].
pub(crate) async fn bind_with(
    seed: &SecretSeed,
    reach: Reach,
    ports: Ports,
    relays: &Relays,
) -> Result<Endpoint, BindError> {
    let id = seed.id();
    let candidates: Vec<u16> = match ports {
        Ports::Derived => derived_ports(&id).into_iter().chain([0]).collect(),
        Ports::Any => vec![0],
    };
    let mut why = String::new();
    for port in candidates {
        match bind_at(seed, reach, port, relays).await {
            Ok(endpoint) => return Ok(endpoint),
            Err(error) => why = error,
        }
    }
    Err(BindError { id, reach, why })
}

async fn bind_at(
    seed: &SecretSeed,
    reach: Reach,
    port: u16,
    relays: &Relays,
) -> Result<Endpoint, String> {
    let (v4, v6) = match reach {
        Reach::Loopback => (Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST),
        Reach::Lan | Reach::Public => (Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED),
    };
    let builder = Endpoint::builder(presets::Minimal)
        .crypto_provider(crypto::provider())
        .secret_key(SecretKey::from_bytes(&seed.to_bytes()))
        .alpns(vec![ALPN.to_vec(), PROBE_ALPN.to_vec()])
        .transport_config(transport(reach))
        .portmapper_config(PortmapperConfig::Disabled)
        .relay_mode(relays.mode())
        .ca_tls_config(relays.tls())
        .dns_resolver(NAMES.clone())
        .clear_ip_transports()
        .bind_addr(SocketAddr::V4(SocketAddrV4::new(v4, port)))
        .map_err(|error| error.to_string())?
        .bind_addr_with_opts(
            SocketAddr::V6(SocketAddrV6::new(v6, port, 0, 0)),
            BindOpts::default().set_is_required(has_ipv6()),
        )
        .map_err(|error| error.to_string())?;
    let endpoint = builder.bind().await.map_err(|error| format!("{error:#}"))?;
    if relays.plan().looks_up_publicly() {
        relays::look_up_publicly(&endpoint);
    }
    Ok(endpoint)
}

/// Whether this computer has IPv6. If so, a port is free only if it is free for both families, because the derived
/// ports are the same for both.
pub(crate) fn has_ipv6() -> bool {
    std::net::UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

/// The transport settings of every new connection: small limits until the peer is known to be a member.
fn transport(reach: Reach) -> QuicTransportConfig {
    let transport = QuicTransportConfig::builder()
        .max_concurrent_bidi_streams(STREAMS_BEFORE_ADMISSION.into())
        .max_concurrent_uni_streams(STREAMS_BEFORE_ADMISSION.into())
        .receive_window(WINDOW.into())
        .stream_receive_window(STREAM_WINDOW.into())
        .send_window(SEND_WINDOW)
        .max_idle_timeout(GIVE_UP.try_into().ok())
        .keep_alive_interval(KEEP_ALIVE)
        .datagram_receive_buffer_size(None);
    match reach {
        Reach::Loopback | Reach::Lan => transport.default_path_max_idle_timeout(SPARE_PATH),
        // A path that is kept needs no new hole punching; the relay's path outlives all others.
        Reach::Public => transport,
    }
    .build()
}

/// The iroh id of a machine's key.
pub fn endpoint_id(id: &MachineId) -> iroh::EndpointId {
    // A MachineId is a validated key of the same curve, so iroh accepts it.
    match iroh::EndpointId::from_bytes(id.as_bytes()) {
        Ok(id) => id,
        Err(error) => unreachable!("a checked key was refused: {error}"),
    }
}

/// The machine id of a key that a handshake has proved; `None` for a weak key.
pub fn machine_id(id: &iroh::EndpointId) -> Option<MachineId> {
    MachineId::from_bytes(id.as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::derived_ports;

    #[test]
    fn the_ports_of_the_first_test_vector() {
        let id = "i66fo538lfl5ombdf6tcdbrabp4hmp9asv7nrffuc2im13ct4q60"
            .parse()
            .unwrap();
        assert_eq!(derived_ports(&id), [28772, 28457, 23652, 21468]);
    }
}
