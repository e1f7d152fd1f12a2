//! Which process groups belong to a registered command, also when numbers are used again.

use super::*;

fn process(id: u32, group: u32, session: u32, begun: u64) -> Stat {
    Stat {
        id,
        ended: false,
        group,
        session,
        begun,
    }
}

fn found(entry: &Entry, processes: &[Stat]) -> Vec<u32> {
    groups(100, entry, processes).into_iter().collect()
}

#[test]
fn a_line_of_the_kernel_is_read_whatever_the_name() {
    let line = "4321 (a) R (b\n) Z) S 1 4300 4200 0 -1 4194560 153 0 0 0 0 0 0 0 20 0 1 0 987654 2863104 230 18446744073709551615 1";
    assert_eq!(
        parse_stat(4321, line),
        Some(process(4321, 4300, 4200, 987654))
    );
    let own = stat(std::process::id()).unwrap();
    assert!(!own.ended && own.begun > 0);
    assert_eq!(
        own.group,
        // In a container that of the first process may have no number.
        crate::os::process_group::own_group().map_or(0, |group| group.as_raw_pid().cast_unsigned())
    );
    assert_eq!(parse_stat(1, "1 (cut"), None);
}

#[test]
fn a_group_is_its_leader_or_what_is_left_of_it() {
    let leader = process(100, 100, 50, 7);
    let entry = Entry {
        kind: Kind::Group,
        leader: Some(leader),
    };
    let child = process(101, 100, 50, 8);
    let job = process(102, 102, 50, 8);
    assert_eq!(found(&entry, &[leader, child, job]), [100]);
    assert_eq!(found(&entry, &[child]), [100]);
    assert_eq!(found(&entry, &[job]), [0; 0]);
    let dead = Stat {
        ended: true,
        ..leader
    };
    assert_eq!(found(&entry, &[dead, job]), [0; 0]);
    // A leader that has ended and was not waited for holds the number for its group.
    assert_eq!(found(&entry, &[dead, child]), [100]);
}

#[test]
fn a_number_that_was_given_away_is_left_alone() {
    let entry = Entry {
        kind: Kind::Group,
        leader: Some(process(100, 100, 50, 7)),
    };
    assert_eq!(
        found(
            &entry,
            &[process(100, 100, 50, 9), process(101, 100, 50, 9)]
        ),
        [0; 0]
    );
    // Its new leader has gone, too; but it is a group of another session.
    assert_eq!(found(&entry, &[process(101, 100, 60, 9)]), [0; 0]);
    let entry = Entry {
        kind: Kind::Session,
        ..entry
    };
    assert_eq!(found(&entry, &[process(100, 100, 100, 9)]), [0; 0]);
    // The leader had gone when its group was registered; what leads now is somebody else.
    let entry = Entry {
        kind: Kind::Group,
        leader: None,
    };
    assert_eq!(
        found(
            &entry,
            &[process(100, 100, 50, 9), process(101, 100, 50, 9)]
        ),
        [0; 0]
    );
    assert_eq!(found(&entry, &[process(101, 100, 50, 9)]), [100]);
}

/// One that announced itself, could not be started and was waited for before its word was read: nobody
/// says that it has ended, and its id may be reused.
#[test]
fn what_has_ended_before_it_is_heard_of_is_not_kept() {
    let mut child = std::process::Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    let mut left = Orphans::default();
    left.note(Some(Record::Begun(Kind::Group, child.id())));
    left.note(Some(Record::Begun(Kind::Session, child.id())));
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_session_is_all_its_groups_but_not_what_left_it() {
    let leader = process(100, 100, 100, 7);
    let entry = Entry {
        kind: Kind::Session,
        leader: Some(leader),
    };
    let jobs = [
        process(101, 101, 100, 8),
        process(102, 101, 100, 8),
        process(103, 103, 100, 9),
    ];
    let gone = process(104, 104, 104, 9);
    assert_eq!(
        found(&entry, &[leader, jobs[0], jobs[1], jobs[2], gone]),
        [100, 101, 103]
    );
    assert_eq!(found(&entry, &[jobs[0], gone]), [101]);
}
