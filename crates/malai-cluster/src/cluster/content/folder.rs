//! The sections of folders, which come before all others.

use std::ops::Range;

use super::{Read, Reader, problem};
use crate::cluster::document::{Document, FolderSection, Spanned, is_folder_path};
use crate::name::FolderName;

impl<'t> Reader<'t> {
    pub(super) fn folder(
        &mut self,
        name: &str,
        place: Range<usize>,
        document: &mut Document<'t>,
    ) -> Read<()> {
        self.counts
            .folder()
            .map_err(|error| problem(place.clone(), error))?;
        let name = FolderName::parse(name);
        let name = name.map_err(|error| problem(place.clone(), error.to_string()))?;
        let last = document.folders.last();
        let sorted = last.is_none_or(|last| last.name.value < name);
        if !sorted || !document.groups.is_empty() || !document.machines.is_empty() {
            return Err(problem(place, "the folder is not in sorted order"));
        }
        let allow_from = self.list("allow_from")?;
        let Some((machine, machine_span)) = self.string("machine")? else {
            return Err(problem(self.place(), "`machine` is missing"));
        };
        let Some((path, path_span)) = self.string("path")? else {
            return Err(problem(self.place(), "`path` is missing"));
        };
        if !is_folder_path(&path) {
            return Err(problem(path_span, "`path` is not the path of a folder"));
        }
        let usernames = self.users()?;
        let write = match self.value("write")? {
            None => false,
            Some(("true", _)) => true,
            Some((_, place)) => return Err(problem(place, "`write` is not `true`")),
        };
        document.folders.push(FolderSection {
            name: Spanned {
                value: name,
                span: place,
            },
            machine: Some(Spanned {
                value: machine,
                span: machine_span,
            }),
            path: Some(Spanned {
                value: path,
                span: path_span,
            }),
            write,
            allow_from,
            usernames,
        });
        Ok(())
    }
}
