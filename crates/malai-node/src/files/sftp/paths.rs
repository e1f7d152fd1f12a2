//! Resolves a requested path to an absolute one.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use malai_wire::sftp::{Attributes, Name, Response, StatusCode};

use rustix::io::Errno;

use super::operations::Session;
use super::status::{Done, io_status};
use crate::files::root::Root;

impl Session {
    /// The absolute path; its last component need not exist.
    pub(super) fn realpath(&self, path: &[u8]) -> Done {
        let path = match path {
            b"" => as_path(b"."),
            path => as_path(path),
        };
        if let Root::Below { .. } = self.root {
            return Ok(one_name(normalized(path).into_os_string().into_vec()));
        }
        match resolved(path) {
            Ok(found) => Ok(one_name(found.into_os_string().into_vec())),
            Err(error) => Err(io_status(&error)),
        }
    }

    /// Like [`Session::realpath`], with `~` and `~user` at the start.
    pub(super) fn expand(&self, path: &[u8]) -> Done {
        let Some(rest) = path.strip_prefix(b"~") else {
            return self.realpath(path);
        };
        let end = rest
            .iter()
            .position(|byte| *byte == b'/')
            .unwrap_or(rest.len());
        if let (0, Root::Everything) = (end, &self.root) {
            // This process was started in the user's home.
            let below = rest.strip_prefix(b"/").unwrap_or(rest);
            return self.realpath(below);
        }
        let mut expanded = self
            .home_of(&rest[..end])
            .map_err(|_| StatusCode::NoSuchFile)?;
        expanded.extend(&rest[end..]);
        self.realpath(&expanded)
    }

    /// The home of a user; an empty name means this process's own user.
    pub(super) fn home_of(&self, user: &[u8]) -> Result<Vec<u8>, StatusCode> {
        if let Root::Below { .. } = self.root {
            return Ok(b"/".to_vec());
        }
        use uzers::os::unix::UserExt;
        let found = match user {
            b"" => uzers::get_user_by_uid(rustix::process::getuid().as_raw()),
            user => uzers::get_user_by_name(OsStr::from_bytes(user)),
        };
        found
            .map(|user| user.home_dir().as_os_str().as_bytes().to_vec())
            .ok_or(StatusCode::Failure)
    }
}

/// An answer of one name, without its attributes.
pub(super) fn one_name(name: Vec<u8>) -> Response {
    Response::Names(vec![Name {
        long: name.clone(),
        name,
        attributes: Attributes::default(),
    }])
}

/// The longest path that the system accepts, with its terminating NUL.
const LONGEST: usize = 4096;

/// The most symbolic links followed in one path.
const LINKS: usize = 32;

/// The absolute path, with links followed. As in OpenSSH's server, `..` removes the last component, whatever it is, and
/// the final component need not exist.
fn resolved(path: &Path) -> io::Result<PathBuf> {
    let too_long = || io::Error::from_raw_os_error(Errno::NAMETOOLONG.raw_os_error());
    let mut out = match path.is_absolute() {
        true => PathBuf::from("/"),
        false => std::env::current_dir()?,
    };
    let mut left = path.as_os_str().as_bytes().to_vec();
    let mut links = 0;
    while !left.is_empty() {
        if left.len() >= LONGEST || out.as_os_str().len() >= LONGEST {
            return Err(too_long());
        }
        let end = left.iter().position(|byte| *byte == b'/');
        let name: Vec<u8> = left
            .drain(..end.map_or(left.len(), |end| end + 1))
            .collect();
        match &name[..end.unwrap_or(name.len())] {
            b"" | b"." => continue,
            b".." => {
                out.pop();
                continue;
            }
            name => out.push(OsStr::from_bytes(name)),
        }
        match out.symlink_metadata() {
            Ok(found) if found.is_symlink() => {
                links += 1;
                if links > LINKS {
                    return Err(io::Error::from_raw_os_error(Errno::LOOP.raw_os_error()));
                }
                let mut target = std::fs::read_link(&out)?.into_os_string().into_vec();
                match target.first() {
                    Some(b'/') => out = PathBuf::from("/"),
                    _ => drop(out.pop()),
                }
                if end.is_some() {
                    target.push(b'/');
                }
                left.splice(..0, target);
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound && end.is_none() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(out)
}

/// A path below the served root, without `.` and `..`.
fn normalized(path: &Path) -> PathBuf {
    let mut out = PathBuf::from("/");
    for component in path.components() {
        match component {
            std::path::Component::Normal(name) => out.push(name),
            std::path::Component::ParentDir => drop(out.pop()),
            _ => {}
        }
    }
    out
}

/// Bytes as a path.
pub(super) fn as_path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}
