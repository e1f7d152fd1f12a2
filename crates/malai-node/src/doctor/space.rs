//! The disk of the home: whether it has free space and can be written.

use std::path::Path;

use rustix::fs::{StatVfsMountFlags, statvfs};

use super::{Context, Finding};

use crate::home::keystore::quoted;
use crate::os::fs::display_path;

const CHECK: &str = "disk";

/// The maximum size of the log and the record: 40 and 100 MB.
const WANTED: u64 = 140 * 1024 * 1024;

/// With less, a large configuration cannot be stored.
const NEEDED: u64 = 16 * 1024 * 1024;

pub(super) fn check(context: &Context<'_>) -> Vec<Finding> {
    let root = context.home.root();
    let disk = match statvfs(root) {
        Ok(disk) => disk,
        Err(error) => {
            return vec![Finding::warning(
                CHECK,
                format!("cannot determine its free space: {error}"),
            )];
        }
    };
    if is_read_only(root) {
        return vec![
            Finding::error(
                CHECK,
                format!("{} is on a read-only file system", display_path(root)),
            )
            .because("the daemon cannot start or store a configuration")
            .fix(format!("findmnt -T {}", quoted(root))),
        ];
    }
    // Some file systems do not count files.
    let files = (disk.f_files > 0).then_some(disk.f_favail);
    vec![judge(
        disk.f_bavail.saturating_mul(disk.f_frsize),
        files,
        &quoted(root),
    )]
}

/// Whether nothing can be written there, because the file system is mounted read-only.
pub(super) fn is_read_only(path: &Path) -> bool {
    statvfs(path).is_ok_and(|disk| disk.f_flag.contains(StatVfsMountFlags::RDONLY))
}

fn judge(free: u64, files: Option<u64>, root: &str) -> Finding {
    let megabytes = free / 1024 / 1024;
    let why = "configurations are stored before they take effect; without free space the old one stays in force";
    let remedy = format!("df -h {root}; df -i {root}");
    let what = match files {
        Some(files) if files < 100 => format!("space for only {files} more files"),
        _ => format!("{megabytes} MB free"),
    };
    if free < NEEDED || files.is_some_and(|files| files < 10) {
        Finding::error(CHECK, what).because(why).fix(remedy)
    } else if free < WANTED || files.is_some_and(|files| files < 100) {
        Finding::warning(CHECK, what).because(why).fix(remedy)
    } else {
        Finding::fine(CHECK, what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    #[test]
    fn room_for_bytes_and_for_files() {
        for (free, files, state) in [
            (1 << 40, Some(1 << 20), State::Fine),
            (1 << 40, None, State::Fine),
            (100 << 20, None, State::Warning),
            (1 << 20, None, State::Error),
            (1 << 40, Some(50), State::Warning),
            (1 << 40, Some(0), State::Error),
        ] {
            assert_eq!(judge(free, files, "/x").state, state, "{free} {files:?}");
        }
    }
}
