//! Frames: a length, a tag and a body, with a cap on each.
//!
//! A frame is a `u32` length (big-endian, of tag and body), one tag byte, and a body in postcard's format. A
//! reader may skip an unknown tag whose highest bit is set; any other unknown tag ends the stream. A reader
//! names its cap before it allocates anything.

use serde::{Serialize, de::DeserializeOwned};

/// Bytes before the body of a frame: four for the length, one for the tag.
pub const HEAD: usize = 5;

/// A reader that does not know a tag may skip it if this bit is set.
pub const SKIPPABLE: u8 = 0x80;

/// The largest hello, answer or signal, in bytes.
pub const SMALL: usize = 16 * 1024;

/// The largest frame that opens a command, in bytes. Linux limits an argument list to a quarter of
/// the stack's limit (2 MiB as shipped, 6 MiB at most).
pub const OPEN: usize = 6 * 1024 * 1024 + SMALL;

/// The largest frame that carries a configuration, in bytes: 16 MiB and its header.
pub const CONTENT: usize = 16 * 1024 * 1024 + SMALL;

/// A frame that this side cannot read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The announced length is over the cap of this stream. Nothing was allocated for it.
    #[error("the peer announced a frame of {length} bytes where at most {cap} are allowed")]
    TooLarge {
        /// The announced length in bytes.
        length: usize,
        /// The cap in bytes.
        cap: usize,
    },
    /// A frame without a tag.
    #[error("the peer sent a frame without a tag")]
    Empty,
    /// An unknown tag that may not be skipped, or a known one that is not allowed here.
    #[error("the peer sent a frame with tag {0:#04x}, which is not allowed here")]
    Tag(u8),
    /// The body cannot be decoded.
    #[error("the peer sent a malformed frame with tag {0:#04x}")]
    Body(u8),
}

/// A message with a tag and a body: one `enum` for each direction of each kind of stream.
pub trait Tagged: Sized {
    /// The tag and the encoded body.
    fn encode(&self) -> (u8, Vec<u8>);

    /// Decodes a tag and a body; `Ok(None)` if the tag is unknown and may be skipped.
    ///
    /// # Errors
    ///
    /// An unknown tag that may not be skipped, or a malformed body.
    fn decode(tag: u8, body: &[u8]) -> Result<Option<Self>, FrameError>;

    /// The same, from a body that is not needed any more.
    ///
    /// # Errors
    ///
    /// As [`Tagged::decode`].
    fn decode_owned(tag: u8, body: Vec<u8>) -> Result<Option<Self>, FrameError> {
        Self::decode(tag, &body)
    }

    /// The whole frame.
    fn to_frame(&self) -> Vec<u8> {
        let (tag, body) = self.encode();
        let mut frame = Vec::with_capacity(HEAD + body.len());
        frame.extend_from_slice(&length_of(&body).to_be_bytes());
        frame.push(tag);
        frame.extend_from_slice(&body);
        frame
    }
}

/// A frame's length field: tag and body. Bodies are made by this program and fit.
fn length_of(body: &[u8]) -> u32 {
    u32::try_from(body.len() + 1).unwrap_or(u32::MAX)
}

/// The tag and the body's length, from a frame's head.
///
/// # Errors
///
/// A length over `cap` bytes, or a frame without a tag.
pub fn parse_head(head: [u8; HEAD], cap: usize) -> Result<(u8, usize), FrameError> {
    let [a, b, c, d, tag] = head;
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    match length {
        0 => Err(FrameError::Empty),
        length if length > cap => Err(FrameError::TooLarge { length, cap }),
        length => Ok((tag, length - 1)),
    }
}

/// Encodes a body. Everything malai sends consists of plain values, which postcard always encodes.
pub fn to_body<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).unwrap_or_default()
}

/// Decodes a whole body.
///
/// # Errors
///
/// The body cannot be decoded, or has trailing bytes.
pub fn from_body<T: DeserializeOwned>(tag: u8, body: &[u8]) -> Result<T, FrameError> {
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Ok(value),
        _ => Err(FrameError::Body(tag)),
    }
}

/// The result for a tag that a reader does not know.
///
/// # Errors
///
/// [`FrameError::Tag`] unless the tag may be skipped.
pub fn unknown<T>(tag: u8) -> Result<Option<T>, FrameError> {
    if tag & SKIPPABLE != 0 {
        Ok(None)
    } else {
        Err(FrameError::Tag(tag))
    }
}

/// Implements [`Tagged`] for an `enum` whose variants each carry one value or none.
#[macro_export]
macro_rules! tagged {
    ($name:ident { $($tag:literal => $variant:ident $( ( $body:ty ) )? ),+ $(,)? }) => {
        impl $crate::frame::Tagged for $name {
            fn encode(&self) -> (u8, Vec<u8>) {
                match self {
                    $( $crate::tagged!(@pattern $name $variant body $( $body )?) =>
                        ($tag, $crate::tagged!(@encode body $( $body )?)), )+
                }
            }

            fn decode(tag: u8, body: &[u8]) -> Result<Option<Self>, $crate::frame::FrameError> {
                match tag {
                    $( $tag => $crate::tagged!(@decode $name $variant tag body $( $body )?), )+
                    _ => $crate::frame::unknown(tag),
                }
            }
        }
    };
    (@pattern $name:ident $variant:ident $b:ident $body:ty) => { $name::$variant($b) };
    (@pattern $name:ident $variant:ident $b:ident) => { $name::$variant };
    (@encode $b:ident $body:ty) => { $crate::frame::to_body($b) };
    (@encode $b:ident) => { Vec::new() };
    (@decode $name:ident $variant:ident $tag:ident $b:ident $body:ty) => {
        $crate::frame::from_body::<$body>($tag, $b).map(|value| Some($name::$variant(value)))
    };
    (@decode $name:ident $variant:ident $tag:ident $b:ident) => {
        if $b.is_empty() { Ok(Some($name::$variant)) } else { Err($crate::frame::FrameError::Body($tag)) }
    };
}
