//! The line: `malai1`, then base32 of length, cluster, secret, what else is known, and a checksum.

use core::net::{IpAddr, SocketAddr};

use data_encoding::BASE32_DNSSEC;

use super::{Hint, Invitation, MAX_HINTS, SECRET_BYTES};
use crate::identity::{ClusterId, MachineId, looks_like_id52};
use crate::name::ClusterAlias;
use crate::sanitize::escape;

/// What every invitation of this kind starts with.
pub(super) const PREFIX: &str = "malai1";

/// The length of the checksum in bytes.
const CHECKSUM: usize = 4;

/// Length, cluster, secret, checksum.
const MIN_BYTES: usize = 1 + 32 + SECRET_BYTES + CHECKSUM;

/// The first byte is the length.
const MAX_BYTES: usize = u8::MAX as usize;

const ALIAS: u8 = 1;
const IPV4: u8 = 4;
const IPV6: u8 = 6;
const RELAY: u8 = 7;

/// A text that is not an invitation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvitationError {
    /// It starts otherwise.
    #[error("this is not an invitation, which starts with {PREFIX}")]
    Other,
    /// It is an id52.
    #[error(
        "this is an id52 and not an invitation, which starts with {PREFIX}; with an id52: malai machine init <id52> <alias>"
    )]
    Id52,
    /// A character that no invitation has.
    #[error(
        "character {position} of the invitation is \"{}\", which cannot be: copy it again", escape(&character.to_string())
    )]
    Character {
        /// The character.
        character: char,
        /// Its place, counted from 1.
        position: usize,
    },
    /// Its end is missing.
    #[error("the invitation is cut off after {found} of {whole} characters: copy the whole line")]
    Cut {
        /// How many characters it has.
        found: usize,
        /// How many it should have.
        whole: usize,
    },
    /// There is something behind it.
    #[error(
        "the invitation has {found} characters instead of {whole}: copy it again, and nothing else"
    )]
    TooLong {
        /// How many characters it has.
        found: usize,
        /// How many it should have.
        whole: usize,
    },
    /// The checksum is another.
    #[error("the invitation was changed: a character is wrong. Copy it again")]
    Checksum,
}

impl Invitation {
    /// The invitation as one line of letters and digits. Hints that do not fit are left out.
    pub fn to_line(&self) -> String {
        let mut bytes = vec![0];
        bytes.extend(self.cluster.as_bytes());
        bytes.extend(self.secret);
        let mut add = |tag: u8, value: &[u8]| {
            if let Ok(length) = u8::try_from(value.len())
                && bytes.len() + 2 + value.len() + CHECKSUM <= MAX_BYTES
            {
                bytes.extend([tag, length]);
                bytes.extend(value);
            }
        };
        if let Some(alias) = &self.alias {
            add(ALIAS, alias.as_str().as_bytes());
        }
        for hint in self.hints.iter().take(MAX_HINTS) {
            match hint {
                Hint::Address(address) => {
                    let port = address.port().to_be_bytes();
                    match address.ip() {
                        IpAddr::V4(ip) => add(IPV4, &[&ip.octets()[..], &port].concat()),
                        IpAddr::V6(ip) => add(IPV6, &[&ip.octets()[..], &port].concat()),
                    }
                }
                Hint::Relay(url) => add(RELAY, url.as_bytes()),
            }
        }
        bytes[0] = u8::try_from(bytes.len() + CHECKSUM).unwrap_or(u8::MAX);
        let checksum = checksum(&bytes);
        bytes.extend(checksum);
        format!("{PREFIX}{}", BASE32_DNSSEC.encode(&bytes))
    }

    /// Parses a line. What a later version may have added is skipped.
    ///
    /// # Errors
    ///
    /// It is something else, cut off, or mistyped.
    pub fn parse(line: &str) -> Result<Self, InvitationError> {
        let line = line.trim().to_ascii_lowercase();
        if looks_like_id52(&line) && !line.starts_with(PREFIX) {
            return Err(InvitationError::Id52);
        }
        let text = line.strip_prefix(PREFIX).ok_or(InvitationError::Other)?;
        let is_known = |c: char| matches!(c, '0'..='9' | 'a'..='v');
        if let Some((at, character)) = line.chars().enumerate().find(|(_, c)| !is_known(*c)) {
            let position = at + 1;
            return Err(InvitationError::Character {
                character,
                position,
            });
        }
        let head = text.get(..2).map(|head| format!("{head}000000"));
        let head = head.and_then(|head| BASE32_DNSSEC.decode(head.as_bytes()).ok());
        let length = head.map_or(MIN_BYTES, |head| usize::from(head[0]));
        if length < MIN_BYTES {
            return Err(InvitationError::Checksum);
        }
        let whole = PREFIX.len() + BASE32_DNSSEC.encode_len(length);
        let found = line.len();
        if found < whole {
            return Err(InvitationError::Cut { found, whole });
        }
        if found > whole {
            return Err(InvitationError::TooLong { found, whole });
        }
        let bytes = BASE32_DNSSEC.decode(text.as_bytes());
        let bytes = bytes.map_err(|_| InvitationError::Checksum)?;
        let (body, end) = bytes
            .split_at_checked(length - CHECKSUM)
            .ok_or(InvitationError::Checksum)?;
        if checksum(body) != *end {
            return Err(InvitationError::Checksum);
        }
        read(&body[1..]).ok_or(InvitationError::Checksum)
    }
}

/// The invitation in bytes whose length and checksum were checked.
fn read(bytes: &[u8]) -> Option<Invitation> {
    let (cluster, bytes) = bytes.split_first_chunk::<32>()?;
    let (secret, mut bytes) = bytes.split_first_chunk()?;
    let mut invitation = Invitation {
        cluster: ClusterId::new(MachineId::from_bytes(cluster).ok()?),
        secret: *secret,
        alias: None,
        hints: Vec::new(),
    };
    while let [tag, length, rest @ ..] = bytes {
        let (value, rest) = rest.split_at_checked(usize::from(*length))?;
        bytes = rest;
        let hint = match *tag {
            ALIAS => {
                let alias = std::str::from_utf8(value).ok();
                invitation.alias = alias.and_then(|alias| ClusterAlias::parse(alias).ok());
                None
            }
            IPV4 => address::<4>(value),
            IPV6 => address::<16>(value),
            RELAY => {
                let url = std::str::from_utf8(value).ok();
                let is_line = |url: &&str| !url.is_empty() && !url.chars().any(char::is_control);
                url.filter(is_line).map(|url| Hint::Relay(url.to_owned()))
            }
            _ => None,
        };
        if invitation.hints.len() < MAX_HINTS {
            invitation.hints.extend(hint);
        }
    }
    Some(invitation)
}

fn address<const N: usize>(value: &[u8]) -> Option<Hint>
where
    IpAddr: From<[u8; N]>,
{
    let (ip, port) = value.split_first_chunk::<N>()?;
    let port = u16::from_be_bytes(port.try_into().ok()?);
    Some(Hint::Address(SocketAddr::new(IpAddr::from(*ip), port)))
}

pub(super) fn checksum(body: &[u8]) -> [u8; CHECKSUM] {
    let hash = blake3::derive_key("malai 2026-11 invitation checksum", body);
    let [a, b, c, d, ..] = hash;
    [a, b, c, d]
}
