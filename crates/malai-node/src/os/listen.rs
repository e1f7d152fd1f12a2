//! Where connections of this computer are accepted: a TCP port, or a Unix socket whose file is taken over if nobody
//! listens on it any more.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use crate::os::fs::display_path;

/// Ports below this need a privilege to listen on.
const PRIVILEGED: u16 = 1024;

/// Where to accept connections.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Listen {
    /// On a port of this host; port 0 is any free one.
    Tcp {
        /// An address or a name; `*` is all addresses of this computer.
        host: String,
        /// The port.
        port: u16,
    },
    /// On a Unix socket.
    Unix(PathBuf),
    /// Not at all: standard input and output are the one connection.
    Standard,
}

/// Why a text is no place to listen, or why it cannot be listened there.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The text is none.
    #[error(
        "{0:?} is no place to listen: write a port, an address and a port, the path of a Unix socket with a slash in it, or - for standard input and output"
    )]
    Unreadable(String),
    /// Another program has it.
    #[error("cannot listen on {0}: another program already does")]
    Taken(String),
    /// A port that needs a privilege.
    #[error("cannot listen on {0}: ports below {PRIVILEGED} need root; choose a higher one")]
    Privileged(String),
    /// A file that is no socket.
    #[error(
        "cannot listen on {0}: there is a file that is not a socket; remove it, or choose another path"
    )]
    File(String),
    /// The system refuses.
    #[error("cannot listen on {0}: {1}")]
    System(String, io::Error),
}

impl Listen {
    /// Reads a port (on loopback), `address:port`, a path with a slash in it, or `-`.
    ///
    /// # Errors
    ///
    /// The text is none of these.
    pub fn parse(text: &str) -> Result<Self, ListenError> {
        let unreadable = || ListenError::Unreadable(malai_cluster::escape(text));
        if text == "-" {
            return Ok(Self::Standard);
        }
        if text.contains('/') {
            return Ok(Self::Unix(text.into()));
        }
        let (host, port) = match text.rsplit_once(':') {
            None => ("127.0.0.1", text),
            Some((host, port)) => (host, port),
        };
        let inside = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let host = inside.unwrap_or(host);
        let port = port.parse().map_err(|_| unreadable())?;
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
        let is_address = host.parse::<IpAddr>().is_ok();
        if !is_address && host != "*" && (host.is_empty() || !host.chars().all(is_name)) {
            return Err(unreadable());
        }
        Ok(Self::Tcp {
            host: host.to_owned(),
            port,
        })
    }

    /// Starts to listen there. Nothing for standard input and output.
    ///
    /// # Errors
    ///
    /// Why it cannot be listened there.
    pub fn bind(&self) -> Result<Option<Bound>, ListenError> {
        match self {
            Self::Standard => Ok(None),
            Self::Tcp { host, port } => self.bind_tcp(host, *port).map(Some),
            Self::Unix(path) => self.bind_unix(path).map(Some),
        }
    }

    fn bind_tcp(&self, host: &str, port: u16) -> Result<Bound, ListenError> {
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::AddrInUse => ListenError::Taken(self.to_string()),
            io::ErrorKind::PermissionDenied if port < PRIVILEGED => {
                ListenError::Privileged(self.to_string())
            }
            _ => ListenError::System(self.to_string(), error),
        };
        // Like ssh: the name means this computer, whatever it resolves to.
        let addresses: Vec<SocketAddr> = match host {
            "localhost" => vec![(Ipv4Addr::LOCALHOST, port).into()],
            // All addresses: on Linux those of IPv4 too, and those alone where IPv6 is off.
            "*" => vec![
                (Ipv6Addr::UNSPECIFIED, port).into(),
                (Ipv4Addr::UNSPECIFIED, port).into(),
            ],
            host => (host, port).to_socket_addrs().map_err(failed)?.collect(),
        };
        let listener = TcpListener::bind(&addresses[..]).map_err(failed)?;
        let shown = listener.local_addr().map_err(failed)?.to_string();
        Ok(Bound {
            descriptor: listener.into(),
            shown,
            file: None,
        })
    }

    fn bind_unix(&self, path: &Path) -> Result<Bound, ListenError> {
        let failed = |error: io::Error| ListenError::System(self.to_string(), error);
        match std::fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(ListenError::File(self.to_string()));
            }
            Ok(_) => match UnixStream::connect(path) {
                Ok(_) => return Err(ListenError::Taken(self.to_string())),
                // Left behind by a process that has gone.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(error) => return Err(failed(error)),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        // Bound under another name and then renamed, so that nobody else can connect before its mode is set, and what was
        // left behind is replaced at once.
        let mut name = std::ffi::OsString::from(".");
        name.push(std::process::id().to_string());
        let temporary = path.with_file_name(name);
        let bound = || {
            let listener = UnixListener::bind(&temporary)?;
            std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(0o600))?;
            let inode = std::fs::symlink_metadata(&temporary)?.ino();
            std::fs::rename(&temporary, path)?;
            Ok((listener, inode))
        };
        let (listener, inode) = bound().map_err(|error| {
            let _ = std::fs::remove_file(&temporary);
            failed(error)
        })?;
        Ok(Bound {
            descriptor: listener.into(),
            shown: display_path(path),
            file: Some(SocketFile {
                path: path.to_owned(),
                inode,
            }),
        })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => f.write_str(&display_path(path)),
            Self::Standard => f.write_str("standard input and output"),
        }
    }
}

/// A listening socket.
#[derive(Debug)]
pub struct Bound {
    /// Its descriptor.
    pub descriptor: OwnedFd,
    /// Where it listens, as text: with the port that the system has chosen.
    pub shown: String,
    /// The file of a Unix socket.
    pub file: Option<SocketFile>,
}

/// The file of a Unix socket, removed when this is dropped, unless another one has its name by then.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let found = std::fs::symlink_metadata(&self.path);
        if found.is_ok_and(|found| found.ino() == self.inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn where_to_listen() {
        let tcp = |host: &str, port| Listen::Tcp {
            host: host.to_owned(),
            port,
        };
        for (text, listen) in [
            ("8080", tcp("127.0.0.1", 8080)),
            ("0", tcp("127.0.0.1", 0)),
            ("0.0.0.0:80", tcp("0.0.0.0", 80)),
            ("[::1]:80", tcp("::1", 80)),
            ("*:80", tcp("*", 80)),
            ("localhost:5432", tcp("localhost", 5432)),
            ("./x.sock", Listen::Unix("./x.sock".into())),
            ("/run/x:1", Listen::Unix("/run/x:1".into())),
            ("-", Listen::Standard),
        ] {
            assert_eq!(Listen::parse(text).unwrap(), listen, "{text}");
        }
        for text in ["", "x.sock", ":80", "a b:80", "70000", "localhost:", "-1"] {
            assert!(Listen::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_socket_left_behind_is_taken_over_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.sock");
        let listen = Listen::Unix(path.clone());
        // Dropping a listener leaves its file.
        drop(UnixListener::bind(&path).unwrap());
        let bound = listen.bind().unwrap().unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        UnixStream::connect(&path).unwrap();
        assert!(matches!(listen.bind(), Err(ListenError::Taken(_))));
        drop(bound);
        assert!(!path.exists());

        std::fs::write(&path, "text").unwrap();
        assert!(matches!(listen.bind(), Err(ListenError::File(_))));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "text");
    }

    #[test]
    fn a_port_that_is_taken_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = Listen::parse(&port.to_string())
            .unwrap()
            .bind()
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("cannot listen on 127.0.0.1:{port}: another program already does")
        );
    }
}
