//! Whether a file's status tells the length of its content. In `/proc` it says 0, in `/sys` a page, whatever there is to
//! read.

use rustix::fs::{FileType, Stat, StatFs};
use rustix::io::Errno;

/// File systems that keep files in memory, whose sizes are true (magic numbers of statfs(2)).
const IN_MEMORY: [u64; 2] = [
    0x0102_1994, // tmpfs
    0x8584_58f6, // ramfs
];

/// The length of a file's content in bytes. None if only reading it to the end tells: it says 0, or nothing is stored of
/// it, on a file system that has no room to store anything.
///
/// An empty file costs nothing by that, because there is nothing to resume.
pub(super) fn of(stat: &Stat, system: impl FnOnce() -> Result<StatFs, Errno>) -> Option<u64> {
    let size = u64::try_from(stat.st_size).ok().filter(|size| *size > 0)?;
    let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    if is_file
        && stat.st_blocks == 0
        && let Ok(system) = system()
        && is_generated(system.f_blocks, system.f_type as u64)
    {
        return None;
    }
    Some(size)
}

/// Whether a file system stores nothing: what is read there is generated.
fn is_generated(blocks: u64, magic: u64) -> bool {
    blocks == 0 && !IN_MEMORY.contains(&(magic & 0xffff_ffff))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_without_room_generate_their_files() {
        for (name, blocks, magic, generated) in [
            ("proc", 0, 0x9fa0, true),
            ("sysfs", 0, 0x6265_6572, true),
            ("cgroup2", 0, 0x6367_7270, true),
            ("ext4", 1000, 0xef53, false),
            ("tmpfs without a limit", 0, 0x0102_1994, false),
            ("ramfs", 0, 0x8584_58f6, false),
        ] {
            assert_eq!(is_generated(blocks, magic), generated, "{name}");
        }
    }
}
