//! The sections of folders.

use std::borrow::Cow;

use super::{Key, List, Reader, Spanned, Value, in_order};
use crate::cluster::limits::MAX_PATH;
use crate::diagnostic::quoted;
use crate::name::{FolderName, UserName};
use crate::sanitize::escape;

/// One `[folder.X]` as written.
pub(in crate::cluster) struct FolderSection<'t> {
    pub(in crate::cluster) name: Spanned<FolderName>,
    /// The name of its machine.
    pub(in crate::cluster) machine: Option<Spanned<Cow<'t, str>>>,
    pub(in crate::cluster) path: Option<Spanned<Cow<'t, str>>>,
    pub(in crate::cluster) write: bool,
    pub(in crate::cluster) allow_from: Option<List<'t>>,
    pub(in crate::cluster) usernames: Vec<UserName>,
}

pub(super) const KEYS: &[&str] = &["machine", "path", "write", "allow_from", "username"];

impl<'t> Reader<'t, '_, '_> {
    pub(super) fn folders(
        &mut self,
        key: &Key<'t>,
        value: &'t Value<'t>,
    ) -> Vec<FolderSection<'t>> {
        let Some(table) = self.table(key, value, "[folder.logs]") else {
            return Vec::new();
        };
        let sections = in_order(table).into_iter();
        sections
            .filter_map(|(key, value)| self.folder(key, value))
            .collect()
    }

    fn folder(&mut self, key: &Key<'t>, value: &'t Value<'t>) -> Option<FolderSection<'t>> {
        let name = self.name(key, FolderName::parse);
        let table = self.table(key, value, "[folder.logs]")?;
        let (mut machine, mut path, mut has) = (None, None, [false; 2]);
        let (mut write, mut allow_from, mut usernames) = (false, None, Vec::new());
        for (key, value) in in_order(table) {
            match key.get_ref().as_ref() {
                "machine" => {
                    has[0] = true;
                    machine = self.spanned_text(key, value);
                }
                "path" => {
                    has[1] = true;
                    path = self.path(key, value);
                }
                "write" => write = self.boolean(key, value).unwrap_or_default(),
                "allow_from" => allow_from = self.list(key, value),
                "username" => usernames = self.users(key, value),
                _ => self.unknown(key, KEYS, "in a folder's section"),
            }
        }
        for (has, missing, help) in [
            (has[0], "machine", "the name of the machine that it is on"),
            (has[1], "path", "its absolute path on the machine"),
        ] {
            if !has {
                let header = self.header(key, value);
                let message = format!("folder {} has no `{missing}`", quoted(key.get_ref()));
                self.report.missing(header, message, Some(help.to_owned()));
            }
        }
        Some(FolderSection {
            name: name?,
            machine,
            path,
            write,
            allow_from,
            usernames,
        })
    }

    fn spanned_text(
        &mut self,
        key: &Key<'t>,
        value: &'t Value<'t>,
    ) -> Option<Spanned<Cow<'t, str>>> {
        let text = self.text(key, value)?;
        Some(Spanned {
            value: text.into(),
            span: value.span(),
        })
    }

    fn path(&mut self, key: &Key<'t>, value: &'t Value<'t>) -> Option<Spanned<Cow<'t, str>>> {
        let path = self.spanned_text(key, value)?;
        if !is_folder_path(&path.value) {
            self.error(
                path.span,
                format!("{} cannot be the path of a folder", quoted(&path.value)),
                Some("write an absolute path without `..`, as /var/log/nginx".to_owned()),
            );
            return None;
        }
        Some(path)
    }
}

/// Whether a text can be the path of a folder: absolute, without `..`, and visible as it is.
pub(in crate::cluster) fn is_folder_path(path: &str) -> bool {
    path.starts_with('/')
        && path.len() <= MAX_PATH
        && !path.split('/').any(|part| part == "..")
        && escape(path) == path
}
