//! Configurations between peers: compare headers, fetch content.

use malai_cluster::Header;
use serde::{Deserialize, Serialize};

use crate::refusal::Refusal;

/// One side's header, if it has any configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compare {
    /// The header. In the answer it is what the answering side has after it has loaded, where
    /// it wanted to, what the asking side announced.
    Header(Option<Header>),
    /// The answering side did not load what was announced, and why.
    Refused(Refusal),
}

crate::tagged!(Compare { 1 => Header(Option<Header>), 2 => Refused(Refusal) });

/// Asks for a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fetch {
    /// The content that goes with this revision, or a newer one.
    Revision(u64),
}

crate::tagged!(Fetch { 1 => Revision(u64) });

/// A whole configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// Revision, hash and signature.
    pub header: Header,
    /// The content, verbatim as the manager rendered it.
    pub content: String,
}

/// The answer to [`Fetch`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fetched {
    /// Here it is.
    Content(Content),
    /// Not for this peer, or there is none.
    Refused(Refusal),
}

crate::tagged!(Fetched { 1 => Content(Content), 2 => Refused(Refusal) });
