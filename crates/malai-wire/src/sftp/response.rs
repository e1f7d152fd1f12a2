//! Responses of an sftp server.

use super::attributes::put_name;
use super::{Attributes, VERSION, put_string};

/// The result of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum StatusCode {
    /// Done.
    Ok = 0,
    /// The end of a file or folder.
    Eof = 1,
    /// There is no such file.
    NoSuchFile = 2,
    /// It is not allowed.
    PermissionDenied = 3,
    /// Any other failure.
    Failure = 4,
    /// A malformed packet.
    BadMessage = 5,
    /// An unknown request.
    Unsupported = 8,
}

impl StatusCode {
    /// The text for this code, as OpenSSH's server sends it.
    pub fn text(self) -> &'static str {
        match self {
            StatusCode::Ok => "Success",
            StatusCode::Eof => "End of file",
            StatusCode::NoSuchFile => "No such file",
            StatusCode::PermissionDenied => "Permission denied",
            StatusCode::Failure => "Failure",
            StatusCode::BadMessage => "Bad message",
            StatusCode::Unsupported => "Operation unsupported",
        }
    }
}

/// A name in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// The name.
    pub name: Vec<u8>,
    /// Its line as `ls -l` prints it.
    pub long: Vec<u8>,
    /// Its attributes.
    pub attributes: Attributes,
}

/// A response, without its id, which is passed to [`Response::encode`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// The answer to `Init`, with the extensions offered.
    Version,
    /// A status.
    Status(StatusCode),
    /// A handle.
    Handle(Vec<u8>),
    /// Data that was read.
    Data(Vec<u8>),
    /// Names.
    Names(Vec<Name>),
    /// Attributes.
    Attributes(Attributes),
    /// The encoded answer of an extension.
    Extended(Vec<u8>),
}

/// The extensions, each with its version.
const EXTENSIONS: [(&str, &str); 11] = [
    ("posix-rename@openssh.com", "1"),
    ("statvfs@openssh.com", "2"),
    ("fstatvfs@openssh.com", "2"),
    ("hardlink@openssh.com", "1"),
    ("fsync@openssh.com", "1"),
    ("lsetstat@openssh.com", "1"),
    ("limits@openssh.com", "1"),
    ("expand-path@openssh.com", "1"),
    ("copy-data", "1"),
    ("home-directory", "1"),
    ("users-groups-by-id@openssh.com", "1"),
];

impl Response {
    /// Encodes the whole packet, including its length.
    pub fn encode(&self, id: u32) -> Vec<u8> {
        let mut out = vec![0; 4];
        match self {
            Response::Version => {
                out.push(2);
                out.extend(VERSION.to_be_bytes());
                for (name, version) in EXTENSIONS {
                    put_string(&mut out, name.as_bytes());
                    put_string(&mut out, version.as_bytes());
                }
            }
            Response::Status(code) => {
                head(&mut out, 101, id);
                out.extend((*code as u32).to_be_bytes());
                put_string(&mut out, code.text().as_bytes());
                put_string(&mut out, b"");
            }
            Response::Handle(handle) => {
                head(&mut out, 102, id);
                put_string(&mut out, handle);
            }
            Response::Data(data) => {
                head(&mut out, 103, id);
                put_string(&mut out, data);
            }
            Response::Names(names) => {
                head(&mut out, 104, id);
                let count = u32::try_from(names.len()).unwrap_or(u32::MAX);
                out.extend(count.to_be_bytes());
                for name in names {
                    put_name(&mut out, &name.name, &name.long, &name.attributes);
                }
            }
            Response::Attributes(attributes) => {
                head(&mut out, 105, id);
                attributes.write(&mut out);
            }
            Response::Extended(body) => {
                head(&mut out, 201, id);
                out.extend(body);
            }
        }
        let length = u32::try_from(out.len() - 4).unwrap_or(u32::MAX);
        out[..4].copy_from_slice(&length.to_be_bytes());
        out
    }

    /// The names of users and groups, for `users-groups-by-id@openssh.com`; empty for unknown ids.
    pub fn user_and_group_names(users: &[Vec<u8>], groups: &[Vec<u8>]) -> Self {
        let list = |names: &[Vec<u8>]| {
            let mut list = Vec::new();
            for name in names {
                put_string(&mut list, name);
            }
            list
        };
        let mut body = Vec::new();
        put_string(&mut body, &list(users));
        put_string(&mut body, &list(groups));
        Response::Extended(body)
    }

    /// A list of numbers, for `limits@` and `statvfs@openssh.com`.
    pub fn numbers(numbers: &[u64]) -> Self {
        Response::Extended(
            numbers
                .iter()
                .flat_map(|number| number.to_be_bytes())
                .collect(),
        )
    }
}

fn head(out: &mut Vec<u8>, kind: u8, id: u32) {
    out.push(kind);
    out.extend(id.to_be_bytes());
}
