//! A file's attributes, and its line as `ls -l` writes it.

use std::collections::HashMap;

use malai_wire::sftp::Attributes;
use rustix::fs::{FileType, Stat};

/// The attributes of a file.
pub(super) fn attributes(stat: &Stat) -> Attributes {
    let seconds = |time: i64| u32::try_from(time).unwrap_or(if time < 0 { 0 } else { u32::MAX });
    Attributes {
        size: u64::try_from(stat.st_size).ok(),
        owner: Some((stat.st_uid, stat.st_gid)),
        mode: Some(stat.st_mode),
        times: Some((seconds(stat.st_atime), seconds(stat.st_mtime))),
    }
}

/// Names of users and groups, each looked up once.
#[derive(Debug, Default)]
pub(super) struct Owners {
    users: HashMap<u32, Vec<u8>>,
    groups: HashMap<u32, Vec<u8>>,
}

impl Owners {
    /// A user's name; empty if there is no such user.
    pub(super) fn user(&mut self, id: u32) -> Vec<u8> {
        let name = || uzers::get_user_by_uid(id).map(|user| bytes(user.name()));
        self.users
            .entry(id)
            .or_insert_with(|| name().unwrap_or_default())
            .clone()
    }

    /// A group's name; empty if there is no such group.
    pub(super) fn group(&mut self, id: u32) -> Vec<u8> {
        let name = || uzers::get_group_by_gid(id).map(|group| bytes(group.name()));
        self.groups
            .entry(id)
            .or_insert_with(|| name().unwrap_or_default())
            .clone()
    }

    /// `drwxr-xr-x    2 root     root         4096 2026-11-26 12:00 name`.
    pub(super) fn line(&mut self, name: &[u8], stat: &Stat) -> Vec<u8> {
        let or_number = |name: Vec<u8>, id: u32| {
            if name.is_empty() {
                id.to_string()
            } else {
                String::from_utf8_lossy(&name).into_owned()
            }
        };
        let user = or_number(self.user(stat.st_uid), stat.st_uid);
        let group = or_number(self.group(stat.st_gid), stat.st_gid);
        let mut line = format!(
            "{} {:4} {user:8} {group:8} {:8} {} ",
            permissions(stat.st_mode),
            stat.st_nlink,
            stat.st_size,
            date(stat.st_mtime)
        )
        .into_bytes();
        line.extend(name);
        line
    }
}

fn bytes(name: &std::ffi::OsStr) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt;
    name.as_bytes().to_vec()
}

fn permissions(mode: u32) -> String {
    let kind = match FileType::from_raw_mode(mode) {
        FileType::Directory => 'd',
        FileType::Symlink => 'l',
        FileType::Fifo => 'p',
        FileType::Socket => 's',
        FileType::CharacterDevice => 'c',
        FileType::BlockDevice => 'b',
        _ => '-',
    };
    let bit = |bit: u32, letter: char| if mode & bit != 0 { letter } else { '-' };
    let run = |run: u32, special: u32, letter: char| match (mode & run != 0, mode & special != 0) {
        (true, true) => letter,
        (false, true) => letter.to_ascii_uppercase(),
        (true, false) => 'x',
        (false, false) => '-',
    };
    [
        kind,
        bit(0o400, 'r'),
        bit(0o200, 'w'),
        run(0o100, 0o4000, 's'),
        bit(0o040, 'r'),
        bit(0o020, 'w'),
        run(0o010, 0o2000, 's'),
        bit(0o004, 'r'),
        bit(0o002, 'w'),
        run(0o001, 0o1000, 't'),
    ]
    .into_iter()
    .collect()
}

/// A time in UTC, to the minute.
fn date(seconds: i64) -> String {
    let milliseconds = u64::try_from(seconds).unwrap_or(0).saturating_mul(1000);
    let text = malai_wire::time::Timestamp(milliseconds).to_string();
    let (day, rest) = text.split_once('T').unwrap_or((&text, ""));
    format!("{day} {}", rest.get(..5).unwrap_or(""))
}
