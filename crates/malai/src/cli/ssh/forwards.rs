//! ssh's forwardings as text: `-L`, `-D` and `-W`.

use malai_cluster::{Upstream, escape};
use malai_node::forward::listen::Listen;

use super::SshError;

/// What is listened on here, and where its connections go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalForward {
    /// Where to listen.
    pub listen: Listen,
    /// Whether an address was given for it; otherwise `-g` counts.
    pub has_address: bool,
    /// Where connections go.
    pub to: Reach,
}

/// What is reached on the other side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// This address, as `host:port`.
    Tcp(String),
    /// This Unix socket.
    Unix(String),
    /// What each client asks for by SOCKS.
    Socks,
}

impl LocalForward {
    /// Reads the value of `-L`: `[bind:]port:host:hostport`, `[bind:]port:/remote.sock`, `/local.sock:host:hostport` or
    /// `/local.sock:/remote.sock`. `LocalForward` may have a blank between the two halves.
    ///
    /// # Errors
    ///
    /// The text is none of these.
    pub fn local(name: &str, text: &str) -> Result<Self, SshError> {
        let wrong = || {
            SshError(format!(
                "{name} {}: it is not [bind:]port:host:hostport, where either side may be the path of a Unix socket",
                escape(text)
            ))
        };
        let fields = fields(text).ok_or_else(wrong)?;
        let is_path = |field: &str| field.contains('/');
        let (bind, port, to) = match &fields[..] {
            [from, path] if is_path(path) => (None, from, Reach::Unix(path.clone())),
            [from, host, port] if is_path(from) => (None, from, tcp(name, host, port)?),
            [bind, from, path] if is_path(path) => (Some(bind), from, Reach::Unix(path.clone())),
            [from, host, port] => (None, from, tcp(name, host, port)?),
            [bind, from, host, port] => (Some(bind), from, tcp(name, host, port)?),
            _ => return Err(wrong()),
        };
        let listen = match is_path(port) {
            true if bind.is_none() => Listen::Unix(port.into()),
            true => return Err(wrong()),
            false => listen(bind, port).ok_or_else(wrong)?,
        };
        if let Reach::Unix(path) = &to {
            Upstream::unix(path)
                .map_err(|error| SshError(format!("{name}: `{}` {error}", escape(path))))?;
        }
        Ok(Self {
            has_address: bind.is_some(),
            listen,
            to,
        })
    }

    /// Reads the value of `-D`: `[bind:]port`.
    ///
    /// # Errors
    ///
    /// The text is not that.
    pub fn dynamic(name: &str, text: &str) -> Result<Self, SshError> {
        let wrong = || SshError(format!("{name} {}: it is not [bind:]port", escape(text)));
        let fields = fields(text).ok_or_else(wrong)?;
        let (bind, port) = match &fields[..] {
            [port] => (None, port),
            [bind, port] => (Some(bind), port),
            _ => return Err(wrong()),
        };
        Ok(Self {
            has_address: bind.is_some(),
            listen: listen(bind, port).ok_or_else(wrong)?,
            to: Reach::Socks,
        })
    }
}

/// Reads the value of `-W`: `host:port`.
///
/// # Errors
///
/// The text is not that.
pub fn standard(name: &str, text: &str) -> Result<Reach, SshError> {
    match fields(text).as_deref() {
        Some([host, port]) => tcp(name, host, port),
        _ => Err(SshError(format!(
            "{name} {}: it is not host:port",
            escape(text)
        ))),
    }
}

/// Splits at colons and blanks, but not in brackets, which are removed.
fn fields(text: &str) -> Option<Vec<String>> {
    let (mut all, mut field) = (Vec::new(), String::new());
    let mut left = text.trim_ascii().chars();
    while let Some(next) = left.next() {
        match next {
            '[' if field.is_empty() => loop {
                match left.next()? {
                    ']' => break,
                    inner => field.push(inner),
                }
            },
            ':' => all.push(std::mem::take(&mut field)),
            blank if blank.is_ascii_whitespace() => {
                all.push(std::mem::take(&mut field));
                left = left.as_str().trim_ascii_start().chars();
            }
            '\\' => field.push(left.next()?),
            other => field.push(other),
        }
    }
    all.push(field);
    Some(all)
}

fn tcp(name: &str, host: &str, port: &str) -> Result<Reach, SshError> {
    let text = match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    };
    match Upstream::tcp(&text) {
        Ok(address) => Ok(Reach::Tcp(address.to_string())),
        Err(error) => Err(SshError(format!("{name}: `{}` {error}", escape(&text)))),
    }
}

/// Where to listen; without an address on loopback. As in ssh, an empty one and `*` are all addresses.
fn listen(bind: Option<&String>, port: &str) -> Option<Listen> {
    let host = match bind.map(String::as_str) {
        None => "127.0.0.1",
        Some("" | "*") => "*",
        Some(host) => host,
    };
    Some(Listen::Tcp {
        host: host.to_owned(),
        port: port.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Listen {
        Listen::Tcp {
            host: host.to_owned(),
            port,
        }
    }

    #[test]
    fn every_spelling_of_ssh() {
        let to = |text: &str| Reach::Tcp(text.to_owned());
        let socket = || Reach::Unix("/run/x.sock".to_owned());
        let unix = || Listen::Unix("/tmp/l.sock".into());
        for (text, listen, reach, has_address) in [
            (
                "8080:localhost:80",
                tcp("127.0.0.1", 8080),
                to("localhost:80"),
                false,
            ),
            ("0:db:5432", tcp("127.0.0.1", 0), to("db:5432"), false),
            (
                "127.0.0.2:8080:h:80",
                tcp("127.0.0.2", 8080),
                to("h:80"),
                true,
            ),
            (
                "[::1]:8080:[::2]:80",
                tcp("::1", 8080),
                to("[::2]:80"),
                true,
            ),
            (":8080:h:80", tcp("*", 8080), to("h:80"), true),
            ("*:8080:h:80", tcp("*", 8080), to("h:80"), true),
            (
                "8080 [::1]:80",
                tcp("127.0.0.1", 8080),
                to("[::1]:80"),
                false,
            ),
            ("8080:/run/x.sock", tcp("127.0.0.1", 8080), socket(), false),
            (
                "localhost:8080:/run/x.sock",
                tcp("localhost", 8080),
                socket(),
                true,
            ),
            ("/tmp/l.sock:h:80", unix(), to("h:80"), false),
            ("/tmp/l.sock:/run/x.sock", unix(), socket(), false),
            ("/tmp/l.sock /run/x.sock", unix(), socket(), false),
        ] {
            let expected = LocalForward {
                listen,
                has_address,
                to: reach,
            };
            assert_eq!(LocalForward::local("-L", text), Ok(expected), "{text}");
        }
        for text in [
            "",
            "8080",
            "8080:h",
            "8080:h:x",
            "x:h:80",
            "8080:h:0",
            "a:b:c:d:e",
            "[::1:8080:h:80",
            "8080:run/x.sock",
            "h:/l:/r",
            "8080::80",
            "8080:h:80 x",
        ] {
            assert!(LocalForward::local("-L", text).is_err(), "{text}");
        }
    }

    #[test]
    fn dynamic_and_standard() {
        let (listen, to) = (tcp("127.0.0.1", 1080), Reach::Socks);
        let expected = LocalForward {
            listen,
            has_address: false,
            to,
        };
        assert_eq!(LocalForward::dynamic("-D", "1080"), Ok(expected));
        let bound = LocalForward::dynamic("-D", "[::1]:1080").unwrap();
        assert_eq!(bound.listen, tcp("::1", 1080));
        for text in ["", "x", "1080:h:80", "/run/x"] {
            assert!(LocalForward::dynamic("-D", text).is_err(), "{text}");
        }
        for (text, address) in [("[::1]:22", "[::1]:22"), ("h:22", "h:22")] {
            assert_eq!(standard("-W", text), Ok(Reach::Tcp(address.to_owned())));
        }
        for text in ["", "22", "h:22:x", "h:", ":22"] {
            assert!(standard("-W", text).is_err(), "{text}");
        }
    }
}
