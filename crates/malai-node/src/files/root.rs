//! Which files are served: all that the user can reach, or those below one folder. The kernel ensures that no path
//! leads out of it (`openat2` with `RESOLVE_BENEATH`).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

/// The files that are served.
#[derive(Debug)]
pub(crate) enum Root {
    /// All that the user can reach. Relative paths start in the current folder.
    Everything,
    /// Only what is below a folder. Absolute paths start there too.
    Below {
        /// The folder.
        folder: OwnedFd,
        /// Whether anything in it may be changed.
        write: bool,
    },
}

/// A file, as its open folder and its name in it, so that no rename can lead outside.
#[derive(Debug)]
pub(crate) struct Place {
    folder: Option<OwnedFd>,
    /// The name in it.
    pub name: PathBuf,
}

impl Place {
    /// The folder.
    pub(crate) fn folder(&self) -> BorrowedFd<'_> {
        self.folder.as_ref().map_or(CWD, AsFd::as_fd)
    }
}

impl Root {
    /// Serves what is below this folder.
    ///
    /// # Errors
    ///
    /// It cannot be opened, or is not a folder.
    pub(crate) fn below(folder: &Path, write: bool) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = openat(CWD, folder, flags, Mode::empty())?;
        Ok(Self::Below { folder, write })
    }

    /// Checks that anything may be changed; [`Root::open`] does so itself.
    ///
    /// # Errors
    ///
    /// `ACCES` if not.
    pub(crate) fn may_write(&self) -> Result<(), Errno> {
        match self {
            Self::Everything | Self::Below { write: true, .. } => Ok(()),
            Self::Below { write: false, .. } => Err(Errno::ACCESS),
        }
    }

    /// Whether files may get bits, owners and attributes with which they run as another user, like setuid. Not in a
    /// folder, because its callers may have no other rights on the machine.
    pub(crate) fn may_elevate(&self) -> bool {
        matches!(self, Self::Everything)
    }

    /// The permitted part of the mode that a caller asks for.
    pub(crate) fn mode(&self, asked: u32) -> Mode {
        let most = match self.may_elevate() {
            true => 0o7777,
            false => 0o1777,
        };
        Mode::from_raw_mode(asked & most)
    }

    /// Opens a path, following links that stay inside. Refused if that could change a read-only folder.
    ///
    /// # Errors
    ///
    /// The system's; `ACCES` for a path that leads out of the folder.
    pub(crate) fn open(&self, path: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        match self.open_inside(path, flags, mode) {
            Err(Errno::XDEV) => Err(Errno::ACCESS),
            done => done,
        }
    }

    /// As [`Root::open`], and says which paths lead out of the folder.
    ///
    /// # Errors
    ///
    /// The system's; `XDEV` for a path that leads out of the folder.
    pub(crate) fn open_inside(
        &self,
        path: &Path,
        flags: OFlags,
        mode: Mode,
    ) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::CLOEXEC;
        match self {
            Self::Everything => openat(CWD, path, flags, mode),
            Self::Below { folder, .. } => {
                if flags.intersects(CHANGES) {
                    self.may_write()?;
                }
                let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
                // openat2 rejects a mode unless a file is created.
                let mode = if flags.contains(OFlags::CREATE) {
                    mode
                } else {
                    Mode::empty()
                };
                // While names are being changed, the kernel cannot rule out an escape and returns EAGAIN.
                for _ in 0..16 {
                    match openat2(folder, inside(path), flags, mode, resolve) {
                        Err(Errno::AGAIN) => {}
                        done => return done,
                    }
                }
                Err(Errno::AGAIN)
            }
        }
    }

    /// The folder that contains a path's last name, and that name, which is not followed.
    ///
    /// # Errors
    ///
    /// The folder cannot be opened, or the path has no last name (`/`, `..`).
    pub(crate) fn place(&self, path: &Path) -> Result<Place, Errno> {
        if matches!(self, Self::Everything) {
            return Ok(Place {
                folder: None,
                name: path.to_owned(),
            });
        }
        let path = inside(path);
        let (parent, name) = match path.components().next_back() {
            Some(Component::Normal(name)) => (path.parent().unwrap_or(Path::new("")), name.into()),
            // The folder itself may be examined; removing or renaming `.` fails anyway.
            Some(Component::CurDir) | None => (Path::new(""), PathBuf::from(".")),
            _ => return Err(Errno::ACCESS),
        };
        let parent = if parent.as_os_str().is_empty() {
            Path::new(".")
        } else {
            parent
        };
        let folder = self.open(parent, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
        Ok(Place {
            folder: Some(folder),
            name,
        })
    }
}

/// Flags with which opening a file changes it, or allows changes.
const CHANGES: OFlags = OFlags::WRONLY
    .union(OFlags::RDWR)
    .union(OFlags::CREATE)
    .union(OFlags::TRUNC);

/// The path relative to the served root, where absolute paths start.
fn inside(path: &Path) -> &Path {
    let path = path.strip_prefix("/").unwrap_or(path);
    if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    struct StopOnDrop<'a>(&'a AtomicBool);

    impl Drop for StopOnDrop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[test]
    fn nothing_leads_out_of_a_folder() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("folder");
        std::fs::create_dir_all(folder.join("sub")).unwrap();
        std::fs::write(outer.path().join("secret"), "s").unwrap();
        std::fs::write(folder.join("sub/file"), "f").unwrap();
        symlink("../secret", folder.join("up")).unwrap();
        symlink(outer.path().join("secret"), folder.join("absolute")).unwrap();
        symlink("sub/file", folder.join("within")).unwrap();
        symlink("..", folder.join("parent")).unwrap();
        let root = Root::below(&folder, true).unwrap();
        let open = |path: &str| root.open(Path::new(path), OFlags::RDONLY, Mode::empty());
        for path in ["sub/file", "/sub/file", "within", "sub/../sub/file", "."] {
            assert!(open(path).is_ok(), "{path}");
        }
        for path in [
            "up",
            "absolute",
            "../secret",
            "/../secret",
            "parent/secret",
            "sub/../../secret",
        ] {
            assert!(open(path).is_err(), "{path}");
        }
        for path in ["parent/secret", "..", "sub/..", "../x"] {
            assert!(root.place(Path::new(path)).is_err(), "{path}");
        }
        assert_eq!(
            root.place(Path::new("/new")).unwrap().name,
            Path::new("new")
        );
        assert_eq!(root.place(Path::new("/")).unwrap().name, Path::new("."));
    }

    /// A name rapidly switches between a folder and a link that leads out, while files are opened through it.
    #[test]
    fn names_that_change_meanwhile_lead_nowhere_else() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("folder");
        for (path, text) in [("folder/real/file", "within"), ("outside/file", "secret")] {
            let path = outer.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        symlink("../outside", folder.join("link")).unwrap();
        let root = Root::below(&folder, true).unwrap();
        let (real, link, name) = (
            folder.join("real"),
            folder.join("link"),
            folder.join("name"),
        );
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    for other in [&real, &link] {
                        std::fs::rename(other, &name).unwrap();
                        std::fs::rename(&name, other).unwrap();
                    }
                }
            });
            // A failure too ends the thread above, which the scope waits for.
            let _stop = StopOnDrop(&stop);
            let mut opened = 0;
            for _ in 0..50_000 {
                let path = Path::new("name/file");
                if let Ok(file) = root.open(path, OFlags::RDONLY, Mode::empty()) {
                    let text = std::io::read_to_string(std::fs::File::from(file)).unwrap();
                    assert_eq!(text, "within");
                    opened += 1;
                }
                if let Ok(place) = root.place(Path::new("name/made")) {
                    let flags = OFlags::CREATE | OFlags::WRONLY;
                    let _ = openat(place.folder(), &place.name, flags, Mode::RUSR | Mode::WUSR);
                }
            }
            assert!(opened > 0);
        });
        assert!(!outer.path().join("outside/made").exists());
    }
}
