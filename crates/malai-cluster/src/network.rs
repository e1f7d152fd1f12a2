//! How members find and reach each other: the cluster's relays, and whether anything public is used.

use core::net::Ipv4Addr;
use std::fmt;
use std::str::FromStr;

/// The longest host name, in bytes (RFC 1035 §2.3.4).
const MAX_HOST: usize = 253;

/// The port of `https`.
const HTTPS: u16 = 443;

/// The UDP port on which a relay tells its clients their public address, unless it says otherwise.
pub const ADDRESS_DISCOVERY_PORT: u16 = 7842;

/// `[network]` of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    pub(crate) relays: Box<[RelayAddress]>,
    pub(crate) public: bool,
}

impl Default for Network {
    fn default() -> Self {
        Network {
            relays: Box::default(),
            public: true,
        }
    }
}

impl Network {
    /// The network of a cluster with these relays.
    pub fn new(relays: Vec<RelayAddress>, public: bool) -> Self {
        Network {
            relays: relays.into(),
            public,
        }
    }

    /// The cluster's own relays, as listed. If there are any, members use no public ones.
    pub fn relays(&self) -> &[RelayAddress] {
        &self.relays
    }

    /// Whether members use public infrastructure: iroh's discovery, and its relays if the cluster has none.
    pub fn public(&self) -> bool {
        self.public
    }
}

/// A relay's address, and how its certificate is checked: `https://relay.example`, or, with a pin,
/// `https://10.0.0.5:7843#<64 hex digits>`. A `?quic=<port>` before the `#` names its UDP port, if that is not
/// [`ADDRESS_DISCOVERY_PORT`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelayAddress {
    /// A host name in lowercase, or an IPv4 address.
    host: Box<str>,
    port: u16,
    quic: u16,
    pin: Option<Pin>,
}

impl RelayAddress {
    /// The same host and TCP port, with this UDP port (not 0) and this pin.
    pub fn with(&self, quic: u16, pin: Option<Pin>) -> Self {
        RelayAddress {
            quic,
            pin,
            ..self.clone()
        }
    }

    /// Its host name, or IPv4 address.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Its IPv4 address, if it is named by one.
    pub fn ip(&self) -> Option<Ipv4Addr> {
        self.host.parse().ok()
    }

    /// Its TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its UDP port, for address discovery.
    pub fn quic_port(&self) -> u16 {
        self.quic
    }

    /// The public key that its certificate must have. Without one, the certificate must be one that browsers accept.
    pub fn pin(&self) -> Option<&Pin> {
        self.pin.as_ref()
    }

    /// The URL alone, without UDP port and pin.
    pub fn url(&self) -> String {
        match self.port {
            HTTPS => format!("https://{}", self.host),
            port => format!("https://{}:{port}", self.host),
        }
    }
}

impl fmt::Display for RelayAddress {
    /// As it is written in a cluster.toml.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url())?;
        if self.quic != ADDRESS_DISCOVERY_PORT {
            write!(f, "?quic={}", self.quic)?;
        }
        match &self.pin {
            Some(pin) => write!(f, "#{pin}"),
            None => Ok(()),
        }
    }
}

impl FromStr for RelayAddress {
    type Err = RelayAddressError;

    fn from_str(text: &str) -> Result<Self, RelayAddressError> {
        let rest = text
            .strip_prefix("https://")
            .ok_or(RelayAddressError::Scheme)?;
        let (rest, pin) = match rest.split_once('#') {
            Some((rest, pin)) => (rest, Some(pin.parse()?)),
            None => (rest, None),
        };
        let (rest, quic) = match rest.split_once('?') {
            Some((rest, query)) => {
                let quic = query.strip_prefix("quic=").and_then(port);
                (rest, quic.ok_or(RelayAddressError::Query)?)
            }
            None => (rest, ADDRESS_DISCOVERY_PORT),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.starts_with('[') {
            return Err(RelayAddressError::Ipv6);
        }
        let (host, port) = match rest.split_once(':') {
            Some((host, written)) => (host, port(written).ok_or(RelayAddressError::Port)?),
            None => (rest, HTTPS),
        };
        let host = host.to_ascii_lowercase();
        if !is_host(&host) {
            return Err(RelayAddressError::Host);
        }
        Ok(RelayAddress {
            host: host.into(),
            port,
            quic,
            pin,
        })
    }
}

/// A port in its only spelling: without sign and leading zeros, not 0.
fn port(text: &str) -> Option<u16> {
    let number = text.parse().ok()?;
    (number != 0 && u16::to_string(&number) == text).then_some(number)
}

/// Whether a text is an IPv4 address or a host name: labels of letters, digits and `-`.
fn is_host(text: &str) -> bool {
    let label = |label: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(plain)
    };
    if text.parse::<Ipv4Addr>().is_ok() {
        return true;
    }
    // What ends in digits would be read as an address, and is none.
    let last = text.rsplit('.').next().unwrap_or_default();
    text.len() <= MAX_HOST
        && text.split('.').all(label)
        && last.contains(|c: char| c.is_ascii_alphabetic())
        && !last.starts_with("0x")
}

/// The SHA-256 of the public key in a certificate (its SubjectPublicKeyInfo), written as 64 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pin([u8; 32]);

impl Pin {
    /// A pin from its bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Pin(bytes)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Pin {
    type Err = RelayAddressError;

    fn from_str(text: &str) -> Result<Self, RelayAddressError> {
        let bytes = data_encoding::HEXLOWER.decode(text.as_bytes());
        let bytes = bytes.map_err(|_| RelayAddressError::Pin)?;
        let bytes = bytes.try_into().map_err(|_| RelayAddressError::Pin)?;
        Ok(Pin(bytes))
    }
}

/// Why a text is no relay's address. It completes a sentence that starts with the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RelayAddressError {
    /// Not an `https` URL.
    #[error("does not start with `https://`")]
    Scheme,
    /// The port is not a number from 1 to 65535.
    #[error("has no valid port: a port is a number from 1 to 65535")]
    Port,
    /// Neither a host name nor an IPv4 address.
    #[error("has no valid host name or IPv4 address after `https://`")]
    Host,
    /// An IPv6 address, which iroh 1.4 does not connect to by TLS.
    #[error("names an IPv6 address, which is not supported: give the relay a host name")]
    Ipv6,
    /// Something else than `?quic=<port>`.
    #[error("has something other than `?quic=<port>` after its `?`")]
    Query,
    /// The pin is not 64 hex digits.
    #[error("has a pin that is not 64 hex digits in lowercase, as `malai relay` prints it")]
    Pin,
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIN: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    #[test]
    fn addresses_have_one_spelling() {
        for (written, shown) in [
            ("https://relay.example", "https://relay.example"),
            ("https://Relay.Example:443/", "https://relay.example"),
            ("https://10.0.0.5:7843", "https://10.0.0.5:7843"),
            ("https://relay?quic=7842", "https://relay"),
            (
                "https://r.example:8443?quic=8443",
                "https://r.example:8443?quic=8443",
            ),
            (
                &format!("https://10.0.0.5/?quic=1#{PIN}"),
                &format!("https://10.0.0.5?quic=1#{PIN}"),
            ),
        ] {
            let address: RelayAddress = written.parse().unwrap();
            assert_eq!(address.to_string(), shown, "{written}");
            assert_eq!(shown.parse::<RelayAddress>().unwrap(), address);
        }
        let address: RelayAddress = format!("https://10.0.0.5:7843#{PIN}").parse().unwrap();
        assert_eq!(address.url(), "https://10.0.0.5:7843");
        assert_eq!(address.ip(), Some(Ipv4Addr::new(10, 0, 0, 5)));
        assert_eq!(address.pin().unwrap().to_string(), PIN);
        assert_eq!(
            address.with(1, None).to_string(),
            "https://10.0.0.5:7843?quic=1"
        );
    }

    #[test]
    fn what_is_no_address_says_why() {
        for (written, problem) in [
            ("relay.example", RelayAddressError::Scheme),
            ("http://relay.example", RelayAddressError::Scheme),
            ("https://", RelayAddressError::Host),
            ("https://a b", RelayAddressError::Host),
            ("https://user@host", RelayAddressError::Host),
            ("https://host/path", RelayAddressError::Host),
            ("https://1.2.3", RelayAddressError::Host),
            ("https://a.0x1", RelayAddressError::Host),
            ("https://[::1]", RelayAddressError::Ipv6),
            ("https://host:0", RelayAddressError::Port),
            ("https://host:+1", RelayAddressError::Port),
            ("https://host?udp=1", RelayAddressError::Query),
            ("https://host?quic=0", RelayAddressError::Query),
            ("https://host#abc", RelayAddressError::Pin),
        ] {
            assert_eq!(written.parse::<RelayAddress>(), Err(problem), "{written}");
        }
    }
}
