//! Warnings about rules that are valid but may not mean what their author intended.

use std::collections::HashMap;

use super::super::document::{Document, List};
use crate::allow::{AllowList, Resolved};
use crate::diagnostic::Report;
use crate::folder::Folder;
use crate::group::{Group, GroupIndex, Member};
use crate::machine::Machine;
use crate::service::Service;

/// Warns about a cluster that has no errors.
pub(super) fn warn(
    document: &Document<'_>,
    machines: &[Machine],
    groups: &[Group],
    services: &[Service],
    folders: &[Folder],
    report: &mut Report<'_>,
) {
    unused_groups(document, machines, groups, services, folders, report);
    for section in &document.services {
        let found = services.binary_search_by(|service| service.name.cmp(&section.name.value));
        let list = found.ok().and_then(|index| services[index].allow_from());
        nobody(section.allow_from.as_ref(), list, groups, report);
    }
    for section in &document.folders {
        let found = folders.binary_search_by(|folder| folder.name.cmp(&section.name.value));
        let folder = found.ok().map(|index| &folders[index]);
        let allow = folder.and_then(Folder::allow_from);
        nobody(section.allow_from.as_ref(), allow, groups, report);
        if let Some(path) = section.path.as_ref().filter(|path| is_root(&path.value)) {
            report.warning(
                path.span.clone(),
                "this folder contains every file of the machine that its user can reach".to_owned(),
                Some("use `allow_files` of the machine for that".to_owned()),
            );
        }
    }
    let mut protection = Protection::new(groups);
    for section in &document.machines {
        let found = machines.binary_search_by(|machine| machine.name.cmp(&section.name.value));
        let Ok(index) = found else { continue };
        let machine = &machines[index];
        nobody(
            section.allow_from.as_ref(),
            machine.allow_from(),
            groups,
            report,
        );
        nobody(
            section.allow_shell.as_ref(),
            machine.allow_shell(),
            groups,
            report,
        );
        nobody(
            section.allow_files.as_ref(),
            machine.allow_files(),
            groups,
            report,
        );
        nobody(
            section.allow_forward.as_ref(),
            machine.allow_forward(),
            groups,
            report,
        );
        if let (Some(list), Some(wide), Some(narrow)) = (
            &section.allow_shell,
            machine.allow_from(),
            machine.allow_shell(),
        ) && !protection.covers(narrow, wide)
        {
            report.warning(
                list.key.clone(),
                "this does not prevent shells: everyone in the machine's `allow_from` can run `sh`".to_owned(),
                Some("narrow the machine's `allow_from`, and grant single commands in `command` sections".to_owned()),
            );
        }
        for section in &section.commands {
            let Some(command) = machine.command(section.name.as_str().as_bytes()) else {
                continue;
            };
            nobody(
                section.allow_from.as_ref(),
                command.allow_from(),
                groups,
                report,
            );
            // As another user it grants something that the machine's own list does not.
            let other_user =
                command.username().is_some() && command.username() != machine.username();
            if let (Some(list), Some(wide), Some(narrow), false) = (
                &section.allow_from,
                machine.allow_from(),
                command.allow_from(),
                other_user,
            ) && !protection.covers(narrow, wide)
                // A list that adds a member is meant as a grant and works as one.
                && protection.covers(wide, narrow)
            {
                report.warning(
                    list.key.clone(),
                    format!(
                        "this restricts nothing: everyone in the allow_from of machine `{}` can run the same program",
                        machine.name()
                    ),
                    Some("narrow the machine's `allow_from`: a command's `allow_from` only adds to it".to_owned()),
                );
            }
        }
    }
}

/// Warns about a list whose entries allow no one. A list without entries says so itself: it is how one writes this.
fn nobody(
    list: Option<&List<'_>>,
    allow: Option<&AllowList>,
    groups: &[Group],
    report: &mut Report<'_>,
) {
    if let (Some(list), Some(allow)) = (list, allow)
        && !allow.entries().is_empty()
        && allow.resolved().is_nobody(groups)
    {
        report.warning(
            list.key.clone(),
            "this allows no one".to_owned(),
            Some("add a machine, a group or `*`".to_owned()),
        );
    }
}

fn is_root(path: &str) -> bool {
    path.split('/').all(|part| part.is_empty() || part == ".")
}

/// Groups that grant nothing, and on which nothing can be run.
fn unused_groups(
    document: &Document<'_>,
    machines: &[Machine],
    groups: &[Group],
    services: &[Service],
    folders: &[Folder],
    report: &mut Report<'_>,
) {
    let mut used = vec![false; groups.len()];
    let mut open: Vec<GroupIndex> = Vec::new();
    for machine in machines {
        let own = [
            machine.allow_from(),
            machine.allow_shell(),
            machine.allow_files(),
            machine.allow_forward(),
        ];
        let commands = machine
            .commands()
            .iter()
            .map(|command| command.allow_from());
        for list in own.into_iter().chain(commands).flatten() {
            open.extend(list.resolved().groups.iter().map(|(group, _)| *group));
        }
    }
    let services = services.iter().filter_map(Service::allow_from);
    let folders = folders.iter().filter_map(Folder::allow_from);
    for list in services.chain(folders) {
        open.extend(list.resolved().groups.iter().map(|(group, _)| *group));
    }
    while let Some(group) = open.pop() {
        if !std::mem::replace(&mut used[group as usize], true) {
            open.extend(groups[group as usize].groups());
        }
    }
    for section in &document.groups {
        let found = groups.binary_search_by(|group| group.name().cmp(&section.name.value));
        let has_machine = |index: usize| {
            let mut members = groups[index].all();
            members.any(|member| (member as usize) < machines.len())
        };
        if found.is_ok_and(|index| !used[index] && !has_machine(index)) {
            report.warning(
                section.name.span.clone(),
                format!(
                    "group `{}` is not used, and has no machines",
                    section.name.value
                ),
                Some("use it in an `allow_from`, or remove it".to_owned()),
            );
        }
    }
}

/// Checks whether one list contains everyone that another does.
struct Protection<'g> {
    groups: &'g [Group],
    /// The number of each narrow list; many machines have the same one.
    lists: HashMap<&'g Resolved, usize>,
    /// Whether the list of this number covers a group.
    known: HashMap<(GroupIndex, usize), bool>,
    /// The number of steps is bounded. Once they are used up, lists are assumed to cover each other.
    steps: usize,
}

impl<'g> Protection<'g> {
    fn new(groups: &'g [Group]) -> Self {
        Protection {
            groups,
            lists: HashMap::new(),
            known: HashMap::new(),
            steps: 10_000_000,
        }
    }

    fn covers(&mut self, narrow: &'g AllowList, wide: &AllowList) -> bool {
        let (narrow, wide) = (narrow.resolved(), wide.resolved());
        if narrow.everyone.is_some() || self.steps == 0 {
            return true;
        }
        if wide.everyone.is_some() {
            return false;
        }
        let next = self.lists.len();
        let number = *self.lists.entry(narrow).or_insert(next);
        wide.direct
            .iter()
            .all(|(member, _)| self.holds(narrow, *member))
            && wide
                .groups
                .iter()
                .all(|(group, _)| self.covers_group(narrow, number, *group))
    }

    /// Whether a list contains a member. This may have to look into each of its groups.
    fn holds(&mut self, list: &Resolved, member: Member) -> bool {
        self.steps = self.steps.saturating_sub(1 + list.groups.len());
        self.steps == 0 || list.matching(member, self.groups).is_some()
    }

    fn covers_group(&mut self, narrow: &Resolved, number: usize, group: GroupIndex) -> bool {
        self.steps = self.steps.saturating_sub(1 + narrow.groups.len());
        if self.steps == 0 || narrow.groups.iter().any(|(inner, _)| *inner == group) {
            return true;
        }
        if let Some(known) = self.known.get(&(group, number)) {
            return *known;
        }
        let groups = self.groups;
        let mut members = groups[group as usize].all();
        let covered = members.all(|member| self.holds(narrow, member));
        self.known.insert((group, number), covered);
        covered
    }
}
