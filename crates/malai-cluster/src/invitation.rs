//! Invitations: the line that a manager hands out, the proof of its secret, and the name that a new machine gets.
//!
//! The secret is the seed of an ed25519 key. The manager keeps only the public key, so what it keeps lets nobody in.

mod line;
mod pattern;

use core::net::SocketAddr;
use std::fmt;

use data_encoding::BASE32_DNSSEC;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::identity::{ClusterId, MachineId, SecretSeed};
use crate::name::{ClusterAlias, MachineName};

pub use line::InvitationError;
pub use pattern::{NamePattern, NoName, PatternError};

/// The length of an invitation's secret in bytes.
pub const SECRET_BYTES: usize = 16;

/// The most addresses and relays in an invitation.
pub const MAX_HINTS: usize = 6;

/// What the signature of a proof is about, so that it cannot be taken for another signature.
const DOMAIN: &[u8] = b"malai-join-1\0";

/// What a new machine has to know.
#[derive(Clone, PartialEq, Eq)]
pub struct Invitation {
    /// The cluster, by its manager's key.
    pub cluster: ClusterId,
    /// Proves to the manager that the machine was invited.
    pub secret: [u8; SECRET_BYTES],
    /// The manager's name for the cluster: a proposal.
    pub alias: Option<ClusterAlias>,
    /// Where the manager may be found. They prove nothing.
    pub hints: Vec<Hint>,
}

/// Where a manager may be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hint {
    /// Its UDP address.
    Address(SocketAddr),
    /// A relay of the cluster, as in its configuration.
    Relay(String),
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Hint::Address(address) => write!(f, "{address}"),
            Hint::Relay(url) => f.write_str(url),
        }
    }
}

impl Invitation {
    /// The public key of the secret, by which the manager knows the invitation.
    pub fn key(&self) -> MachineId {
        self.seed().id()
    }

    /// The name of the invitation.
    pub fn id(&self) -> InvitationId {
        InvitationId::of(&self.key())
    }

    /// Signs what a machine asks for, with the key that the secret is the seed of.
    pub fn prove(&self, asked: &Asked<'_>) -> [u8; 64] {
        self.seed().sign(&asked.signed_bytes())
    }

    fn seed(&self) -> SecretSeed {
        let context = "malai 2026-11 invitation key";
        SecretSeed::from_bytes(blake3::derive_key(context, &self.secret))
    }
}

/// The secret is not shown.
impl fmt::Debug for Invitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Invitation({} to {})", self.id(), self.cluster)
    }
}

/// What a machine asks for with an invitation.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The cluster.
    pub cluster: &'a ClusterId,
    /// The machine's own key.
    pub machine: &'a MachineId,
    /// 32 bytes that TLS exports for this connection alone (RFC 8446 §7.5).
    pub binding: &'a [u8; 32],
    /// The name that it insists on.
    pub name: Option<&'a str>,
    /// The computer's own name.
    pub host: &'a str,
}

impl Asked<'_> {
    /// Whether a proof was made with an invitation's secret for exactly this.
    pub fn is_proven(&self, key: &MachineId, proof: &[u8; 64]) -> bool {
        key.verify(&self.signed_bytes(), proof)
    }

    fn signed_bytes(&self) -> Vec<u8> {
        let mut bytes = DOMAIN.to_vec();
        bytes.extend(self.cluster.as_bytes());
        bytes.extend(self.machine.as_bytes());
        bytes.extend(self.binding);
        for text in [self.name.unwrap_or_default(), self.host] {
            bytes.extend((text.len() as u64).to_be_bytes());
            bytes.extend(text.as_bytes());
        }
        bytes
    }
}

/// The claim of an invitation in a hello.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Which invitation.
    pub invitation: InvitationId,
    /// The name that the machine insists on.
    pub name: Option<String>,
    /// The computer's own name.
    pub host: String,
    /// The signature of [`Invitation::prove`].
    #[serde(with = "crate::snapshot::signature")]
    pub proof: [u8; 64],
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Claim({} as {:?}", self.invitation, self.name)?;
        write!(f, " on {:?})", self.host)
    }
}

/// The short name of an invitation. It follows from the invitation's public key and is no secret.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InvitationId([u8; 5]);

impl InvitationId {
    /// The name of the invitation with this public key.
    pub fn of(key: &MachineId) -> Self {
        let hash = blake3::derive_key("malai 2026-11 invitation id", key.as_bytes());
        let [a, b, c, d, e, ..] = hash;
        InvitationId([a, b, c, d, e])
    }

    /// Parses eight characters.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = BASE32_DNSSEC.decode(text.as_bytes()).ok()?;
        let id = InvitationId(bytes.try_into().ok()?);
        (id.to_string() == text).then_some(id)
    }
}

impl fmt::Display for InvitationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&BASE32_DNSSEC.encode(&self.0))
    }
}

impl fmt::Debug for InvitationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for InvitationId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for InvitationId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <[u8; 5]>::deserialize(deserializer).map(InvitationId)
    }
}

/// The name that a machine gets: the one that it insists on; else the only one that the invitation is for; else the
/// computer's own.
///
/// # Errors
///
/// The invitation is for other names, or the name is taken.
pub fn choose_name(
    pattern: &NamePattern,
    insisted: Option<&MachineName>,
    host: &MachineName,
    is_taken: impl Fn(&MachineName) -> bool,
) -> Result<MachineName, NoName> {
    let name = match (insisted, pattern.only()) {
        (Some(name), _) => name.clone(),
        (None, Some(only)) => only,
        (None, None) => host.clone(),
    };
    if !pattern.matches(&name) {
        let pattern = pattern.clone();
        return Err(NoName::Other { pattern, name });
    }
    if is_taken(&name) {
        return Err(NoName::Taken {
            is_only: pattern.only().is_some(),
            name,
        });
    }
    Ok(name)
}

#[cfg(test)]
mod tests;
