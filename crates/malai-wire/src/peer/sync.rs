//! Configurations between peers: compare headers, fetch content.

use malai_cluster::Header;
use serde::{Deserialize, Serialize};

use crate::refusal::Refusal;

/// One side's header, if it has any configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compare {
    /// A header. In an answer: the header in force after the answering side has fetched what the asking side
    /// announced, if it needed it.
    Header(Option<Header>),
    /// The answering side did not fetch what was announced, and why.
    Refused(Refusal),
}

crate::tagged!(Compare { 1 => Header(Option<Header>), 2 => Refused(Refusal) });

/// Asks for a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fetch {
    /// The content of this revision, or of a newer one.
    Revision(u64),
}

crate::tagged!(Fetch { 1 => Revision(u64) });

/// A complete configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// Revision, hash and signature.
    pub header: Header,
    /// The content, exactly as the manager rendered it.
    pub content: String,
}

/// The answer to [`Fetch`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fetched {
    /// The configuration.
    Content(Content),
    /// Refused: not for this peer, or there is none.
    Refused(Refusal),
}

crate::tagged!(Fetched { 1 => Content(Content), 2 => Refused(Refusal) });
