//! SFTP protocol 3 (draft-ietf-secsh-filexfer-02) as a server reads and writes it, with OpenSSH's extensions
//! (OpenSSH's `PROTOCOL`, section 4). Names are bytes, as file systems have them.
//!
//! A packet is a length (u32, big endian), a type (u8), and a body. All packets but [`Request::Init`] and
//! [`Response::Version`] begin their body with an id, which the answer repeats.

mod attributes;
mod request;
mod response;

pub use attributes::Attributes;
pub use request::{BadRequest, OpenFlags, Request};
pub use response::{Name, Response, StatusCode};

/// The version of the protocol.
pub const VERSION: u32 = 3;

/// The largest packet that OpenSSH's server accepts, in bytes, without its length.
pub const MAX_PACKET: usize = 256 * 1024;

/// The most bytes that one read or write carries: [`MAX_PACKET`] less room for the other fields.
pub const MAX_DATA: usize = MAX_PACKET - 1024;

/// Reads values from the front of a byte slice.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn u32(&mut self) -> Option<u32> {
        let bytes = self.take(4)?.first_chunk()?;
        Some(u32::from_be_bytes(*bytes))
    }

    fn u64(&mut self) -> Option<u64> {
        let bytes = self.take(8)?.first_chunk()?;
        Some(u64::from_be_bytes(*bytes))
    }

    fn string(&mut self) -> Option<&'a [u8]> {
        let length = self.u32()?;
        self.take(usize::try_from(length).ok()?)
    }
}

/// Appends a string: its length and its bytes.
fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    // Longer strings do not occur, since packets are bounded.
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    out.extend(length.to_be_bytes());
    out.extend(bytes);
}

#[cfg(test)]
mod tests;
