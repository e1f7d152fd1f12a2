//! From a path as it is asked for to an absolute one.

use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use malai_wire::sftp::{Attributes, Name, Response, StatusCode};

use super::operations::Session;
use super::status::{Done, io_status};
use crate::files::root::Root;

impl Session {
    /// The absolute path; its last name need not be there.
    pub(super) fn realpath(&self, path: &[u8]) -> Done {
        let path = match path {
            b"" => as_path(b"."),
            path => as_path(path),
        };
        if let Root::Below(_) = self.root {
            return Ok(one_name(normalized(path).into_os_string().into_vec()));
        }
        let found = std::fs::canonicalize(path).or_else(|error| {
            let parent = path
                .parent()
                .filter(|parent| !parent.as_os_str().is_empty());
            match path.file_name() {
                Some(name)
                    if error.kind() == std::io::ErrorKind::NotFound
                        && path.symlink_metadata().is_err() =>
                {
                    std::fs::canonicalize(parent.unwrap_or(Path::new(".")))
                        .map(|parent| parent.join(name))
                }
                _ => Err(error),
            }
        });
        match found {
            Ok(found) => Ok(one_name(found.into_os_string().into_vec())),
            Err(error) => Err(io_status(&error)),
        }
    }

    /// As [`Session::realpath`], with `~` and `~user` in front.
    pub(super) fn expand(&self, path: &[u8]) -> Done {
        let Some(rest) = path.strip_prefix(b"~") else {
            return self.realpath(path);
        };
        let end = rest
            .iter()
            .position(|byte| *byte == b'/')
            .unwrap_or(rest.len());
        let mut expanded = self.home_of(&rest[..end])?;
        expanded.extend(&rest[end..]);
        self.realpath(&expanded)
    }

    /// The home of a user; of this process's own where the name is empty.
    pub(super) fn home_of(&self, user: &[u8]) -> Result<Vec<u8>, StatusCode> {
        if let Root::Below(_) = self.root {
            return Ok(b"/".to_vec());
        }
        use uzers::os::unix::UserExt;
        let found = match user {
            b"" => uzers::get_user_by_uid(rustix::process::getuid().as_raw()),
            user => uzers::get_user_by_name(OsStr::from_bytes(user)),
        };
        found
            .map(|user| user.home_dir().as_os_str().as_bytes().to_vec())
            .ok_or(StatusCode::NoSuchFile)
    }
}

/// The answer that is one name, of which nothing else is told.
pub(super) fn one_name(name: Vec<u8>) -> Response {
    Response::Names(vec![Name {
        long: name.clone(),
        name,
        attributes: Attributes::default(),
    }])
}

/// A path below the root that is served, without `.` and `..`.
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
