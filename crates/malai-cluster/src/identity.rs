//! ed25519 public keys as the identities of machines and clusters, and the secret seed of an identity.

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE32_DNSSEC, HEXLOWER};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::sanitize::escape;

/// The number of characters in an id52: 256 bits in groups of five.
const ID52_LENGTH: usize = 52;

/// The ed25519 public key that identifies a machine; shown as an *id52*.
///
/// A value of this type is always a canonically encoded curve point that is not of small order, so no other code
/// has to check that again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MachineId([u8; 32]);

impl MachineId {
    /// The identity with these 32 bytes as its public key.
    ///
    /// # Errors
    ///
    /// [`IdError::NotAKey`] for bytes that are not a point or not its only canonical encoding (RFC 8032
    /// §5.1.3), [`IdError::Weak`] for a point of small order, whose signatures anyone can forge.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, IdError> {
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| IdError::NotAKey)?;
        if !is_reduced(bytes) {
            return Err(IdError::NotAKey);
        }
        if key.is_weak() {
            return Err(IdError::Weak);
        }
        Ok(MachineId(*bytes))
    }

    /// Parses an id52: 52 characters of RFC 4648 base32hex, lowercase, without padding.
    ///
    /// # Errors
    ///
    /// An [`IdError`] that says what is wrong and what to do about it.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let length = text.chars().count();
        if length != ID52_LENGTH {
            return Err(IdError::Length { found: length });
        }
        for (index, character) in text.chars().enumerate() {
            match character {
                '0'..='9' | 'a'..='v' => {}
                'A'..='V' => return Err(IdError::UpperCase),
                _ => {
                    return Err(IdError::Character {
                        character,
                        position: index + 1,
                    });
                }
            }
        }
        // Length and alphabet are right, so only the four spare bits can still be wrong.
        let bytes = BASE32_DNSSEC
            .decode(text.as_bytes())
            .map_err(|_| IdError::SpareBits)?;
        let bytes = bytes.try_into().map_err(|_| IdError::SpareBits)?;
        Self::from_bytes(&bytes)
    }

    /// The 32 bytes of the public key.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first eight characters and an ellipsis, for display; never enough to base a decision on.
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(8);
        text.push('…');
        text
    }

    /// Whether `signature` is this key's signature of `message`, by the strict rules: no malleable signatures, no
    /// small-order components.
    pub fn verify(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        VerifyingKey::from_bytes(&self.0).is_ok_and(|key| {
            key.verify_strict(message, &Signature::from_bytes(signature))
                .is_ok()
        })
    }
}

/// Whether the y coordinate in these bytes is below the field's prime 2²⁵⁵ − 19.
///
/// This is cheaper than compressing the point again, which costs an inversion per key. The other non-canonical
/// encodings, x = 0 with the sign bit set, are of small order and refused as weak.
fn is_reduced(bytes: &[u8; 32]) -> bool {
    let all_ones = bytes[1..31].iter().all(|byte| *byte == 0xff) && bytes[31] & 0x7f == 0x7f;
    !(all_ones && bytes[0] >= 0xed)
}

impl fmt::Display for MachineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&BASE32_DNSSEC.encode(&self.0))
    }
}

impl fmt::Debug for MachineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MachineId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::parse(text)
    }
}

impl Serialize for MachineId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for MachineId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            Self::parse(&text).map_err(serde::de::Error::custom)
        } else {
            let bytes = <[u8; 32]>::deserialize(deserializer)?;
            Self::from_bytes(&bytes).map_err(serde::de::Error::custom)
        }
    }
}

/// Whether the text looks like an id52, in uppercase or lowercase, even if it is not a key.
///
/// Names must not look like this, so that a name and an id52 are never confused.
pub fn looks_like_id52(text: &str) -> bool {
    text.len() == ID52_LENGTH
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'v' | b'A'..=b'V'))
}

/// The identity of a cluster: its manager's key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClusterId(MachineId);

impl ClusterId {
    /// The cluster that this key manages.
    pub fn new(manager: MachineId) -> Self {
        ClusterId(manager)
    }

    /// The key that signs this cluster's configuration.
    pub fn manager(&self) -> MachineId {
        self.0
    }

    /// Parses the manager's id52.
    ///
    /// # Errors
    ///
    /// As [`MachineId::parse`].
    pub fn parse(text: &str) -> Result<Self, IdError> {
        MachineId::parse(text).map(ClusterId)
    }

    /// The 32 bytes of the manager's public key.
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// As [`MachineId::short`].
    pub fn short(&self) -> String {
        self.0.short()
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for ClusterId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::parse(text)
    }
}

/// Why a text or some bytes are not an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// It does not have 52 characters.
    #[error(
        "an id52 has 52 characters, this has {found}: copy all of it from where it was printed"
    )]
    Length {
        /// How many characters it has.
        found: usize,
    },
    /// A character outside `0-9 a-v`.
    #[error(
        "an id52 has only 0-9 and a-v, character {position} is \"{}\": copy it again from where it was printed",
        escape(&character.to_string())
    )]
    Character {
        /// The first such character.
        character: char,
        /// Its position, counted from 1.
        position: usize,
    },
    /// Capital letters.
    #[error("an id52 is lowercase: write it in small letters")]
    UpperCase,
    /// The last character sets bits that no key has.
    #[error(
        "the last character of this id52 is wrong (it sets bits that no key has): copy it again from where it was printed"
    )]
    SpareBits,
    /// Not the canonical encoding of a curve point.
    #[error(
        "this is not an ed25519 public key: a character was mistyped, copy it again from where it was printed"
    )]
    NotAKey,
    /// A point of small order.
    #[error(
        "this is a weak key, whose signatures anyone can forge: use one that `malai machine init` made"
    )]
    Weak,
}

/// The secret that an identity's keys are derived from. Wiped from memory when dropped.
#[derive(Clone)]
pub struct SecretSeed(SigningKey);

impl SecretSeed {
    /// The identity derived from these 32 bytes, which must come from a secure source of randomness.
    pub fn from_bytes(seed: [u8; 32]) -> Self {
        SecretSeed(SigningKey::from_bytes(&seed))
    }

    /// Parses a key file: 64 lowercase hex characters and at most one newline.
    ///
    /// # Errors
    ///
    /// [`SeedError`], which reveals nothing about the content of the file.
    pub fn parse_file(text: &str) -> Result<Self, SeedError> {
        let hex = text.strip_suffix('\n').unwrap_or(text);
        if hex.len() != 64 {
            return Err(SeedError::Length { found: hex.len() });
        }
        let mut seed = [0; 32];
        HEXLOWER
            .decode_mut(hex.as_bytes(), &mut seed)
            .map_err(|_| SeedError::Character)?;
        Ok(Self::from_bytes(seed))
    }

    /// The content of the key file: hex and a newline.
    pub fn to_file(&self) -> String {
        let mut text = HEXLOWER.encode(self.0.as_bytes());
        text.push('\n');
        text
    }

    /// The public side of this seed.
    pub fn id(&self) -> MachineId {
        // A clamped scalar times the base point is never of small order and always canonical.
        MachineId(*self.0.as_ref().as_bytes())
    }

    /// Signs the message (plain Ed25519, RFC 8032).
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }

    /// The 32 secret bytes.
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }
}

impl fmt::Debug for SecretSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretSeed(of {})", self.id())
    }
}

/// Why a private-key file cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SeedError {
    /// It does not have 64 characters.
    #[error(
        "a private-key file holds 64 hex characters and a newline, this one has {found} bytes: restore it from a backup"
    )]
    Length {
        /// The number of bytes found, not counting a newline at the end.
        found: usize,
    },
    /// Something other than `0-9 a-f`.
    #[error(
        "a private-key file holds only the characters 0-9 and a-f, this one has others: restore it from a backup"
    )]
    Character,
}

#[cfg(test)]
mod tests;
