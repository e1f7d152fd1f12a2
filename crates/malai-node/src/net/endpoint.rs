//! iroh endpoints: how malai binds them, and on which ports.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::sync::LazyLock;
use std::time::Duration;

use iroh::dns::{DnsResolver, FallbackMode};
use iroh::endpoint::{BindOpts, PortmapperConfig, QuicTransportConfig, RelayMode, presets};
use iroh::{Endpoint, SecretKey};
use malai_cluster::{MachineId, SecretSeed};
use malai_wire::version::{ALPN, PROBE_ALPN};

use crate::net::crypto;
use crate::settings::Reach;

/// A peer that is silent for this long is given up, and its sessions with it (product rule: an
/// outage shorter than that does not break a session).
pub const GIVE_UP: Duration = Duration::from_secs(30);

/// How often an idle connection shows that it lives, so that routers keep its path open.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// How long a path that nobody uses is kept beside another one: less than the 5 s after which iroh would show that
/// it lives. Paths add up where a network comes and goes, all between the same two addresses. In an outage each
/// side abandons them one after the other and keeps the last one; and if that is not the same one on both sides,
/// neither hears the other when the network is back.
const SPARE_PATH: Duration = Duration::from_secs(4);

/// Streams that a peer may have open before it is known to be a member.
pub const STREAMS_BEFORE_ADMISSION: u32 = 8;

/// Bytes that a peer may have in flight on a connection without sessions: what it sends then is small,
/// or is read at once.
pub const WINDOW: u32 = 1 << 18;

/// Bytes that a stream may have in flight: 2 MiB are 170 Mbit/s at 100 ms. More kills the connection: of a
/// window of 4 MiB that arrives out of order, the receiver keeps more pieces than it allows itself.
pub(crate) const STREAM_WINDOW: u32 = 1 << 21;

/// Bytes that a connection keeps until the peer has acknowledged them: what both output streams of a session may have
/// in flight.
const SEND_WINDOW: u64 = 2 * STREAM_WINDOW as u64;

/// Who looks up the names of iroh's public servers, for all identities: one memory of answers, and where the
/// network is away one that asks in vain. It asks whom this computer asks. (iroh's own would go on to public
/// name servers, hundreds of times a second while there is no network.)
static NAMES: LazyLock<DnsResolver> = LazyLock::new(|| {
    DnsResolver::builder()
        .with_system_defaults()
        .with_fallback_mode(FallbackMode::IfSystemEmpty)
        .build()
});

/// Where an identity's endpoint listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ports {
    /// At the first free port of [`derived_ports`]: a daemon, which others want to find.
    Derived,
    /// At any port: a command that connects by itself.
    Any,
}

/// An endpoint could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot open UDP sockets for {id} ({reach} reach): {why}")]
pub struct BindError {
    id: MachineId,
    reach: Reach,
    why: String,
}

/// The four candidate UDP ports of an identity (PROTOCOL.md): 20000 + (the first 8 bytes,
/// big endian, of BLAKE3 of the id52's ASCII and the byte i) mod 12768.
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

/// Opens the endpoint of an identity.
///
/// # Errors
///
/// No UDP socket could be bound.
pub async fn bind(seed: &SecretSeed, reach: Reach, ports: Ports) -> Result<Endpoint, BindError> {
    let id = seed.id();
    let candidates: Vec<u16> = match ports {
        Ports::Derived => derived_ports(&id).into_iter().chain([0]).collect(),
        Ports::Any => vec![0],
    };
    let mut why = String::new();
    for port in candidates {
        match bind_at(seed, reach, port).await {
            Ok(endpoint) => return Ok(endpoint),
            Err(error) => why = error,
        }
    }
    Err(BindError { id, reach, why })
}

async fn bind_at(seed: &SecretSeed, reach: Reach, port: u16) -> Result<Endpoint, String> {
    let (v4, v6) = match reach {
        Reach::Loopback => (Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST),
        Reach::Lan | Reach::Public => (Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED),
    };
    let mut builder = Endpoint::builder(presets::Minimal)
        .crypto_provider(crypto::provider())
        .secret_key(SecretKey::from_bytes(&seed.to_bytes()))
        .alpns(vec![ALPN.to_vec(), PROBE_ALPN.to_vec()])
        .transport_config(transport(reach))
        .portmapper_config(PortmapperConfig::Disabled)
        .clear_ip_transports()
        .bind_addr(SocketAddr::V4(SocketAddrV4::new(v4, port)))
        .map_err(|error| error.to_string())?
        .bind_addr_with_opts(
            SocketAddr::V6(SocketAddrV6::new(v6, port, 0, 0)),
            BindOpts::default().set_is_required(has_ipv6()),
        )
        .map_err(|error| error.to_string())?;
    builder = match reach {
        Reach::Loopback | Reach::Lan => builder.relay_mode(RelayMode::Disabled),
        Reach::Public => builder
            .relay_mode(RelayMode::Default)
            .dns_resolver(NAMES.clone())
            .address_lookup(iroh::address_lookup::PkarrPublisher::n0_dns())
            .address_lookup(iroh::address_lookup::PkarrResolver::n0_dns())
            .address_lookup(iroh::address_lookup::DnsAddressLookup::n0_dns()),
    };
    builder.bind().await.map_err(|error| format!("{error:#}"))
}

/// Whether this computer has IPv6 at all. Where it has, a port counts as free only when both
/// families can have it, since the derived ports are one port for both.
fn has_ipv6() -> bool {
    std::net::UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

/// What every connection starts with: little, until the other side is known to be a member.
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
        // A path that is kept is one that needs no hole to be punched again; and the relay's outlives them all.
        Reach::Public => transport,
    }
    .build()
}

/// iroh's name for a machine's key.
pub fn endpoint_id(id: &MachineId) -> iroh::EndpointId {
    // A MachineId is a checked key of the same curve, so iroh reads it as well.
    match iroh::EndpointId::from_bytes(id.as_bytes()) {
        Ok(id) => id,
        Err(error) => unreachable!("a checked key was refused: {error}"),
    }
}

/// malai's name for a key that a handshake has proved; `None` for a weak one.
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
