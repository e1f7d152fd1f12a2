//! A home of its own for each test, and the real binary run on it, in pictures.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::harness::{Folder, Home};

/// A temporary home.
pub struct World {
    home: Home,
    folder: Folder,
}

impl World {
    /// A home that is not there yet.
    pub fn new() -> World {
        let folder = Folder::new();
        World {
            home: Home::at(folder.path().join("home")),
            folder,
        }
    }

    /// The home.
    pub fn home(&self) -> PathBuf {
        self.home.path.clone()
    }

    /// A file under `clusters/`.
    pub fn cluster_file(&self, path: &str) -> PathBuf {
        self.home().join("clusters").join(path)
    }

    /// Starts the daemon, which ends with the world; returns its process id when it serves.
    pub fn start(&self) -> u32 {
        self.home.start()
    }

    /// The binary on this home, not yet run.
    pub fn command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        let mut command = self.home.command(args);
        command
            .env_remove("RUST_LOG")
            .current_dir(self.folder.path());
        command
    }

    /// What the binary did, as raw bytes.
    pub fn output(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("malai runs")
    }

    /// Runs what must succeed, for what it changes.
    pub fn succeed(&self, args: &[&str]) -> String {
        let output = self.output(args);
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// What the binary did, in one picture, with what differs from run to run replaced.
    pub fn picture(&self, args: &[&str]) -> String {
        self.show(&self.output(args))
    }

    /// An output in one picture.
    pub fn show(&self, output: &Output) -> String {
        let code = output.status.code();
        let code = code.map_or_else(|| output.status.to_string(), |code| code.to_string());
        let mut picture = format!("exit code: {code}\n");
        for (name, bytes) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
            let text = String::from_utf8_lossy(bytes);
            if !text.is_empty() {
                picture += &format!("----- {name} -----\n{}", self.filtered(&text));
            }
        }
        picture
    }

    fn filtered(&self, text: &str) -> String {
        let text = text.replace(path_text(&self.home()).as_str(), "[HOME]");
        text.split_inclusive(|c: char| !c.is_ascii_alphanumeric())
            .map(|piece| {
                let word = piece.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
                match malai_cluster::looks_like_id52(word) {
                    true => piece.replace(word, "[ID52]"),
                    false => piece.to_owned(),
                }
            })
            .collect()
    }
}

fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
