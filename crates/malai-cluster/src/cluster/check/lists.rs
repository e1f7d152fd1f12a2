//! Lists of who: each entry found among the cluster's names and keys.

use std::collections::HashSet;
use std::ops::Range;

use super::{Checker, Named};
use crate::allow::{AllowList, Resolved};
use crate::cluster::document::{List, Spanned};
use crate::diagnostic::{did_you_mean, quoted};
use crate::group::Entry;
use crate::identity::{MachineId, looks_like_id52};
use crate::name::{GroupName, MachineName};

impl Checker<'_, '_, '_, '_> {
    pub(super) fn allow_list(&mut self, list: &List<'_>) -> AllowList {
        let mut entries = Vec::new();
        let (mut everyone, mut direct, mut groups) = (None, Vec::new(), Vec::new());
        for (named, entry, place) in self.entries(list) {
            let index = entries.len() as u32;
            match named {
                Some(Named::Machine(member)) => direct.push((member, index)),
                Some(Named::Group(group)) => groups.push((group, index)),
                None if entry == Entry::Everyone => {
                    everyone = Some(index);
                    if list.entries.len() > 1 {
                        let message =
                            "`*` is everybody: the rest of the list says nothing".to_owned();
                        let help = "write `\"*\"` alone, or leave it out".to_owned();
                        self.report.warning(place, message, Some(help));
                    }
                }
                None => {}
            }
            entries.push(entry);
        }
        direct.sort_unstable();
        direct.dedup_by_key(|(member, _)| *member);
        AllowList::new(
            entries,
            Resolved {
                everyone,
                direct: direct.into(),
                groups: groups.into(),
            },
        )
    }

    /// The entries of a list that are any, with whom each one names: none for `*`, and for a key
    /// that is no member.
    pub(super) fn entries(&mut self, list: &List<'_>) -> Vec<(Option<Named>, Entry, Range<usize>)> {
        let mut found = Vec::with_capacity(list.entries.len());
        let mut seen = HashSet::new();
        for entry in list.entries.iter().filter(|entry| !entry.value.is_empty()) {
            if list.entries.len() > 1 && !seen.insert(entry.value) {
                let message = format!("{} is in the list twice", quoted(entry.value));
                let help = "remove one of them".to_owned();
                self.report.warning(entry.span.clone(), message, Some(help));
            }
            if let Some((named, parsed)) = self.entry(entry) {
                found.push((named, parsed, entry.span.clone()));
            }
        }
        found
    }

    fn entry(&mut self, entry: &Spanned<&str>) -> Option<(Option<Named>, Entry)> {
        let text = entry.value;
        if text == "*" {
            return Some((None, Entry::Everyone));
        }
        if looks_like_id52(text) {
            return self.id_entry(entry);
        }
        let named = self.names.get(text).copied();
        match named {
            Some(Named::Machine(_)) => {
                let name = MachineName::parse(text).ok()?;
                Some((named, Entry::Machine(name)))
            }
            Some(Named::Group(_)) => {
                let name = GroupName::parse(text).ok()?;
                Some((named, Entry::Group(name)))
            }
            None => {
                self.unknown_name(entry);
                None
            }
        }
    }

    fn id_entry(&mut self, entry: &Spanned<&str>) -> Option<(Option<Named>, Entry)> {
        let known = match self.id_texts.get(entry.value) {
            Some(known) => *known,
            None => match MachineId::parse(entry.value) {
                Ok(id) => (id, None),
                Err(problem) => {
                    self.report
                        .error(entry.span.clone(), problem.to_string(), None);
                    return None;
                }
            },
        };
        let (id, member) = known;
        if member.is_none() {
            self.report.warning(
                entry.span.clone(),
                format!("no machine of this cluster has the id52 `{}`", id.short()),
                Some("it has no effect until a machine with it is added".to_owned()),
            );
            self.id_texts.insert(entry.value.to_owned(), known);
        }
        Some((member.map(Named::Machine), Entry::Id(id)))
    }

    fn unknown_name(&mut self, entry: &Spanned<&str>) {
        let text = entry.value;
        if let Err(problem) = MachineName::parse(text) {
            let help = "a list holds machines, groups, id52s and `*`, with commas between them";
            self.report.error(
                entry.span.clone(),
                problem.to_string(),
                Some(help.to_owned()),
            );
            return;
        }
        let shape = (45..60).contains(&text.len()) && !text.contains('-');
        let help = if shape {
            Some(format!(
                "an id52 has 52 characters, this has {}",
                text.len()
            ))
        } else if self.suggestions > 0 {
            self.suggestions -= 1;
            did_you_mean(text, self.names.keys().copied())
        } else {
            None
        };
        let help = help.unwrap_or_else(|| "add it, or take it out of the list".to_owned());
        let message = format!("there is no machine or group {}", quoted(text));
        self.report.error(entry.span.clone(), message, Some(help));
    }
}
