//! A file's attributes.

use super::{Cursor, put_string};

/// The known attributes of a file, or those to change. Absent values are unknown or stay as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Its size in bytes.
    pub size: Option<u64>,
    /// The ids of its owner and group.
    pub owner: Option<(u32, u32)>,
    /// Type and permission bits, as in `st_mode`.
    pub mode: Option<u32>,
    /// Last access and last modification, in seconds since 1970.
    pub times: Option<(u32, u32)>,
}

const SIZE: u32 = 1;
const OWNER: u32 = 2;
const MODE: u32 = 4;
const TIMES: u32 = 8;
const EXTENDED: u32 = 0x8000_0000;

impl Attributes {
    pub(super) fn read(from: &mut Cursor<'_>) -> Option<Self> {
        let flags = from.u32()?;
        let mut found = Self::default();
        if flags & SIZE != 0 {
            found.size = Some(from.u64()?);
        }
        if flags & OWNER != 0 {
            found.owner = Some((from.u32()?, from.u32()?));
        }
        if flags & MODE != 0 {
            found.mode = Some(from.u32()?);
        }
        if flags & TIMES != 0 {
            found.times = Some((from.u32()?, from.u32()?));
        }
        if flags & EXTENDED != 0 {
            let count = from.u32()?;
            // Each entry has at least two lengths, so a wrong count ends with the packet.
            for _ in 0..count {
                from.string()?;
                from.string()?;
            }
        }
        Some(found)
    }

    /// Appends the encoded attributes.
    pub fn write(&self, out: &mut Vec<u8>) {
        let flag = |set: bool, flag: u32| if set { flag } else { 0 };
        let flags = flag(self.size.is_some(), SIZE)
            | flag(self.owner.is_some(), OWNER)
            | flag(self.mode.is_some(), MODE)
            | flag(self.times.is_some(), TIMES);
        out.extend(flags.to_be_bytes());
        if let Some(size) = self.size {
            out.extend(size.to_be_bytes());
        }
        for (first, second) in self.owner.into_iter() {
            out.extend(first.to_be_bytes());
            out.extend(second.to_be_bytes());
        }
        if let Some(mode) = self.mode {
            out.extend(mode.to_be_bytes());
        }
        for (first, second) in self.times.into_iter() {
            out.extend(first.to_be_bytes());
            out.extend(second.to_be_bytes());
        }
    }
}

/// A name in a listing, with its line as `ls -l` prints it.
pub(super) fn put_name(out: &mut Vec<u8>, name: &[u8], long: &[u8], attributes: &Attributes) {
    put_string(out, name);
    put_string(out, long);
    attributes.write(out);
}
