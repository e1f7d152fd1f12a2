//! Who is sent a new revision.

use super::*;
use crate::snapshot::Snapshot;
use crate::testing::*;

#[test]
fn those_who_lack_it() {
    let cluster = cluster(&format!(
        "[machine.web01]\nid52 = \"{WEB01}\"\n[machine.laptop]\nid52 = \"{LAPTOP}\"\n[machine.new]\nid52 = \"{STRANGER}\"\n"
    ));
    let header = Snapshot::seal(&seed(1), 7, &cluster).header().clone();
    let plan_of = |known: &[(&str, u64)]| {
        let known = known
            .iter()
            .map(|(who, revision)| (id(who), *revision))
            .collect();
        members_needing_update(&header, &known, cluster.members(), id(MANAGER))
    };
    assert_eq!(plan_of(&[]), [id(LAPTOP), id(STRANGER), id(WEB01)]);
    assert_eq!(
        plan_of(&[(LAPTOP, 7), (STRANGER, 6), (WEB01, 0)]),
        [id(STRANGER), id(WEB01)]
    );
    assert_eq!(
        plan_of(&[(LAPTOP, 8), (STRANGER, 7), (WEB01, 7), (MANAGER, 1)]),
        []
    );
}
