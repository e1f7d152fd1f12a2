//! Who controls a path. A file is trusted only as far as the users who could have put it there.

use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// The user id that malai runs as.
pub(crate) fn own_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Whether this user or root owns it: no other user can change its content or target.
pub(crate) fn is_trusted(metadata: &Metadata) -> bool {
    metadata.uid() == own_user() || metadata.uid() == 0
}

/// The owner of a symbolic link at this path that neither this user nor root created.
pub(crate) fn foreign_link(path: &Path) -> Option<u32> {
    let metadata = path.symlink_metadata().ok()?;
    (metadata.is_symlink() && !is_trusted(&metadata)).then(|| metadata.uid())
}

/// Why a path is not safe.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unsafe {
    /// Another user owns this folder or symbolic link on the path, and can replace what is in it.
    ForeignOwner {
        /// The folder or link.
        path: PathBuf,
        /// The owner's user id.
        owner: u32,
    },
    /// Every user can replace what is in this folder.
    Writable {
        /// The folder.
        path: PathBuf,
        /// Its mode's permission bits.
        mode: u32,
    },
}

/// The user id that stands for all ids unknown to a user namespace; user_namespaces(7).
const OVERFLOW: u32 = 65534;

/// How many symbolic links are followed, like the system; path_resolution(7).
const MAX_LINKS: usize = 40;

/// Checks every folder and symbolic link on the way to `path`, an absolute path, which must itself belong to this
/// user. A path that ends early is safe: whatever is missing will be created by this user.
pub(crate) fn check_path(path: &Path) -> Result<(), Unsafe> {
    let user = own_user();
    let mut rest: Vec<OsString> = names(path);
    let mut here = PathBuf::from("/");
    let mut links = 0;
    while let Some(name) = rest.pop() {
        if name == ".." {
            here.pop();
            continue;
        }
        let next = here.join(&name);
        // What cannot be examined cannot be used either; its user reports the error.
        let Ok(metadata) = next.symlink_metadata() else {
            return Ok(());
        };
        let foreign = |path: &Path| Unsafe::ForeignOwner {
            path: path.to_path_buf(),
            owner: metadata.uid(),
        };
        if metadata.is_symlink() {
            if !is_trusted(&metadata) {
                return Err(foreign(&next));
            }
            links += 1;
            let Ok(target) = fs::read_link(&next) else {
                return Ok(());
            };
            if links > MAX_LINKS {
                return Ok(());
            }
            if target.is_absolute() {
                here = PathBuf::from("/");
            }
            rest.extend(names(&target));
            continue;
        }
        if rest.is_empty() {
            return match metadata.uid() == user {
                true => Ok(()),
                false => Err(foreign(&next)),
            };
        }
        if !is_trusted(&metadata) && metadata.uid() != OVERFLOW {
            return Err(foreign(&next));
        }
        // In a folder with the sticky bit, only an entry's owner can replace it.
        let mode = metadata.mode() & 0o7777;
        if mode & 0o002 != 0 && mode & 0o1000 == 0 {
            return Err(Unsafe::Writable { path: next, mode });
        }
        here = next;
    }
    Ok(())
}

/// The names in a path, last first.
fn names(path: &Path) -> Vec<OsString> {
    let names = path.components().rev().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    names.collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, lchown, symlink};

    use super::*;
    use tempfile::tempdir;

    const STRANGER: u32 = 12345;

    #[test]
    fn a_way_of_ones_own_is_safe_and_one_that_everybody_can_change_is_not() {
        let folder = tempdir().unwrap();
        let home = folder.path().join("between/home");
        assert_eq!(check_path(&home), Ok(()), "it is not there yet");
        fs::create_dir_all(&home).unwrap();
        assert_eq!(check_path(&home), Ok(()));
        let between = folder.path().join("between");
        fs::set_permissions(&between, fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(
            check_path(&home),
            Err(Unsafe::Writable {
                path: fs::canonicalize(&between).unwrap(),
                mode: 0o777
            })
        );
        fs::set_permissions(&between, fs::Permissions::from_mode(0o1777)).unwrap();
        assert_eq!(check_path(&home), Ok(()));
    }

    #[test]
    fn links_are_followed_and_those_in_a_circle_end() {
        let folder = tempdir().unwrap();
        let home = folder.path().join("home");
        fs::create_dir(&home).unwrap();
        for (name, target) in [("a", "home"), ("b", "./a"), ("c", "../x/../b"), ("d", "d")] {
            symlink(target, folder.path().join(name)).unwrap();
        }
        symlink(&home, folder.path().join("e")).unwrap();
        for name in ["a", "b", "d", "e"] {
            assert_eq!(check_path(&folder.path().join(name)), Ok(()), "{name}");
        }
    }

    /// Giving files away needs root; without it there is nobody else to own them in a test.
    #[test]
    fn what_another_user_owns_on_the_way_is_found() {
        if own_user() != 0 {
            return;
        }
        let folder = tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        let (between, home) = (root.join("between"), root.join("between/home"));
        let link = root.join("link");
        fs::create_dir_all(&home).unwrap();
        symlink(&home, &link).unwrap();
        for path in [&home, &between] {
            lchown(path, Some(STRANGER), None).unwrap();
            for way in [&home, &link] {
                let found = Unsafe::ForeignOwner {
                    path: path.clone(),
                    owner: STRANGER,
                };
                assert_eq!(check_path(way), Err(found));
            }
            lchown(path, Some(0), None).unwrap();
        }
        assert_eq!((check_path(&link), foreign_link(&link)), (Ok(()), None));
        lchown(&link, Some(STRANGER), None).unwrap();
        assert_eq!(foreign_link(&link), Some(STRANGER));
        assert_eq!(
            check_path(&link),
            Err(Unsafe::ForeignOwner {
                path: link,
                owner: STRANGER
            })
        );
    }
}
