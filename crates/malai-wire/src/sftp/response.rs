//! What a server answers.

use super::attributes::put_name;
use super::{Attributes, VERSION, put_string};

/// How a request ended.
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
    /// Anything else.
    Failure = 4,
    /// A packet that is not a request.
    BadMessage = 5,
    /// A request that is not known here.
    Unsupported = 8,
}

impl StatusCode {
    /// The text that goes with it, as OpenSSH's server has it.
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
    /// Its line, as `ls -l` writes it.
    pub long: Vec<u8>,
    /// Its attributes.
    pub attributes: Attributes,
}

/// An answer; without its id, which [`Response::encode`] is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// The answer to `Init`, with the extensions that are offered.
    Version,
    /// How it ended.
    Status(StatusCode),
    /// What was opened.
    Handle(Vec<u8>),
    /// What was read.
    Data(Vec<u8>),
    /// Names.
    Names(Vec<Name>),
    /// Attributes.
    Attributes(Attributes),
    /// The answer of an extension, as it travels.
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
    /// The whole packet, its length included.
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

    /// Numbers one behind the other, for `limits@` and `statvfs@openssh.com`.
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
