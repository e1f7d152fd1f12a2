//! Lists of members: resolves each entry to the cluster's names and keys.

use std::collections::HashSet;

use super::{Checker, MAX_FOREIGN_IDS, Named};
use crate::allow::{AllowList, Resolved};
use crate::cluster::document::{List, Spanned};
use crate::diagnostic::{did_you_mean, quoted};
use crate::group::Entry;
use crate::identity::{MachineId, looks_like_id52};
use crate::name::MachineName;

impl Checker<'_, '_, '_, '_> {
    pub(super) fn allow_list(&mut self, list: &List<'_>) -> AllowList {
        let mut entries = Vec::new();
        let (mut everyone, mut direct, mut groups) = (None, Vec::new(), Vec::new());
        let mut seen = HashSet::new();
        for written in &list.entries {
            let Some((named, entry)) = self.entry(written, &mut seen) else {
                continue;
            };
            let index = entries.len() as u32;
            match named {
                Some(Named::Machine(member)) => direct.push((member, index)),
                Some(Named::Group(group)) => groups.push((group, index)),
                Some(Named::Other(_)) => {}
                None if entry == Entry::Everyone => {
                    everyone = Some(index);
                    if list.entries.len() > 1 {
                        let message =
                            "`*` is every member: the rest of the list has no effect".to_owned();
                        let help = "write `\"*\"` alone, or leave it out".to_owned();
                        self.report
                            .warning(written.span.clone(), message, Some(help));
                    }
                }
                None => {}
            }
            entries.push(entry);
        }
        direct.sort_unstable();
        direct.dedup_by_key(|(member, _)| *member);
        groups.sort_unstable();
        groups.dedup_by_key(|(group, _)| *group);
        groups.sort_unstable_by_key(|(_, index)| *index);
        AllowList::new(
            entries,
            Resolved {
                everyone,
                direct: direct.into(),
                groups: groups.into(),
            },
        )
    }

    /// Resolves an entry of a list, if it is valid, and what it names: `None` for `*`, and for a key that belongs to no
    /// member. `seen` are the entries before it in the list.
    pub(super) fn entry<'e>(
        &mut self,
        entry: &Spanned<&'e str>,
        seen: &mut HashSet<&'e str>,
    ) -> Option<(Option<Named>, Entry)> {
        let text = entry.value;
        if text.is_empty() {
            return None;
        }
        if self.report.wants_warnings() && !seen.insert(text) {
            let message = format!("{} is in the list twice", quoted(text));
            let help = "remove one of them".to_owned();
            self.report.warning(entry.span.clone(), message, Some(help));
        }
        if text == "*" {
            return Some((None, Entry::Everyone));
        }
        if looks_like_id52(text) {
            return self.id_entry(entry);
        }
        // Names are shared, so a list of many members costs little more than its entries.
        let named = self.names.get(text).copied();
        match named {
            Some(Named::Machine(member)) => {
                let name = self.machines[member as usize].name.value.clone();
                Some((named, Entry::Machine(name)))
            }
            Some(Named::Group(group)) => {
                let name = self.group_names[group as usize].clone();
                Some((named, Entry::Group(name)))
            }
            Some(Named::Other(kind)) => {
                self.report.error(
                    entry.span.clone(),
                    format!("`{text}` is a {kind}, not a member of the cluster"),
                    Some("a list contains machines, groups, id52s and `*`".to_owned()),
                );
                None
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
            // Each of them has to be decoded to a curve point.
            None if self.foreign_ids == MAX_FOREIGN_IDS => {
                let message = format!(
                    "the lists name more than {MAX_FOREIGN_IDS} keys that belong to no member"
                );
                let help = "remove them, or add their machines".to_owned();
                self.report.error(entry.span.clone(), message, Some(help));
                return None;
            }
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
            if self.report.wants_warnings() {
                self.report.warning(
                    entry.span.clone(),
                    format!("no machine of this cluster has the id52 `{}`", id.short()),
                    Some("it has no effect until you add a machine with this id52".to_owned()),
                );
            }
            if self
                .id_texts
                .insert(entry.value.to_owned(), known)
                .is_none()
            {
                self.foreign_ids += 1;
            }
        }
        Some((member.map(Named::Machine), Entry::Id(id)))
    }

    /// What an entry that cannot be a name means, if it is written as in a target or in capitals.
    fn meant_by(&self, text: &str) -> Option<String> {
        let lower = text.to_lowercase();
        let name = lower.trim_start_matches('@');
        let name = name.split_once('.').map_or(name, |(name, _)| name);
        let words: Vec<&str> = name.split_whitespace().collect();
        let is_known = |word: &&str| self.names.contains_key(*word);
        (!words.is_empty() && words.iter().all(is_known)).then(|| words.join(", "))
    }

    fn unknown_name(&mut self, entry: &Spanned<&str>) {
        let text = entry.value;
        if self.report.is_full() {
            return;
        }
        if let Err(problem) = MachineName::parse(text) {
            let meant = self.meant_by(text);
            let help = meant.map_or_else(
                || {
                    "a list contains machines, groups, id52s and `*`, separated by commas"
                        .to_owned()
                },
                |meant| format!("write `{meant}`"),
            );
            self.report
                .error(entry.span.clone(), problem.to_string(), Some(help));
            return;
        }
        let shape = (45..60).contains(&text.len()) && !text.contains('-');
        let help = if shape {
            Some(format!(
                "an id52 has 52 characters, this has {}",
                text.len()
            ))
        } else if self.report.wants_warnings() && self.suggestions >= self.names.len() {
            self.suggestions -= self.names.len();
            did_you_mean(text, self.names.keys().copied())
        } else {
            None
        };
        let help = help.unwrap_or_else(|| "add it, or remove it from the list".to_owned());
        let message = format!("there is no machine or group {}", quoted(text));
        self.report.error(entry.span.clone(), message, Some(help));
    }
}
