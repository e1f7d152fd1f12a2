//! The disk that the home is on: whether there is room on it, and whether it can be written.

use rustix::fs::{StatVfsMountFlags, statvfs};

use super::{Context, Finding};

use crate::home::keystore::quoted;
use crate::os::fs::display_path;

const CHECK: &str = "disk";

/// The log and the record at their largest: 40 and 100 MB.
const WANTED: u64 = 140 * 1024 * 1024;

/// With less, no configuration of any size can be stored.
const NEEDED: u64 = 16 * 1024 * 1024;

pub(super) fn check(patient: &Context<'_>) -> Vec<Finding> {
    let root = patient.home.root();
    let disk = match statvfs(root) {
        Ok(disk) => disk,
        Err(error) => {
            return vec![Finding::warning(
                CHECK,
                format!("its space cannot be told: {error}"),
            )];
        }
    };
    let mut found = Vec::new();
    if disk.f_flag.contains(StatVfsMountFlags::RDONLY) {
        found.push(
            Finding::error(
                CHECK,
                format!(
                    "{} is on a file system that cannot be written",
                    display_path(root)
                ),
            )
            .because("the daemon cannot start, nor store a configuration")
            .fix(format!("findmnt -T {}", quoted(root))),
        );
    }
    // Some file systems count no files.
    let files = (disk.f_files > 0).then_some(disk.f_favail);
    found.push(judge(
        disk.f_bavail.saturating_mul(disk.f_frsize),
        files,
        &quoted(root),
    ));
    found
}

fn judge(free: u64, files: Option<u64>, root: &str) -> Finding {
    let megabytes = free / 1024 / 1024;
    let why = "configurations are stored before they take effect; without room the old one stays in force";
    let remedy = format!("df -h {root}; df -i {root}");
    let what = match files {
        Some(files) if files < 100 => format!("room for {files} more files only"),
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
