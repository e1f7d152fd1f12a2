//! One signed revision of the configuration: seals it, verifies it, and compares it with others.

use std::fmt;
use std::sync::Arc;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::cluster::{Cluster, ContentError, FORMAT, MAX_CONTENT, read_content};
use crate::diagnostic::Diagnostic;
use crate::identity::{ClusterId, SecretSeed};

/// The prefix of everything that a manager signs, so that no other signature can be mistaken for that of a
/// snapshot.
const DOMAIN: &[u8] = b"malai-snapshot-1\0";

/// A snapshot without its content: enough to decide whether to fetch the content.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The cluster it belongs to.
    pub cluster: ClusterId,
    /// Its number, which only grows.
    pub revision: u64,
    /// BLAKE3 of the content.
    pub hash: [u8; 32],
    /// The manager's signature over [`signed_bytes`].
    #[serde(with = "signature")]
    pub signature: [u8; 64],
}

impl Header {
    /// Checks that it belongs to this cluster and that its manager signed it.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::OtherCluster`] or [`SnapshotError::Signature`].
    pub fn verify(&self, expected: &ClusterId) -> Result<(), SnapshotError> {
        if self.cluster != *expected {
            return Err(SnapshotError::OtherCluster {
                expected: *expected,
                found: self.cluster,
            });
        }
        let message = signed_bytes(&self.cluster, self.revision, &self.hash);
        if expected.manager().verify(&message, &self.signature) {
            Ok(())
        } else {
            Err(SnapshotError::Signature)
        }
    }

    /// How this header compares with the current one. Both must be verified.
    ///
    /// Headers of different clusters count as a fork.
    pub fn standing(&self, current: Option<&Header>) -> Standing {
        let Some(current) = current else {
            return Standing::Newer;
        };
        if self.cluster != current.cluster {
            return Standing::Fork;
        }
        match self.revision.cmp(&current.revision) {
            std::cmp::Ordering::Greater => Standing::Newer,
            std::cmp::Ordering::Less => Standing::Older,
            std::cmp::Ordering::Equal if self.hash == current.hash => Standing::Same,
            std::cmp::Ordering::Equal => Standing::Fork,
        }
    }
}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Header")
            .field("cluster", &self.cluster)
            .field("revision", &self.revision)
            .field("hash", &HEXLOWER.encode(&self.hash))
            .finish_non_exhaustive()
    }
}

/// How one snapshot compares with another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A higher revision: accepted.
    Newer,
    /// The same revision and content.
    Same,
    /// A lower revision: never accepted.
    Older,
    /// The same revision with other content: refused and reported.
    Fork,
}

/// The bytes that a manager signs: the domain, the cluster's 32 bytes, the revision (big-endian), and the BLAKE3 hash
/// of the content.
pub fn signed_bytes(cluster: &ClusterId, revision: u64, hash: &[u8; 32]) -> Vec<u8> {
    [DOMAIN, cluster.as_bytes(), &revision.to_be_bytes(), hash].concat()
}

/// The number of the next snapshot: higher than the previous one and at least the seconds since 1970, so that a
/// manager restored from a backup gets past what it had published.
pub fn next_revision(previous: Option<u64>, now_seconds: u64) -> u64 {
    // Never 0, which means "none".
    previous.unwrap_or(0).saturating_add(1).max(now_seconds)
}

/// A verified snapshot. Code that has one need not check the manager's signature again.
#[derive(Clone, Debug)]
pub struct Snapshot {
    header: Header,
    content: Arc<str>,
    cluster: Arc<Cluster>,
}

impl Snapshot {
    /// Renders the cluster and signs it.
    ///
    /// The seed must be the manager's; otherwise no machine accepts the result.
    pub fn seal(seed: &SecretSeed, revision: u64, cluster: &Cluster) -> Snapshot {
        let content = cluster.render();
        let hash = *blake3::hash(content.as_bytes()).as_bytes();
        let signature = seed.sign(&signed_bytes(&cluster.id(), revision, &hash));
        Snapshot {
            header: Header {
                cluster: cluster.id(),
                revision,
                hash,
                signature,
            },
            content: content.into(),
            cluster: Arc::new(cluster.clone()),
        }
    }

    /// Verifies a header and its content.
    ///
    /// # Errors
    ///
    /// The first problem found, cheapest check first: cluster, signature, size, hash, and only then the content
    /// itself.
    pub fn open(
        expected: &ClusterId,
        header: Header,
        content: String,
    ) -> Result<Snapshot, SnapshotError> {
        header.verify(expected)?;
        if content.len() > MAX_CONTENT {
            return Err(SnapshotError::TooLarge);
        }
        if blake3::hash(content.as_bytes()) != blake3::Hash::from_bytes(header.hash) {
            return Err(SnapshotError::Hash);
        }
        let cluster = read_content(&content)?;
        if cluster.id() != *expected {
            return Err(SnapshotError::OtherCluster {
                expected: *expected,
                found: cluster.id(),
            });
        }
        Ok(Snapshot {
            header,
            content: content.into(),
            cluster: Arc::new(cluster),
        })
    }

    /// Cluster, revision, hash and signature.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The content exactly as the manager rendered it, to be forwarded verbatim.
    pub fn content(&self) -> &str {
        &self.content
    }

    /// The parsed content.
    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// Its revision.
    pub fn revision(&self) -> u64 {
        self.header.revision
    }

    /// The file to store: one comment line with revision and signature, then the content verbatim.
    pub fn to_file(&self) -> String {
        let first = first_line(self.header.revision, &self.header.signature);
        format!("{first}\n{}", self.content)
    }

    /// Reads and verifies what [`Snapshot::to_file`] wrote.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Unreadable`] for a damaged first line, [`SnapshotError::Edited`] for content that does not
    /// match its signature, [`SnapshotError::OtherCluster`] for an intact snapshot of another manager, or as
    /// [`Snapshot::open`].
    pub fn from_file(expected: &ClusterId, text: &str) -> Result<Snapshot, SnapshotError> {
        let (first, content) = text.split_once('\n').ok_or(SnapshotError::Unreadable)?;
        let (revision, signature) = parse_first_line(first).ok_or(SnapshotError::Unreadable)?;
        if content.len() > MAX_CONTENT {
            return Err(SnapshotError::TooLarge);
        }
        let hash = *blake3::hash(content.as_bytes()).as_bytes();
        let header = |cluster| Header {
            cluster,
            revision,
            hash,
            signature,
        };
        let expected_header = header(*expected);
        if expected_header.verify(expected).is_err() {
            // The content names its manager. If that key signed it, it is intact, and not ours.
            let other = read_content(content).ok().map(|cluster| cluster.id());
            return Err(match other {
                Some(found) if header(found).verify(&found).is_ok() => {
                    SnapshotError::OtherCluster {
                        expected: *expected,
                        found,
                    }
                }
                _ => SnapshotError::Edited,
            });
        }
        Self::open(expected, expected_header, content.to_owned())
    }
}

/// Why a snapshot is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// The first line is not as malai writes it.
    #[error("its first line is damaged or was changed, so the signature cannot be checked")]
    Unreadable,
    /// The file's content, revision or signature is not what was signed.
    #[error("it was edited or damaged: its content does not match the manager's signature")]
    Edited,
    /// It belongs to another cluster.
    #[error("it belongs to cluster {found}, not {expected}")]
    OtherCluster {
        /// The expected cluster.
        expected: ClusterId,
        /// The cluster found.
        found: ClusterId,
    },
    /// The manager did not sign this header.
    #[error("its signature is not the manager's")]
    Signature,
    /// The content does not match the header.
    #[error("its content is not what was signed")]
    Hash,
    /// More than [`MAX_CONTENT`] bytes.
    #[error("its content is larger than {} MiB", MAX_CONTENT >> 20)]
    TooLarge,
    /// A newer malai wrote it.
    #[error(
        "it is in format {format}, this malai knows up to {FORMAT}: install a newer malai here"
    )]
    TooNew {
        /// Its format.
        format: u32,
    },
    /// Signed by the manager, but not a valid configuration.
    #[error("its content is not valid: {}", .0.first().map_or("", |first| &first.message))]
    Invalid(Vec<Diagnostic>),
}

impl From<ContentError> for SnapshotError {
    fn from(error: ContentError) -> Self {
        match error {
            ContentError::TooNew { format } => SnapshotError::TooNew { format },
            ContentError::Invalid(diagnostics) => SnapshotError::Invalid(diagnostics),
        }
    }
}

const FIRST: &str = "# malai snapshot: revision ";
const SECOND: &str = ", signature ";
const LAST: &str = "; written by malai, edits are not obeyed";

fn first_line(revision: u64, signature: &[u8; 64]) -> String {
    let signature = HEXLOWER.encode(signature);
    format!("{FIRST}{revision}{SECOND}{signature}{LAST}")
}

fn parse_first_line(line: &str) -> Option<(u64, [u8; 64])> {
    let rest = line.strip_prefix(FIRST)?.strip_suffix(LAST)?;
    let (revision, signature) = rest.split_once(SECOND)?;
    let revision = revision.parse().ok()?;
    let signature = HEXLOWER.decode(signature.as_bytes()).ok()?;
    let signature = signature.try_into().ok()?;
    // Only one spelling per snapshot: `+7` and `007` would be other spellings of a revision.
    (first_line(revision, &signature) == line).then_some((revision, signature))
}

/// serde for 64 bytes, which it does not support itself: hex, or the bytes.
pub(crate) mod signature {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8; 64], s: S) -> Result<S::Ok, S::Error> {
        if s.is_human_readable() {
            s.serialize_str(&HEXLOWER.encode(bytes))
        } else {
            let (first, second) = halves(bytes);
            (first, second).serialize(s)
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<[u8; 64], D::Error> {
        if d.is_human_readable() {
            let text = String::deserialize(d)?;
            let bytes = HEXLOWER.decode(text.as_bytes()).unwrap_or_default();
            bytes.try_into().map_err(|_| {
                serde::de::Error::custom("a signature is 128 lowercase hex characters")
            })
        } else {
            let (first, second) = <([u8; 32], [u8; 32])>::deserialize(d)?;
            let mut bytes = [0; 64];
            bytes[..32].copy_from_slice(&first);
            bytes[32..].copy_from_slice(&second);
            Ok(bytes)
        }
    }

    fn halves(bytes: &[u8; 64]) -> ([u8; 32], [u8; 32]) {
        let (mut first, mut second) = ([0; 32], [0; 32]);
        first.copy_from_slice(&bytes[..32]);
        second.copy_from_slice(&bytes[32..]);
        (first, second)
    }
}

#[cfg(test)]
mod tests;
