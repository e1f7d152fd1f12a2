//! What a process that serves files tells the malai process that started it, for the audit record: one report after the
//! other on a pipe. Both are the same program. A report is a length (u32, big endian) and a body: a kind (u8), numbers
//! (big endian), and names, each with its length (u32). The reader believes no length and no name.

/// The most bytes of a report's body: two paths of the system's longest (4096 bytes) and what stands around them.
pub const MAX_REPORT: usize = 16 * 1024;

/// A report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileReport {
    /// A file was opened.
    Opened {
        /// The number by which [`FileReport::Closed`] names it.
        number: u32,
        /// Whether it can be written.
        write: bool,
        /// Whether it was made by that.
        created: bool,
        /// The file as the client named it.
        path: Vec<u8>,
    },
    /// A file was closed.
    Closed {
        /// Which.
        number: u32,
        /// Bytes that were read from it.
        read: u64,
        /// Bytes that were written to it.
        written: u64,
    },
    /// A folder was made.
    Created {
        /// The folder.
        path: Vec<u8>,
    },
    /// A file, link or folder was removed.
    Removed {
        /// What.
        path: Vec<u8>,
    },
    /// A file, link or folder got another name.
    Renamed {
        /// From.
        path: Vec<u8>,
        /// To.
        to: Vec<u8>,
    },
    /// A link was made.
    Linked {
        /// The link.
        path: Vec<u8>,
        /// What it leads to.
        to: Vec<u8>,
    },
    /// Owner, mode, times or size was set.
    Changed {
        /// Of which file.
        path: Vec<u8>,
    },
    /// A change was refused, because the folder is served for reading only.
    Refused {
        /// Of which file.
        path: Vec<u8>,
    },
}

impl FileReport {
    /// The report with its length; none if it is too long, which no path is that the system takes.
    pub fn encode(&self) -> Option<Vec<u8>> {
        let mut out = vec![0; 4];
        match self {
            Self::Opened {
                number,
                write,
                created,
                path,
            } => {
                out.push(1);
                out.extend(number.to_be_bytes());
                out.extend([u8::from(*write), u8::from(*created)]);
                put(&mut out, path)?;
            }
            Self::Closed {
                number,
                read,
                written,
            } => {
                out.push(2);
                out.extend(number.to_be_bytes());
                out.extend(read.to_be_bytes());
                out.extend(written.to_be_bytes());
            }
            Self::Created { path } => one(&mut out, 3, path)?,
            Self::Removed { path } => one(&mut out, 4, path)?,
            Self::Renamed { path, to } => {
                one(&mut out, 5, path)?;
                put(&mut out, to)?;
            }
            Self::Linked { path, to } => {
                one(&mut out, 6, path)?;
                put(&mut out, to)?;
            }
            Self::Changed { path } => one(&mut out, 7, path)?,
            Self::Refused { path } => one(&mut out, 8, path)?,
        }
        let length = out.len() - 4;
        if length > MAX_REPORT {
            return None;
        }
        let length = u32::try_from(length).ok()?;
        out[..4].copy_from_slice(&length.to_be_bytes());
        Some(out)
    }

    /// The file that it is about; empty for [`FileReport::Closed`], which has a number.
    pub fn path(&self) -> &[u8] {
        match self {
            Self::Closed { .. } => b"",
            Self::Opened { path, .. }
            | Self::Created { path }
            | Self::Removed { path }
            | Self::Renamed { path, .. }
            | Self::Linked { path, .. }
            | Self::Changed { path }
            | Self::Refused { path } => path,
        }
    }

    /// The report of a body, its length left out; none if it is not one.
    pub fn decode(body: &[u8]) -> Option<Self> {
        let mut from = body;
        let [kind] = *take(&mut from)?;
        let report = match kind {
            1 => {
                let number = u32::from_be_bytes(*take(&mut from)?);
                let [write, created] = *take(&mut from)?;
                Self::Opened {
                    number,
                    write: write != 0,
                    created: created != 0,
                    path: name(&mut from)?,
                }
            }
            2 => Self::Closed {
                number: u32::from_be_bytes(*take(&mut from)?),
                read: u64::from_be_bytes(*take(&mut from)?),
                written: u64::from_be_bytes(*take(&mut from)?),
            },
            3 => Self::Created {
                path: name(&mut from)?,
            },
            4 => Self::Removed {
                path: name(&mut from)?,
            },
            5 => Self::Renamed {
                path: name(&mut from)?,
                to: name(&mut from)?,
            },
            6 => Self::Linked {
                path: name(&mut from)?,
                to: name(&mut from)?,
            },
            7 => Self::Changed {
                path: name(&mut from)?,
            },
            8 => Self::Refused {
                path: name(&mut from)?,
            },
            _ => return None,
        };
        from.is_empty().then_some(report)
    }
}

fn one(out: &mut Vec<u8>, kind: u8, path: &[u8]) -> Option<()> {
    out.push(kind);
    put(out, path)
}

fn put(out: &mut Vec<u8>, name: &[u8]) -> Option<()> {
    out.extend(u32::try_from(name.len()).ok()?.to_be_bytes());
    out.extend(name);
    Some(())
}

fn take<'a, const N: usize>(from: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (taken, rest) = from.split_first_chunk()?;
    *from = rest;
    Some(taken)
}

fn name(from: &mut &[u8]) -> Option<Vec<u8>> {
    let length = u32::from_be_bytes(*take(from)?);
    let (name, rest) = from.split_at_checked(usize::try_from(length).ok()?)?;
    *from = rest;
    Some(name.to_vec())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reports_come_back() {
        let (path, to) = (b"/a \xe9".to_vec(), b"b".to_vec());
        for report in [
            FileReport::Opened {
                number: 7,
                write: true,
                created: false,
                path: path.clone(),
            },
            FileReport::Closed {
                number: 7,
                read: 1,
                written: u64::MAX,
            },
            FileReport::Created { path: path.clone() },
            FileReport::Removed { path: path.clone() },
            FileReport::Renamed {
                path: path.clone(),
                to: to.clone(),
            },
            FileReport::Linked {
                path: path.clone(),
                to,
            },
            FileReport::Changed { path: path.clone() },
            FileReport::Refused { path },
        ] {
            let bytes = report.encode().unwrap();
            let (length, body) = bytes.split_first_chunk::<4>().unwrap();
            assert_eq!(u32::from_be_bytes(*length) as usize, body.len());
            assert_eq!(FileReport::decode(body), Some(report));
            assert_eq!(FileReport::decode(&body[..body.len() - 1]), None);
            assert_eq!(FileReport::decode(&[body, &[0]].concat()), None);
        }
        let path = vec![b'a'; MAX_REPORT];
        assert_eq!(FileReport::Removed { path }.encode(), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(body in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = FileReport::decode(&body);
        }
    }
}
