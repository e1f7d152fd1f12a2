//! A service: what listens on one machine, and is reached by its name from others.

use core::net::{IpAddr, Ipv6Addr};
use std::fmt;

use crate::allow::AllowList;
use crate::name::{MachineName, ServiceName};

/// The longest path of a Unix socket, in bytes (`sun_path` of unix(7), without its NUL).
const MAX_SOCKET_PATH: usize = 107;

/// The longest host name, in bytes (RFC 1035 §2.3.4).
const MAX_HOST: usize = 253;

/// One `[service.X]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    pub(crate) name: ServiceName,
    pub(crate) machine: MachineName,
    pub(crate) upstream: Upstream,
    pub(crate) allow_from: Option<AllowList>,
}

impl Service {
    /// Its name in the cluster.
    pub fn name(&self) -> &ServiceName {
        &self.name
    }

    /// The machine that it runs on.
    pub fn machine(&self) -> &MachineName {
        &self.machine
    }

    /// Where it listens there.
    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// Who may connect to it; `None` means no one.
    pub fn allow_from(&self) -> Option<&AllowList> {
        self.allow_from.as_ref()
    }
}

/// Where a service listens, as its machine sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Upstream {
    /// A TCP port.
    Tcp {
        /// An IP address without brackets, or a host name.
        host: Box<str>,
        /// The port, not 0.
        port: u16,
    },
    /// A TCP port on which HTTP/1.1 is spoken. Requests are told who sends them.
    Http {
        /// An IP address without brackets, or a host name.
        host: Box<str>,
        /// The port, not 0.
        port: u16,
    },
    /// A Unix stream socket, by its absolute path.
    Unix(Box<str>),
}

impl Upstream {
    /// Reads `127.0.0.1:5432`, `[::1]:5432` or `localhost:5432`.
    ///
    /// # Errors
    ///
    /// The text is none of these.
    pub fn tcp(text: &str) -> Result<Self, UpstreamError> {
        let (host, port) = host_and_port(text)?;
        Ok(Upstream::Tcp { host, port })
    }

    /// The same for a service that speaks HTTP. A URL is none.
    ///
    /// # Errors
    ///
    /// As [`Upstream::tcp`].
    pub fn http(text: &str) -> Result<Self, UpstreamError> {
        if text.contains("//") {
            return Err(UpstreamError::Url);
        }
        let (host, port) = host_and_port(text)?;
        Ok(Upstream::Http { host, port })
    }

    /// Reads the absolute path of a Unix socket.
    ///
    /// # Errors
    ///
    /// It is not absolute, too long, or contains control characters.
    pub fn unix(path: &str) -> Result<Self, UpstreamError> {
        if !path.starts_with('/') {
            return Err(UpstreamError::Relative);
        }
        if path.len() > MAX_SOCKET_PATH {
            return Err(UpstreamError::LongPath);
        }
        if path.chars().any(crate::sanitize::is_unsafe) {
            return Err(UpstreamError::PathCharacter);
        }
        Ok(Upstream::Unix(path.into()))
    }

    /// The key under which it is written in a cluster.toml: `tcp`, `http` or `unix`.
    pub fn protocol(&self) -> &'static str {
        match self {
            Upstream::Tcp { .. } => "tcp",
            Upstream::Http { .. } => "http",
            Upstream::Unix(_) => "unix",
        }
    }

    /// The address as it is shown where its key is not: `127.0.0.1:3000 (HTTP)`.
    pub fn shown(&self) -> String {
        let address = crate::escape(&format!("{self}"));
        match self {
            Upstream::Http { .. } => format!("{address} (HTTP)"),
            Upstream::Tcp { .. } | Upstream::Unix(_) => address,
        }
    }
}

impl fmt::Display for Upstream {
    /// As it is written in a cluster.toml.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Upstream::Tcp { host, port } | Upstream::Http { host, port } => {
                match host.contains(':') {
                    true => write!(f, "[{host}]:{port}"),
                    false => write!(f, "{host}:{port}"),
                }
            }
            Upstream::Unix(path) => f.write_str(path),
        }
    }
}

/// Reads an address or a name, and a port.
fn host_and_port(text: &str) -> Result<(Box<str>, u16), UpstreamError> {
    let (host, port) = text.rsplit_once(':').ok_or(UpstreamError::NoPort)?;
    let port = match port.parse() {
        // A sign or leading zeros would be a second spelling.
        Ok(number) if number != 0 && format!("{number}") == port => number,
        _ => return Err(UpstreamError::Port),
    };
    let inside = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let host = match inside {
        Some(inside) => {
            inside
                .parse::<Ipv6Addr>()
                .map_err(|_| UpstreamError::Host)?;
            inside
        }
        None if host.contains(':') => return Err(UpstreamError::Brackets),
        None if host.parse::<IpAddr>().is_ok() || is_host_name(host) => host,
        None => return Err(UpstreamError::Host),
    };
    Ok((host.into(), port))
}

/// Whether a text can be a host name: labels of letters, digits, `-` and `_`.
fn is_host_name(text: &str) -> bool {
    let label = |label: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=63).contains(&label.len()) && !label.starts_with('-') && label.bytes().all(plain)
    };
    // A name of digits and dots only would be an address that is not valid.
    text.len() <= MAX_HOST
        && text.split('.').all(label)
        && text.contains(|c: char| c.is_ascii_alphabetic())
}

/// Why a text cannot be the address of a service. It completes a sentence that starts with the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// There is no port.
    #[error("has no port")]
    NoPort,
    /// The port is not a number from 1 to 65535.
    #[error("has no valid port: a port is a number from 1 to 65535")]
    Port,
    /// An IPv6 address without brackets.
    #[error("has more than one colon: an IPv6 address is written in brackets, like `[::1]:5432`")]
    Brackets,
    /// Neither an address nor a host name.
    #[error("has no valid address or host name before its port")]
    Host,
    /// A URL instead of an address.
    #[error("is a URL")]
    Url,
    /// Not an absolute path.
    #[error("is not an absolute path")]
    Relative,
    /// More bytes than a socket's path may have.
    #[error("is longer than the path of a Unix socket may be (107 bytes)")]
    LongPath,
    /// A control character in the path.
    #[error("contains a character that cannot be shown")]
    PathCharacter,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_in_one_spelling() {
        for text in [
            "127.0.0.1:5432",
            "[::1]:80",
            "localhost:65535",
            "db_1.internal:1",
        ] {
            assert_eq!(Upstream::tcp(text).unwrap().to_string(), text);
        }
        for (text, problem) in [
            ("5432", UpstreamError::NoPort),
            ("localhost:", UpstreamError::Port),
            ("localhost:0", UpstreamError::Port),
            ("localhost:+80", UpstreamError::Port),
            ("localhost:080", UpstreamError::Port),
            ("localhost:65536", UpstreamError::Port),
            ("::1:80", UpstreamError::Brackets),
            ("[127.0.0.1]:80", UpstreamError::Host),
            ("[::1%lo]:80", UpstreamError::Host),
            (":80", UpstreamError::Host),
            ("1.2.3:80", UpstreamError::Host),
            ("a b:80", UpstreamError::Host),
            ("-x:80", UpstreamError::Host),
            ("user@host:80", UpstreamError::Host),
        ] {
            assert_eq!(Upstream::tcp(text), Err(problem), "{text}");
            assert_eq!(Upstream::http(text), Err(problem), "{text}");
        }
        assert_eq!(Upstream::http("[::1]:80").unwrap().to_string(), "[::1]:80");
        let url = Upstream::http("http://localhost:80");
        assert_eq!(url, Err(UpstreamError::Url));
    }

    #[test]
    fn paths_are_absolute_and_fit_into_an_address() {
        let longest = format!("/{}", "x".repeat(106));
        for path in ["/run/x.sock", "/tmp/a b", longest.as_str()] {
            assert_eq!(Upstream::unix(path).unwrap().to_string(), path);
        }
        for (path, problem) in [
            ("", UpstreamError::Relative),
            ("run/x.sock", UpstreamError::Relative),
            (&format!("{longest}x"), UpstreamError::LongPath),
            ("/a\nb", UpstreamError::PathCharacter),
            ("/a\0b", UpstreamError::PathCharacter),
        ] {
            assert_eq!(Upstream::unix(path), Err(problem), "{path:?}");
        }
    }
}
