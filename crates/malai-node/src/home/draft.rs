//! A cluster.toml while a person edits it: a copy beside the file, which replaces the file only once it is valid, like
//! visudo.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use malai_cluster::{
    Change, Cluster, ClusterAlias, ClusterId, Diagnostic, MAX_CONTENT, MachineId, Snapshot, changes,
};

use super::cluster_files::check_cluster_toml;
use super::edit::{EditFailure, errors_first, managed, read, replace};
use crate::home::{ClusterDir, Home, keystore};
use crate::os::fs::{self, StoreError};

/// The maximum size of `published` in bytes: the content and its comment line.
const MAX_PUBLISHED: u64 = MAX_CONTENT as u64 + 4096;

/// The name of the copy. It is hidden, and never read as a configuration.
const COPY: &str = ".cluster.toml.edit";

/// The name of an edit that did not become the file.
const UNSAVED: &str = "cluster.toml.unsaved";

/// An edit in progress. No other edit can start before it is dropped.
#[derive(Debug)]
pub struct Draft {
    alias: ClusterAlias,
    dir: ClusterDir,
    key: MachineId,
    original: String,
    /// The key file is never replaced, so locking it is a reliable lock.
    _lock: File,
}

/// The copy that is being edited, for the code that ends the edit.
#[derive(Debug, Clone)]
pub struct WorkingCopy {
    folder: PathBuf,
    original: String,
}

impl WorkingCopy {
    fn path(&self) -> PathBuf {
        self.folder.join(COPY)
    }

    /// Ends the edit. A text that is in no other file is kept beside cluster.toml, under a name that malai does not read;
    /// returns that path.
    ///
    /// # Errors
    ///
    /// The copy cannot be renamed; then it stays where it is.
    pub fn settle(&self) -> Result<Option<PathBuf>, EditFailure> {
        let path = self.path();
        let is_work = match fs::read_text(&path, MAX_CONTENT as u64) {
            Ok(None) => return Ok(None),
            Ok(Some(text)) => text != self.original && !text.trim().is_empty(),
            // Whatever it is, it was not malai that wrote it.
            Err(_) => true,
        };
        if !is_work {
            let _ = std::fs::remove_file(&path);
            return Ok(None);
        }
        let kept = free_name(&self.folder);
        std::fs::rename(&path, &kept).map_err(StoreError::io("rename", &path))?;
        Ok(Some(kept))
    }
}

/// A name for an edit that did not become the file, which no earlier one has.
fn free_name(folder: &Path) -> PathBuf {
    let first = folder.join(UNSAVED);
    let others = (2..).map(|number| folder.join(format!("{UNSAVED}.{number}")));
    let mut names = std::iter::once(first.clone()).chain(others);
    let free = names.find(|name| name.symlink_metadata().is_err());
    free.unwrap_or(first)
}

/// The texts of earlier edits that did not become the file. One that says what the file says is removed.
fn unsaved(folder: &Path, file: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.path()).filter(|path| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with(UNSAVED))
    });
    let mut left: Vec<PathBuf> = names
        .filter(|path| match fs::read_text(path, MAX_CONTENT as u64) {
            Ok(Some(text)) if text == file => std::fs::remove_file(path).is_err(),
            _ => true,
        })
        .collect();
    left.sort();
    left
}

/// The state of the copy.
#[derive(Debug)]
pub enum Examined {
    /// Same as the file.
    Unchanged,
    /// Not valid; all problems, errors first.
    Invalid(Vec<Diagnostic>),
    /// Valid.
    Valid {
        /// Its text.
        text: String,
        /// What it would change; empty if only comments and layout differ. `None` if there is nothing to compare with: the
        /// file was not valid, and nothing was published.
        changes: Option<Vec<Change>>,
        /// Warnings.
        warnings: Vec<Diagnostic>,
    },
}

impl Draft {
    /// Starts an edit: creates the copy. Also returns where the texts of earlier edits are that were not saved.
    ///
    /// # Errors
    ///
    /// The cluster is not managed here, another edit is in progress, or the files cannot be used.
    pub fn begin(home: &Home, alias: &ClusterAlias) -> Result<(Self, Vec<PathBuf>), EditFailure> {
        let dir = managed(home, alias)?;
        home.prepare()?;
        let key_path = dir.cluster_key();
        let key = keystore::load(&key_path)?.id();
        let lock = File::open(&key_path).map_err(StoreError::io("open", &key_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(EditFailure::BeingEdited {
                    alias: alias.clone(),
                });
            }
            Err(TryLockError::Error(error)) => {
                return Err(StoreError::io("lock", &key_path)(error).into());
            }
        }
        let original = read(&dir.cluster_toml())?;
        let draft = Self {
            alias: alias.clone(),
            dir,
            key,
            original,
            _lock: lock,
        };
        // What an edit left that was killed.
        draft.copy().settle()?;
        let left = unsaved(&draft.dir.path, &draft.original);
        fs::write_atomic(&draft.path(), draft.original.as_bytes(), 0o600)?;
        Ok((draft, left))
    }

    /// The copy, for the code that ends the edit.
    pub fn copy(&self) -> WorkingCopy {
        WorkingCopy {
            folder: self.dir.path.clone(),
            original: self.original.clone(),
        }
    }

    /// The copy, for the editor.
    pub fn path(&self) -> PathBuf {
        self.dir.path.join(COPY)
    }

    /// The file.
    pub fn file(&self) -> PathBuf {
        self.dir.cluster_toml()
    }

    /// Checks the current copy.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn examine(&self) -> Result<Examined, EditFailure> {
        let text = read(&self.path())?;
        let checked = check_cluster_toml(&self.path(), &text, Some(self.key));
        let Some(cluster) = checked.cluster else {
            return Ok(Examined::Invalid(errors_first(checked.problems)));
        };
        if text == self.original {
            return Ok(Examined::Unchanged);
        }
        Ok(Examined::Valid {
            changes: self
                .cluster_before()
                .map(|before| changes(&before, &cluster)),
            text,
            warnings: checked.problems,
        })
    }

    /// The configuration before the edit: the file's if it was valid, otherwise the one published last.
    fn cluster_before(&self) -> Option<Cluster> {
        let checked = check_cluster_toml(&self.file(), &self.original, Some(self.key));
        checked.cluster.or_else(|| {
            let published = fs::read_text(&self.dir.published(), MAX_PUBLISHED).ok()??;
            let snapshot = Snapshot::from_file(&ClusterId::new(self.key), &published).ok()?;
            Some(Cluster::clone(snapshot.cluster()))
        })
    }

    /// Replaces the file with this text.
    ///
    /// # Errors
    ///
    /// The file has changed meanwhile, or it cannot be written. Then the copy is still there.
    pub fn save(&self, text: &str) -> Result<(), EditFailure> {
        if !replace(&self.dir, &self.original, text)? {
            return Err(EditFailure::ChangedMeanwhile { path: self.file() });
        }
        self.discard();
        Ok(())
    }

    /// Ends the edit and discards its text.
    pub fn discard(&self) {
        let _ = std::fs::remove_file(self.path());
    }

    /// The cluster's alias.
    pub fn alias(&self) -> &ClusterAlias {
        &self.alias
    }

    /// The cluster's folder.
    pub fn folder(&self) -> &Path {
        &self.dir.path
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::tempdir;

    use super::*;
    use crate::home::init::init_cluster;

    #[test]
    fn a_copy_becomes_the_file_only_when_it_is_sound() {
        let folder = tempdir().unwrap();
        let home = Home::at(folder.path().join("home"));
        let alias = ClusterAlias::parse("company").unwrap();
        let made = init_cluster(&home, &alias).unwrap();
        let file = made.dir.cluster_toml();
        let before = fs::read_to_string(&file).unwrap();

        let (draft, left) = Draft::begin(&home, &alias).unwrap();
        assert!(left.is_empty());
        assert!(matches!(
            Draft::begin(&home, &alias),
            Err(EditFailure::BeingEdited { .. })
        ));
        assert!(matches!(draft.examine().unwrap(), Examined::Unchanged));
        fs::write(draft.path(), format!("{before}\n[machine.x]\n")).unwrap();
        assert!(
            matches!(draft.examine().unwrap(), Examined::Invalid(problems) if problems.len() == 1)
        );
        // Interrupted: the text is kept.
        drop(draft);
        let (draft, left) = Draft::begin(&home, &alias).unwrap();
        let [left] = &left[..] else {
            panic!("{left:?}");
        };
        assert!(fs::read_to_string(left).unwrap().contains("[machine.x]"));
        // A second one does not replace it, and nothing is kept of one that wrote nothing.
        assert_eq!(draft.copy().settle().unwrap(), None);
        fs::write(draft.path(), "# else").unwrap();
        let second = draft.copy().settle().unwrap().unwrap();
        assert_ne!(&second, left);
        drop(draft);
        // What the file says meanwhile is not kept.
        fs::write(&second, &before).unwrap();
        let (draft, kept) = Draft::begin(&home, &alias).unwrap();
        assert_eq!(kept, std::slice::from_ref(left));
        assert!(!second.exists());

        let machine =
            "\n[machine.x]\nid52 = \"e87aeds2fajaeu10tjdio5ppcdha410n6tu4665u7el9as9b7v80\"\n";
        fs::write(draft.path(), format!("{before}{machine}")).unwrap();
        let Examined::Valid { text, changes, .. } = draft.examine().unwrap() else {
            panic!("not valid");
        };
        assert_eq!(changes.map(|changes| changes.len()), Some(1));
        assert_eq!(fs::read_to_string(&file).unwrap(), before);
        draft.save(&text).unwrap();
        drop(draft);
        assert_eq!(fs::read_to_string(&file).unwrap(), text);

        // A file that was not valid has no "before"; then all of it is new.
        fs::write(&file, format!("{text}\n[machine.y]\n")).unwrap();
        let (draft, _) = Draft::begin(&home, &alias).unwrap();
        fs::write(draft.path(), &text).unwrap();
        let examined = draft.examine().unwrap();
        assert!(
            matches!(examined, Examined::Valid { changes: None, .. }),
            "{examined:?}"
        );
        draft.save(&text).unwrap();
        drop(draft);

        // Somebody else is quicker.
        let (draft, _) = Draft::begin(&home, &alias).unwrap();
        fs::write(&file, format!("{text}# theirs\n")).unwrap();
        let failed = draft.save(&format!("{text}# ours\n")).unwrap_err();
        assert!(
            matches!(failed, EditFailure::ChangedMeanwhile { .. }),
            "{failed}"
        );
        assert!(fs::read_to_string(&file).unwrap().ends_with("# theirs\n"));
    }
}
