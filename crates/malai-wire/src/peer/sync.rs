//! Configurations between peers: compare headers, fetch content.

use malai_cluster::Header;
use serde::{Deserialize, Serialize};

use crate::frame::{self, FrameError, Tagged};
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

const CONTENT: u8 = 1;
const REFUSED: u8 = 2;

impl Tagged for Fetched {
    fn encode(&self) -> (u8, Vec<u8>) {
        match self {
            Self::Content(content) => (CONTENT, frame::to_body(content)),
            Self::Refused(refusal) => (REFUSED, frame::to_body(refusal)),
        }
    }

    fn decode(tag: u8, body: &[u8]) -> Result<Option<Self>, FrameError> {
        match tag {
            CONTENT => frame::from_body(tag, body).map(|content| Some(Self::Content(content))),
            REFUSED => frame::from_body(tag, body).map(|refusal| Some(Self::Refused(refusal))),
            _ => frame::unknown(tag),
        }
    }

    /// A content may be 16 MiB, so the body becomes its text instead of being copied.
    fn decode_owned(tag: u8, mut body: Vec<u8>) -> Result<Option<Self>, FrameError> {
        if tag != CONTENT {
            return Self::decode(tag, &body);
        }
        let malformed = || FrameError::Body(tag);
        let text = postcard::take_from_bytes::<(Header, &str)>(&body);
        let (header, length) = match text {
            Ok(((header, text), [])) => (header, text.len()),
            _ => return Err(malformed()),
        };
        body.drain(..body.len() - length);
        let content = String::from_utf8(body).map_err(|_| malformed())?;
        Ok(Some(Self::Content(Content { header, content })))
    }
}
