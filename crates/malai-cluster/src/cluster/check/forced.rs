//! Forced commands: at most one may apply to a caller.

use super::super::document::Document;
use crate::diagnostic::Report;
use crate::group::Group;
use crate::machine::Machine;

/// How many members and groups are looked at in their lists, over all machines. A file of 16 MiB could require any
/// number: thousands of commands, each with the same thousands of groups.
const MAX_STEPS: usize = 16 << 20;

/// Reports machines where a member would have two forced commands.
pub(super) fn check(
    document: &Document<'_>,
    machines: &[Machine],
    groups: &[Group],
    report: &mut Report<'_>,
) {
    // For each member, the number of the forced command that contains it, counted over all machines from 1.
    let mut holders = vec![0; machines.len() + 1];
    let (mut number, mut steps) = (0, 0);
    for section in &document.machines {
        let found = machines.binary_search_by(|machine| machine.name.cmp(&section.name.value));
        let Ok(index) = found else { continue };
        let machine = &machines[index];
        let of_others = number;
        let mut names: Vec<&str> = Vec::new();
        let (mut everyone, mut somebody): (Option<&str>, Option<&str>) = (None, None);
        for command in section.commands.iter().filter(|command| command.forced) {
            let name = command.name.as_str();
            number += 1;
            names.push(name);
            let own = machine.command(name.as_bytes());
            let list = own.and_then(|own| own.allow_from().or(machine.allow_from()));
            let Some(list) = list.map(|list| list.resolved()) else {
                continue;
            };
            let mut other = None;
            if list.everyone.is_some() {
                other = somebody;
                everyone.get_or_insert(name);
                somebody.get_or_insert(name);
            } else {
                // Each group counts as a step, even if it is empty.
                let direct = list.direct.iter().map(|(member, _)| Some(*member));
                let inner = list.groups.iter().flat_map(|(group, _)| {
                    let members = groups[*group as usize].all();
                    std::iter::once(None).chain(members.map(Some))
                });
                for member in direct.chain(inner) {
                    steps += 1;
                    if steps > MAX_STEPS {
                        report.error(
                            command.name_span.clone(),
                            format!("the lists of forced commands have too many members, more than {MAX_STEPS}"),
                            Some("name fewer groups in their allow_from".to_owned()),
                        );
                        return;
                    }
                    let Some(member) = member else { continue };
                    let holder = &mut holders[member as usize];
                    let before = (*holder > of_others && *holder != number).then_some(*holder);
                    other = everyone.or(before.map(|before: usize| names[before - of_others - 1]));
                    if other.is_some() {
                        break;
                    }
                    *holder = number;
                    somebody.get_or_insert(name);
                }
            }
            if let Some(other) = other {
                report.error(
                    command.name_span.clone(),
                    format!(
                        "`{name}` and `{other}` are both forced, and their allow_from lists share a member"
                    ),
                    Some("it would be unclear which one runs: give them lists without common members".to_owned()),
                );
                if report.is_full() {
                    return;
                }
            }
        }
    }
}
