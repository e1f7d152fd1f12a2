//! What follows `cp`: options, and files here and on machines, as scp writes them.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use malai_wire::copy::Options;

pub(super) const EXAMPLES: &str = "\
Examples:
  malai cp notes.txt web01.company:                  into the home there
  malai cp -r web01.company:/etc/nginx .             a folder from there
  malai cp web@web01.company:/var/log/app.log -      to standard output
  pg_dump shop | malai cp - db01.company:shop.sql
Write a local path with a colon as ./a:b. Run the same command again to resume an interrupted copy.";

/// What to copy where, and how.
#[derive(Debug, clap::Args)]
#[command(override_usage = "malai cp [OPTIONS] <SOURCE>... <DESTINATION>")]
pub struct CpArgs {
    /// Copy folders and everything in them
    #[arg(short, long, visible_short_alias = 'R')]
    pub recursive: bool,
    /// Keep modes and times (to the nanosecond)
    #[arg(short, long)]
    pub preserve: bool,
    /// As -r -p, and keep links, owners, extended attributes and FIFOs
    #[arg(short, long)]
    pub archive: bool,
    /// Do not overwrite existing files
    #[arg(short, long)]
    pub no_clobber: bool,
    /// Report progress, messages and the result as JSON lines
    #[arg(long)]
    pub json: bool,
    /// Files and folders: a path, <target>:<path>, or - for a stream. The last is the destination
    #[arg(required = true, num_args = 2.., value_name = "PATH")]
    pub paths: Vec<OsString>,
}

impl CpArgs {
    /// How files are copied.
    pub fn options(&self) -> Options {
        Options {
            recursive: self.recursive || self.archive,
            preserve: self.preserve || self.archive,
            archive: self.archive,
            no_clobber: self.no_clobber,
        }
    }
}

/// Where a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// Standard input or output.
    Stream,
    /// On this computer.
    Here(PathBuf),
    /// On machines.
    There {
        /// `[user@]target`, as typed.
        target: String,
        /// The path there; relative ones begin in the user's home.
        path: Vec<u8>,
    },
}

impl Location {
    /// Parses a location: as in scp, a colon before any slash means a path on a machine.
    ///
    /// # Errors
    ///
    /// The target is invalid.
    pub fn parse(word: &OsStr) -> Result<Self, String> {
        let bytes = word.as_bytes();
        if bytes == b"-" {
            return Ok(Self::Stream);
        }
        if bytes.is_empty() {
            return Err("an empty path is no file".to_owned());
        }
        let colon = bytes.iter().position(|byte| matches!(byte, b':' | b'/'));
        let Some(colon) = colon.filter(|at| bytes[*at] == b':') else {
            return Ok(Self::Here(word.into()));
        };
        let target = str::from_utf8(&bytes[..colon]).ok();
        let target = target.filter(|target| !target.is_empty() && !target.starts_with('-'));
        let Some(target) = target else {
            return Err(format!(
                "{} has no valid target before the colon; write a local path as ./a:b",
                malai_cluster::escape(&word.to_string_lossy())
            ));
        };
        let path = match &bytes[colon + 1..] {
            // Where relative paths begin.
            b"" => b".".to_vec(),
            path => path.to_vec(),
        };
        Ok(Self::There {
            target: target.to_owned(),
            path,
        })
    }

    /// The location as it is shown to people, before its name is made safe.
    pub fn shown(&self) -> Vec<u8> {
        match self {
            Self::Stream => b"-".to_vec(),
            Self::Here(path) => path.clone().into_os_string().into_vec(),
            Self::There { target, path } => [target.as_bytes(), b":", path].concat(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_colon_before_any_slash_names_a_machine() {
        let there = |target: &str, path: &str| Location::There {
            target: target.into(),
            path: path.into(),
        };
        for (word, expected) in [
            ("-", Location::Stream),
            ("a", Location::Here("a".into())),
            ("./a:b", Location::Here("./a:b".into())),
            ("/x/a:b", Location::Here("/x/a:b".into())),
            ("web01.c:", there("web01.c", ".")),
            ("web@web01.c:/a b:c", there("web@web01.c", "/a b:c")),
            ("web[1-3].c:x", there("web[1-3].c", "x")),
        ] {
            assert_eq!(Location::parse(OsStr::new(word)), Ok(expected), "{word}");
        }
        for word in ["", ":x", "-oProxyCommand=x:y"] {
            assert!(Location::parse(OsStr::new(word)).is_err(), "{word}");
        }
    }
}
