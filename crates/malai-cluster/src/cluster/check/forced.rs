//! Forced commands: at most one may apply to a caller.

use std::collections::HashSet;

use super::super::document::Document;
use crate::allow::AllowList;
use crate::diagnostic::Report;
use crate::group::{Group, Member};
use crate::machine::Machine;

/// Reports machines where a member would have two forced commands.
pub(super) fn check(
    document: &Document<'_>,
    machines: &[Machine],
    groups: &[Group],
    report: &mut Report<'_>,
) {
    for section in &document.machines {
        let found = machines.binary_search_by(|machine| machine.name.cmp(&section.name.value));
        let Ok(index) = found else { continue };
        let machine = &machines[index];
        let forced: Vec<_> = section
            .commands
            .iter()
            .filter(|command| command.forced)
            .collect();
        if forced.len() < 2 {
            continue;
        }
        let mut seen: Vec<(&str, Members)> = Vec::new();
        for command in forced {
            let list = machine
                .command(command.name.as_str().as_bytes())
                .and_then(|command| command.allow_from().or(machine.allow_from()));
            let members = Members::of(list, groups);
            if let Some((other, _)) = seen.iter().find(|(_, others)| others.overlap(&members)) {
                report.error(
                    command.name_span.clone(),
                    format!(
                        "`{}` and `{other}` are both forced, and somebody is in the allow_from of both",
                        command.name
                    ),
                    Some("which of them runs would be unclear: give them lists that share no member".to_owned()),
                );
            }
            seen.push((command.name.as_str(), members));
        }
    }
}

/// Whom a list holds.
enum Members {
    Everyone,
    These(HashSet<Member>),
}

impl Members {
    fn of(list: Option<&AllowList>, groups: &[Group]) -> Self {
        let Some(list) = list else {
            return Self::These(HashSet::new());
        };
        let resolved = list.resolved();
        if resolved.everyone.is_some() {
            return Self::Everyone;
        }
        let mut members: HashSet<_> = resolved.direct.iter().map(|(member, _)| *member).collect();
        for (group, _) in &resolved.groups {
            members.extend(groups[*group as usize].all());
        }
        Self::These(members)
    }

    fn overlap(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Everyone, Self::Everyone) => true,
            (Self::Everyone, Self::These(some)) | (Self::These(some), Self::Everyone) => {
                !some.is_empty()
            }
            (Self::These(one), Self::These(two)) => !one.is_disjoint(two),
        }
    }
}
