//! The server's side of SOCKS 4, 4a and 5, for `malai ssh -D`: what a client that has connected says before its bytes. Of
//! SOCKS 5 (RFC 1928) it knows the method without authentication and the command CONNECT, as ssh does.

use core::net::{Ipv4Addr, Ipv6Addr};

/// The longest user name that a SOCKS 4 client may send, in bytes. It is ignored.
const MOST_USER: usize = 255;

/// The longest host name, in bytes: all that SOCKS 5 can express.
const MOST_HOST: usize = 255;

/// The version that a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// SOCKS 4 and 4a.
    Four,
    /// SOCKS 5.
    Five,
}

/// The result of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The connection is open; its bytes follow.
    Open,
    /// It failed for another reason.
    Failed,
    /// It is not allowed.
    NotAllowed,
    /// The machine cannot be reached.
    Unreachable,
    /// Nothing accepts connections there.
    Refused,
    /// The command is not supported.
    Command,
    /// The kind of address is not supported.
    Address,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Read more bytes.
    More,
    /// Send these bytes, and call [`Negotiation::read`] again, with no bytes if there are none yet.
    Answer(Vec<u8>),
    /// Connect, answer with [`answer`], and pass the bytes on.
    Connect {
        /// The version for the answer.
        version: Version,
        /// Where to, as `host:port`, with an IPv6 address in brackets.
        to: String,
        /// Bytes that the client has sent already for the other end.
        rest: Vec<u8>,
    },
    /// Send these bytes, if there are any, and close the connection.
    Close {
        /// The answer.
        answer: Vec<u8>,
        /// Why, for people.
        why: &'static str,
    },
}

/// What a client has said so far.
#[derive(Debug, Default)]
pub struct Negotiation {
    received: Vec<u8>,
    has_method: bool,
}

impl Negotiation {
    /// Takes the bytes that a client has sent.
    pub fn read(&mut self, bytes: &[u8]) -> Next {
        self.received.extend_from_slice(bytes);
        match self.received.first() {
            None => Next::More,
            Some(4) => self.four(),
            Some(5) if self.has_method => self.five(),
            Some(5) => self.methods(),
            Some(_) => close(Vec::new(), "this is not SOCKS"),
        }
    }

    /// `04 command port address user 00`, and with an address of 0.0.0.x `host 00`.
    fn four(&mut self) -> Next {
        let Some((head, behind)) = self.received.split_at_checked(8) else {
            return Next::More;
        };
        let Some((_, behind)) = text(behind, MOST_USER) else {
            return match behind.len() > MOST_USER {
                true => close(Vec::new(), "the user name is too long"),
                false => Next::More,
            };
        };
        let (host, rest) = match head[4..8] {
            [0, 0, 0, last] if last != 0 => {
                let Some((host, rest)) = text(behind, MOST_HOST) else {
                    return match behind.len() > MOST_HOST {
                        true => close(Vec::new(), "the host name is too long"),
                        false => Next::More,
                    };
                };
                (name(host), rest)
            }
            [a, b, c, d] => (Some(Ipv4Addr::new(a, b, c, d).to_string()), behind),
            // There are four bytes.
            _ => (None, behind),
        };
        let port = u16::from_be_bytes([head[2], head[3]]);
        self.request(Version::Four, head[1], host, port, rest.to_vec())
    }

    /// `05 count methods`.
    fn methods(&mut self) -> Next {
        let Some(&count) = self.received.get(1) else {
            return Next::More;
        };
        let Some(methods) = self.received.get(2..2 + usize::from(count)) else {
            return Next::More;
        };
        if !methods.contains(&0) {
            return close(
                vec![5, 0xff],
                "the client wants to authenticate itself, which is not supported",
            );
        }
        self.received.drain(..2 + usize::from(count));
        self.has_method = true;
        Next::Answer(vec![5, 0])
    }

    /// `05 command 00 kind address port`.
    fn five(&mut self) -> Next {
        let Some((head, behind)) = self.received.split_at_checked(4) else {
            return Next::More;
        };
        let taken = match head[3] {
            1 => behind
                .first_chunk::<4>()
                .map(|bytes| (Some(Ipv4Addr::from(*bytes).to_string()), 4)),
            3 => behind.first().and_then(|length| {
                let end = 1 + usize::from(*length);
                Some((name(behind.get(1..end)?), end))
            }),
            4 => behind
                .first_chunk::<16>()
                .map(|bytes| (Some(format!("[{}]", Ipv6Addr::from(*bytes))), 16)),
            _ => {
                let answer = answer(Version::Five, Outcome::Address);
                return close(answer, "the kind of address is unknown");
            }
        };
        let Some((host, length)) = taken else {
            return Next::More;
        };
        let Some((port, rest)) = behind[length..].split_first_chunk::<2>() else {
            return Next::More;
        };
        let port = u16::from_be_bytes(*port);
        self.request(Version::Five, head[1], host, port, rest.to_vec())
    }

    fn request(
        &self,
        version: Version,
        command: u8,
        host: Option<String>,
        port: u16,
        rest: Vec<u8>,
    ) -> Next {
        match host {
            _ if command != 1 => close(
                answer(version, Outcome::Command),
                "the client wants to listen, or UDP: only connections are passed on",
            ),
            Some(host) => Next::Connect {
                version,
                to: format!("{host}:{port}"),
                rest,
            },
            None => close(answer(version, Outcome::Address), "the host is not a name"),
        }
    }
}

/// A text of at most so many bytes that ends with a NUL, and what follows it.
fn text(bytes: &[u8], most: usize) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().take(most + 1).position(|byte| *byte == 0)?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

fn close(answer: Vec<u8>, why: &'static str) -> Next {
    Next::Close { answer, why }
}

/// A host as the policy writes it: an IPv6 address gets its brackets.
fn name(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    match text.parse::<Ipv6Addr>() {
        Ok(address) => Some(format!("[{address}]")),
        Err(_) => (!text.is_empty()).then(|| text.to_owned()),
    }
}

/// The answer to a request.
pub fn answer(version: Version, outcome: Outcome) -> Vec<u8> {
    match version {
        Version::Four => {
            let code = match outcome {
                Outcome::Open => 90,
                _ => 91,
            };
            vec![0, code, 0, 0, 0, 0, 0, 0]
        }
        Version::Five => {
            let code = match outcome {
                Outcome::Open => 0,
                Outcome::Failed => 1,
                Outcome::NotAllowed => 2,
                Outcome::Unreachable => 4,
                Outcome::Refused => 5,
                Outcome::Command => 7,
                Outcome::Address => 8,
            };
            // The address of this end is not known, and clients do not need it.
            vec![5, code, 0, 1, 0, 0, 0, 0, 0, 0]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIVE: &[u8] = &[5, 2, 0, 2];

    fn connect(version: Version, to: &str, rest: &[u8]) -> Next {
        Next::Connect {
            version,
            to: to.to_owned(),
            rest: rest.to_vec(),
        }
    }

    /// What the bytes lead to if they come one by one, and if they come at once; both are the same.
    fn leads_to(bytes: &[u8]) -> Next {
        let mut at_once = Negotiation::default();
        let mut next = at_once.read(bytes);
        while let Next::Answer(_) = next {
            next = at_once.read(&[]);
        }
        let (mut one_by_one, mut other) = (Negotiation::default(), Next::More);
        for (at, byte) in bytes.iter().enumerate() {
            other = one_by_one.read(&[*byte]);
            while let Next::Answer(_) = other {
                other = one_by_one.read(&[]);
            }
            match &mut other {
                Next::More | Next::Answer(_) => {}
                Next::Connect { rest, .. } => {
                    rest.extend_from_slice(&bytes[at + 1..]);
                    break;
                }
                Next::Close { .. } => break,
            }
        }
        assert_eq!(next, other);
        next
    }

    #[test]
    fn where_a_client_wants_to() {
        let five = |request: &[u8]| [FIVE, request].concat();
        for (bytes, expected) in [
            (
                five(b"\x05\x01\0\x01\x7f\0\0\x01\0\x50GET"),
                connect(Version::Five, "127.0.0.1:80", b"GET"),
            ),
            (
                five(b"\x05\x01\0\x03\x09localhost\x15\x38"),
                connect(Version::Five, "localhost:5432", b""),
            ),
            (
                five(&[
                    5, 1, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 80,
                ]),
                connect(Version::Five, "[::1]:80", b""),
            ),
            (
                five(b"\x05\x01\0\x03\x03::1\0\x50"),
                connect(Version::Five, "[::1]:80", b""),
            ),
            (
                b"\x04\x01\0\x50\x0a\0\0\x01me\0x".to_vec(),
                connect(Version::Four, "10.0.0.1:80", b"x"),
            ),
            (
                b"\x04\x01\0\x50\0\0\0\x07\0web.internal\0".to_vec(),
                connect(Version::Four, "web.internal:80", b""),
            ),
            (five(b"\x05\x01\0\x03\x09local"), Next::More),
            (b"\x04\x01\0\x50\x0a\0\0\x01me".to_vec(), Next::More),
            (vec![5, 1], Next::More),
            (vec![], Next::More),
        ] {
            assert_eq!(leads_to(&bytes), expected, "{bytes:x?}");
        }
    }

    #[test]
    fn what_is_not_supported_is_answered() {
        let five = |request: &[u8]| [FIVE, request].concat();
        for (bytes, expected) in [
            (vec![5, 1, 2], vec![5, 0xff]),
            (
                five(&[5, 2, 0, 1, 0, 0, 0, 0, 0, 0]),
                answer(Version::Five, Outcome::Command),
            ),
            (five(&[5, 1, 0, 9]), answer(Version::Five, Outcome::Address)),
            (
                five(b"\x05\x01\0\x03\x01\xff\0\x50"),
                answer(Version::Five, Outcome::Address),
            ),
            (
                b"\x04\x02\0\x50\x0a\0\0\x01\0".to_vec(),
                answer(Version::Four, Outcome::Command),
            ),
            (b"GET / HTTP/1.1\r\n".to_vec(), vec![]),
            ([&[4; 8][..], &[b'x'; 300]].concat(), vec![]),
        ] {
            let Next::Close { answer, .. } = leads_to(&bytes) else {
                panic!("{bytes:x?}");
            };
            assert_eq!(answer, expected, "{bytes:x?}");
        }
    }
}
