//! Requests of an sftp client.

use super::{Attributes, Cursor};

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// The first packet: the client's version.
    Init {
        /// Its version.
        version: u32,
    },
    /// Opens a file.
    Open {
        /// The request's id.
        id: u32,
        /// The file.
        path: Vec<u8>,
        /// How to open it.
        flags: OpenFlags,
        /// The attributes of a new file.
        attributes: Attributes,
    },
    /// Closes a file or folder.
    Close {
        /// The request's id.
        id: u32,
        /// Its handle.
        handle: Vec<u8>,
    },
    /// Reads from a file.
    Read {
        /// The request's id.
        id: u32,
        /// Its handle.
        handle: Vec<u8>,
        /// The offset in bytes.
        offset: u64,
        /// The maximum length in bytes.
        length: u32,
    },
    /// Writes to a file.
    Write {
        /// The request's id.
        id: u32,
        /// Its handle.
        handle: Vec<u8>,
        /// The offset in bytes.
        offset: u64,
        /// The bytes.
        data: Vec<u8>,
    },
    /// The attributes of a path; without `follow`, those of a link itself.
    Stat {
        /// The request's id.
        id: u32,
        /// The path.
        path: Vec<u8>,
        /// Whether links are followed.
        follow: bool,
    },
    /// The attributes of an open file.
    Fstat {
        /// The request's id.
        id: u32,
        /// Its handle.
        handle: Vec<u8>,
    },
    /// Changes the attributes of a path.
    Setstat {
        /// The request's id.
        id: u32,
        /// The path.
        path: Vec<u8>,
        /// What to change.
        attributes: Attributes,
        /// Whether links are followed (`lsetstat@openssh.com` does not).
        follow: bool,
    },
    /// Changes the attributes of an open file.
    Fsetstat {
        /// The request's id.
        id: u32,
        /// Its handle.
        handle: Vec<u8>,
        /// What to change.
        attributes: Attributes,
    },
    /// Opens a folder to list it.
    Opendir {
        /// The request's id.
        id: u32,
        /// The folder.
        path: Vec<u8>,
    },
    /// The next names in a folder.
    Readdir {
        /// The request's id.
        id: u32,
        /// Its handle.
        handle: Vec<u8>,
    },
    /// Removes a file.
    Remove {
        /// The request's id.
        id: u32,
        /// The file.
        path: Vec<u8>,
    },
    /// Creates a folder.
    Mkdir {
        /// The request's id.
        id: u32,
        /// The folder.
        path: Vec<u8>,
        /// Its attributes.
        attributes: Attributes,
    },
    /// Removes an empty folder.
    Rmdir {
        /// The request's id.
        id: u32,
        /// The folder.
        path: Vec<u8>,
    },
    /// Resolves a path to an absolute one.
    Realpath {
        /// The request's id.
        id: u32,
        /// The path.
        path: Vec<u8>,
    },
    /// Renames a path. Replaces an existing file only with `replace` (`posix-rename@openssh.com`).
    Rename {
        /// The request's id.
        id: u32,
        /// The old path.
        from: Vec<u8>,
        /// The new path.
        to: Vec<u8>,
        /// Whether an existing file is replaced.
        replace: bool,
    },
    /// Reads a symbolic link.
    Readlink {
        /// The request's id.
        id: u32,
        /// The link.
        path: Vec<u8>,
    },
    /// Creates a symbolic link. Contrary to the draft, OpenSSH and all others send the target first.
    Symlink {
        /// The request's id.
        id: u32,
        /// The text of the link.
        target: Vec<u8>,
        /// The link.
        path: Vec<u8>,
    },
    /// `hardlink@openssh.com`.
    Hardlink {
        /// The request's id.
        id: u32,
        /// The existing file.
        from: Vec<u8>,
        /// Its new name.
        to: Vec<u8>,
    },
    /// `statvfs@openssh.com`.
    Statvfs {
        /// The request's id.
        id: u32,
        /// A path on the file system.
        path: Vec<u8>,
    },
    /// `fstatvfs@openssh.com`.
    Fstatvfs {
        /// The request's id.
        id: u32,
        /// A file on the file system.
        handle: Vec<u8>,
    },
    /// `fsync@openssh.com`.
    Fsync {
        /// The request's id.
        id: u32,
        /// Its handle.
        handle: Vec<u8>,
    },
    /// `limits@openssh.com`.
    Limits {
        /// The request's id.
        id: u32,
    },
    /// `expand-path@openssh.com`: like [`Request::Realpath`], with `~` and `~user` at the start.
    ExpandPath {
        /// The request's id.
        id: u32,
        /// The path.
        path: Vec<u8>,
    },
    /// `home-directory`: the home of a user; an empty name means the session's own user.
    HomeDirectory {
        /// The request's id.
        id: u32,
        /// The user.
        user: Vec<u8>,
    },
    /// `copy-data`: copies within the server.
    CopyData {
        /// The request's id.
        id: u32,
        /// The source file.
        from: Vec<u8>,
        /// The offset in the source.
        from_offset: u64,
        /// The length; 0 means up to the end.
        length: u64,
        /// The destination file.
        to: Vec<u8>,
        /// The offset in the destination.
        to_offset: u64,
    },
    /// `users-groups-by-id@openssh.com`: names of users and groups.
    UsersGroupsById {
        /// The request's id.
        id: u32,
        /// User ids.
        users: Vec<u32>,
        /// Group ids.
        groups: Vec<u32>,
    },
    /// An unknown extension.
    Unknown {
        /// The request's id.
        id: u32,
    },
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenFlags(pub u32);

impl OpenFlags {
    /// For reading.
    pub fn read(self) -> bool {
        self.0 & 0x01 != 0
    }

    /// For writing.
    pub fn write(self) -> bool {
        self.0 & 0x02 != 0
    }

    /// Every write appends.
    pub fn append(self) -> bool {
        self.0 & 0x04 != 0
    }

    /// Created if it does not exist.
    pub fn create(self) -> bool {
        self.0 & 0x08 != 0
    }

    /// Truncated.
    pub fn truncate(self) -> bool {
        self.0 & 0x10 != 0
    }

    /// With `create`: fails if it exists.
    pub fn exclusive(self) -> bool {
        self.0 & 0x20 != 0
    }
}

/// A packet that is not a valid request. The answer carries its id, if it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadRequest {
    /// The id.
    pub id: Option<u32>,
    /// Whether its type is unknown; otherwise its body is wrong.
    pub unknown_type: bool,
}

impl Request {
    /// Decodes a packet without its length.
    ///
    /// # Errors
    ///
    /// It is not a valid request.
    pub fn decode(packet: &[u8]) -> Result<Self, BadRequest> {
        let mut cursor = Cursor(packet);
        let kind = cursor.u8().ok_or(BadRequest {
            id: None,
            unknown_type: true,
        })?;
        if kind == 1 {
            return match cursor.u32() {
                Some(version) => Ok(Request::Init { version }),
                None => Err(BadRequest {
                    id: None,
                    unknown_type: false,
                }),
            };
        }
        let id = cursor.u32();
        let bad = BadRequest {
            id,
            unknown_type: !(3..=20).contains(&kind) && kind != 200,
        };
        let id = id.ok_or(bad)?;
        Self::body(kind, id, &mut cursor).ok_or(bad)
    }

    fn body(kind: u8, id: u32, from: &mut Cursor<'_>) -> Option<Self> {
        let mut text = || from.string().map(<[u8]>::to_vec);
        Some(match kind {
            3 => Request::Open {
                id,
                path: text()?,
                flags: OpenFlags(from.u32()?),
                attributes: Attributes::read(from)?,
            },
            4 => Request::Close {
                id,
                handle: text()?,
            },
            5 => Request::Read {
                id,
                handle: text()?,
                offset: from.u64()?,
                length: from.u32()?,
            },
            6 => Request::Write {
                id,
                handle: text()?,
                offset: from.u64()?,
                data: from.string()?.to_vec(),
            },
            7 => Request::Stat {
                id,
                path: text()?,
                follow: false,
            },
            8 => Request::Fstat {
                id,
                handle: text()?,
            },
            9 => Request::Setstat {
                id,
                path: text()?,
                attributes: Attributes::read(from)?,
                follow: true,
            },
            10 => Request::Fsetstat {
                id,
                handle: text()?,
                attributes: Attributes::read(from)?,
            },
            11 => Request::Opendir { id, path: text()? },
            12 => Request::Readdir {
                id,
                handle: text()?,
            },
            13 => Request::Remove { id, path: text()? },
            14 => Request::Mkdir {
                id,
                path: text()?,
                attributes: Attributes::read(from)?,
            },
            15 => Request::Rmdir { id, path: text()? },
            16 => Request::Realpath { id, path: text()? },
            17 => Request::Stat {
                id,
                path: text()?,
                follow: true,
            },
            18 => Request::Rename {
                id,
                from: text()?,
                to: text()?,
                replace: false,
            },
            19 => Request::Readlink { id, path: text()? },
            20 => Request::Symlink {
                id,
                target: text()?,
                path: text()?,
            },
            200 => return Self::extended(id, from),
            _ => return None,
        })
    }

    fn extended(id: u32, from: &mut Cursor<'_>) -> Option<Self> {
        let name = from.string()?;
        let mut text = || from.string().map(<[u8]>::to_vec);
        Some(match name {
            b"posix-rename@openssh.com" => Request::Rename {
                id,
                from: text()?,
                to: text()?,
                replace: true,
            },
            b"hardlink@openssh.com" => Request::Hardlink {
                id,
                from: text()?,
                to: text()?,
            },
            b"statvfs@openssh.com" => Request::Statvfs { id, path: text()? },
            b"fstatvfs@openssh.com" => Request::Fstatvfs {
                id,
                handle: text()?,
            },
            b"fsync@openssh.com" => Request::Fsync {
                id,
                handle: text()?,
            },
            b"lsetstat@openssh.com" => Request::Setstat {
                id,
                path: text()?,
                attributes: Attributes::read(from)?,
                follow: false,
            },
            b"limits@openssh.com" => Request::Limits { id },
            b"expand-path@openssh.com" => Request::ExpandPath { id, path: text()? },
            b"home-directory" => Request::HomeDirectory { id, user: text()? },
            b"copy-data" => Request::CopyData {
                id,
                from: text()?,
                from_offset: from.u64()?,
                length: from.u64()?,
                to: from.string()?.to_vec(),
                to_offset: from.u64()?,
            },
            b"users-groups-by-id@openssh.com" => Request::UsersGroupsById {
                id,
                users: numbers(from.string()?)?,
                groups: numbers(from.string()?)?,
            },
            _ => Request::Unknown { id },
        })
    }
}

fn numbers(bytes: &[u8]) -> Option<Vec<u32>> {
    let (numbers, rest) = bytes.as_chunks();
    rest.is_empty().then(|| {
        numbers
            .iter()
            .map(|number| u32::from_be_bytes(*number))
            .collect()
    })
}
